r"""Sampling: `python -m benchmarks.sample --run RUN` measures speed, and quality per evaluation.

    python -m benchmarks.sample --run runs/quickstart              speed alone
    python -m benchmarks.sample --recipe imagenet256_b --precision bf16 --compile \
        --batch-size 64                                            untrained, on a GPU
    python -m benchmarks.sample --run runs/quickstart --curve      and the curve, 5 x 5,000 samples
    python -m benchmarks.sample --run runs/quickstart --curve --samples 500 --seeds 3

Writes benchmarks/results/sample_NAME.json and .md.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.curve import PER_STEP, REFERENCE, Mean, Point, cheapest, grid, means, measure
from benchmarks.machine import RESULTS, describe, save
from benchmarks.measure import Timing, alternate, memory_by, peak_bytes, samples_through
from benchmarks.released import PlainEncoder, plain_guide
from openunite.batch import NOTHING, Evidence
from openunite.catalog import get_recipe, recipes
from openunite.flow.random import seeded_normal
from openunite.flow.solvers import solve
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.models.generative_encoder import GenerativeEncoder
from openunite.pipelines.base import ONE_PASS
from openunite.planning.cost import flops
from openunite.runs import load_pipeline, make_pipeline
from openunite.sampling import Sampling
from openunite.training.build import build_models
from openunite.training.config import DataConfig, ModelConfig, RunConfig
from openunite.training.device import choose_device

ADAPTIVE = Point("dopri5", 1.0, 0)


def main() -> None:
    options = _options()
    pipeline: Any = load_pipeline(options.run) if options.run else _untrained(options.recipe)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    pipeline.to(choose_device(), dtype)
    result: dict[str, Any] = {"machine": describe(pipeline.device), "options": vars(options)}
    table = [f"# Sampling, {options.name}"]
    if options.runs:
        result["speed"], lines = speed(pipeline, options)
        table += ["", *lines]
    if options.curve and options.run:
        result["curve"], lines = curve(pipeline, options)
        table += ["", *lines]
    save(f"sample_{options.name}", result, table)


def _untrained(recipe: str) -> ImagePipeline:
    """A pipeline with a recipe's sizes, settings and first weights: its speed is that of any."""
    config = get_recipe(recipe)()
    made = make_pipeline(*build_models(config), config, {})
    assert isinstance(made, ImagePipeline)
    return made


def speed(pipeline: ImagePipeline, options: argparse.Namespace) -> Any:
    """Tokenizing, decoding, and generating with the pipeline's defaults and as released."""
    batch, device = options.batch_size, pipeline.device
    shape = pipeline.encoder.config.modality_config
    images = torch.rand(batch, shape["channels"], shape["height"], shape["width"], device=device)
    latents = pipeline.tokenize(images)
    seeds = torch.arange(batch)
    classes = pipeline.encoder.config.num_classes
    evidence = Evidence.of_classes((seeds % classes).to(device)) if classes else NOTHING

    def generate() -> Tensor:
        return pipeline.decode_tensor(pipeline.sample_latents(evidence, seeds))

    def apart() -> Tensor:
        with patch.dict(ONE_PASS, {device.type: 0}):
            return generate()

    calls: dict[str, Callable[[], object]] = {
        "tokenize": lambda: pipeline.tokenize(images),
        "decode": lambda: pipeline.detokenize(latents),
        "generate, default": generate,
        "generate, branches apart": apart,
        "generate, as released": lambda: pipeline.detokenize(_released(pipeline, evidence, seeds)),
    }
    if not pipeline.takes_one_pass(batch, pipeline.latent_shape[0]):
        del calls["generate, branches apart"]  # the default does that already
    counted = flops(config_of(pipeline))
    cost = {"tokenize": counted.tokenize / 3.0, "decode": counted.decode / 3.0}  # forward alone
    for name in calls.keys() - cost.keys():
        cost[name] = counted.sample(passes(calls[name]) // batch)
    if options.compile:
        pipeline.encoder.compile(dynamic=False)
        pipeline.decoder.compile(dynamic=False)
    timings = alternate(calls, device, runs=options.runs, warmup=1)
    found: dict[str, dict[str, float]] = {}
    lines = [f"## Speed, batch {batch}{', compiled' * options.compile}", ""]
    lines += ["| what | median ms | lower quartile | spread | images/s | GFLOP/image | peak MiB |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name, timing in timings.items():
        peak = peak_bytes(calls[name], device)
        found[name] = {**timing.as_dict(), "flop_per_image": cost[name], "peak_bytes": peak}
        lines.append(f"{_row(name, timing, batch)} {cost[name] / 1e9:.4g} | {peak / 2**20:.0f} |")
    return {**found, "memory_by": memory_by(device)}, lines


def passes(call: Callable[[], object]) -> int:
    """Samples that go through the denoising network in one call; two for one that is guided."""
    with samples_through(GenerativeEncoder, PlainEncoder) as passed:
        call()
    return sum(passed)


def config_of(pipeline: ImagePipeline) -> RunConfig:
    """The settings of a run that FLOPs are counted from: the sizes of the networks."""
    encoder, decoder = pipeline.encoder.config, pipeline.decoder.config
    shared = ("num_registers", "latent_channels", "num_context_tokens", "context_start")
    sizes = {name: encoder[name] for name in (*shared, "width", "depth", "num_heads")}
    sizes |= {f"decoder_{n}": decoder[n] for n in ("width", "depth", "mlp_width", "input_width")}
    return RunConfig(
        recipe="",
        modality="image",
        modality_config=dict(encoder.modality_config),
        num_classes=encoder.num_classes,
        data=DataConfig(""),
        model=ModelConfig(**sizes, decoder_heads=decoder.num_heads),
        steps=1,
        batch_size=1,
    )


@torch.no_grad()
def _released(pipeline: ImagePipeline, evidence: Evidence, seeds: Tensor) -> Tensor:
    """Both branches at every evaluation of the adaptive solver, plain operations."""
    sampling = pipeline.sampling
    scale, (low, _) = sampling.guidance_scale, sampling.guidance_interval
    denoiser = plain_guide(PlainEncoder(pipeline.encoder), evidence, scale, low)
    noise = seeded_normal(seeds, *pipeline.latent_shape).to(pipeline.device)
    with pipeline._autocast():
        return solve(denoiser, noise, Sampling("dopri5"))


def curve(pipeline: ImagePipeline, options: argparse.Namespace) -> Any:
    """The Frechet distance of every solver, shift and number of evaluations."""
    points = [Point("heun", 1.0, 100), ADAPTIVE, _own(pipeline)]
    points += [
        point
        for point in grid(options.solvers, options.shifts, options.evaluations)
        if point not in points
    ]
    file = RESULTS / f"curve_{options.name}_{options.samples}.json"
    rows = measure(pipeline, points, options.samples, options.seeds, options.batch_size, file)
    found = means(rows)
    chosen, adaptive = cheapest(found), found[ADAPTIVE.key]
    lines = [f"## Frechet distance, {options.seeds} seeds x {options.samples} samples", ""]
    lines += ["| solver, shift, evaluations | distance | standard error | network passes |"]
    lines += ["|---|---|---|---|"]
    lines += [_point(mean) for mean in sorted(found.values(), key=lambda m: m.key)]
    saved = adaptive.evaluations / chosen.evaluations
    lines += [
        "",
        f"Cheapest within 2 % or one standard error of {REFERENCE}: **{chosen.key}**, "
        f"{saved:.1f} times fewer evaluations than dopri5 "
        f"({adaptive.evaluations:.0f}, distance {adaptive.distance:.3f}).",
    ]
    return {key: vars(mean) for key, mean in found.items()} | {"chosen": chosen.key}, lines


def _own(pipeline: ImagePipeline) -> Point:
    """What the pipeline does by default; new noise, where it has any, in full."""
    sampling = pipeline.sampling
    steps = sampling.num_inference_steps * PER_STEP.get(sampling.solver, 0)
    return Point(sampling.solver, sampling.time_shift, steps)


def _row(name: str, timing: Timing, batch: int) -> str:
    parts = (timing.median, timing.lower_quartile, timing.spread)
    times = " | ".join(f"{1e3 * seconds:.1f}" for seconds in parts)
    return f"| {name} | {times} | {batch / timing.median:.1f} |"


def _point(mean: Mean) -> str:
    return f"| {mean.key} | {mean.distance:.3f} | {mean.error:.3f} | {mean.passes:.1f} |"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--run", help="a run, a pipeline folder or a hub id")
    images = [name for name in recipes() if get_recipe(name)().modality == "image"]
    model.add_argument("--recipe", choices=images, help="its model, untrained: speed alone")
    parser.add_argument("--name", help="of the results; default the recipe or last part of --run")
    parser.add_argument("--precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--curve", action="store_true", help="models of the embedded images only")
    parser.add_argument("--samples", type=int, default=5000, help="per seed and point")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--solvers", nargs="+", default=["euler", "heun", "multistep", "sde"])
    parser.add_argument("--shifts", nargs="+", type=float, default=[0.5, 1.0, 2.0])
    parser.add_argument(
        "--evaluations", nargs="+", type=int, default=[4, 6, 8, 12, 16, 24, 32, 50, 100]
    )
    parser.add_argument("--batch-size", type=int, default=250)
    parser.add_argument("--runs", type=int, default=7, help="of each speed; 0 for none")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    options.name = options.name or options.recipe or Path(options.run).name
    return options


if __name__ == "__main__":
    main()
