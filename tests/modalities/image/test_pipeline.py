"""ImagePipeline: seeds, batches, determinism, inputs and outputs, saving and loading."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.measure import samples_through
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image
from tests.training.tiny import tiny_config

from openunite import ImagePipeline
from openunite.batch import Evidence
from openunite.flow.random import seeded_normal
from openunite.flow.solvers import velocity
from openunite.models.generative_encoder import GenerativeEncoder
from openunite.pipelines import base
from openunite.pipelines.inputs import seeds_of
from openunite.sampling import Sampling
from openunite.training.build import build_models

NAMES = [f"class {i}" for i in range(10)]


@pytest.fixture(scope="module")
def pipeline() -> ImagePipeline:
    encoder, decoder = build_models(tiny_config())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for model in (encoder, decoder):
            for parameter in model.parameters():  # gates start at zero: perturb
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return ImagePipeline(
        encoder.eval(), decoder.eval(), Sampling("heun", 4, 1.0, 2.0), class_names=NAMES
    )


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def test_an_image_depends_on_its_seed_alone(pipeline: ImagePipeline) -> None:
    labels, seeds = [i % 10 for i in range(16)], list(range(100, 116))
    whole = pipeline(labels, seeds=seeds, output_type="pt")
    for size in (1, 4):
        parts = [
            pipeline(labels[i : i + size], seeds=seeds[i : i + size], output_type="pt")
            for i in range(0, 16, size)
        ]
        torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0.0)
    assert (whole[0] - whole[10]).abs().max() > 1e-3  # same class, other seed


def test_one_generator_gives_the_same_images_in_any_batch(pipeline: ImagePipeline) -> None:
    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(7)

    four = pipeline([1, 2, 3, 4], generator=generator(), output_type="pt")
    one = pipeline([1], generator=generator(), output_type="pt")
    again = pipeline([1, 2, 3, 4], generator=generator(), output_type="pt")
    assert torch.equal(four, again)
    torch.testing.assert_close(four[:1], one, atol=1e-5, rtol=0.0)


def test_each_generator_draws_on_its_own_device(
    pipeline: ImagePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a GPU refuses to draw anywhere else."""
    randint, devices = torch.randint, []

    def watched(*given: Any, **options: Any) -> torch.Tensor:
        devices.append(options.get("device"))
        return randint(*given, **options)

    monkeypatch.setattr(torch, "randint", watched)
    generators = [torch.Generator().manual_seed(s) for s in (5, 6)]
    assert len(seeds_of(2, generators, None)) == 2
    assert devices == [g.device for g in generators]


def test_a_list_of_generators_is_one_per_image(pipeline: ImagePipeline) -> None:
    generators = [torch.Generator().manual_seed(s) for s in (5, 6)]
    pair = pipeline([0, 0], generator=generators, output_type="pt")
    alone = pipeline([0], generator=[torch.Generator().manual_seed(6)], output_type="pt")
    torch.testing.assert_close(pair[1:], alone, atol=1e-5, rtol=0.0)
    with pytest.raises(ValueError, match="one generator per sample, got 1 for 2"):
        pipeline([0, 0], generator=generators[:1])


def test_encoding_is_deterministic_and_the_same_at_every_place(
    pipeline: ImagePipeline, images: torch.Tensor
) -> None:
    latents = pipeline.encode(images)
    assert torch.equal(latents, pipeline.encode(images))
    torch.testing.assert_close(pipeline.encode(images[3:4]), latents[3:4], atol=1e-5, rtol=0.0)
    torch.testing.assert_close(pipeline.encode(images.flip(0)).flip(0), latents, atol=1e-5, rtol=0)
    other = pipeline.encode(images, generator=torch.Generator().manual_seed(1))
    assert (other - latents).abs().max() > 1e-4


def test_guidance_changes_images_and_scale_one_does_not(pipeline: ImagePipeline) -> None:
    plain = pipeline([3], seeds=[1], guidance_scale=1.0, output_type="pt")
    guided = pipeline([3], seeds=[1], guidance_scale=3.0, output_type="pt")
    outside = pipeline(
        [3], seeds=[1], guidance_scale=3.0, guidance_interval=(1.0, 1.0), output_type="pt"
    )
    assert torch.equal(plain, outside)
    assert (plain - guided).abs().max() > 1e-3


def test_one_pass_for_both_branches_gives_the_same_images(
    pipeline: ImagePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = {}
    for most in (0, 10**9):
        monkeypatch.setitem(base.ONE_PASS, "cpu", most)
        with samples_through(GenerativeEncoder) as sizes:
            passes[most] = pipeline([1, 2, 3], seeds=[4, 5, 6], output_type="pt"), list(sizes)
    apart, together = passes.values()
    torch.testing.assert_close(together[0], apart[0], atol=1e-5, rtol=0.0)
    assert together[1].count(6) > 0
    assert sum(together[1]) == sum(apart[1])
    assert set(apart[1]) == {3}


@pytest.mark.parametrize("shift", [1.0, 0.5])
def test_euler_is_that_of_diffusers(pipeline: ImagePipeline, shift: float) -> None:
    """There noise is sigma = 1 and data sigma = 0, our 1 - t, and so the velocity's sign is the
    other; a shift there is the inverse of ours."""
    ours = ImagePipeline(pipeline.encoder, pipeline.decoder, Sampling("euler", 50, shift, 1.0))
    evidence = Evidence.of_classes(torch.tensor([0, 5, 9]))
    seeds, steps = torch.tensor([1, 2, 3]), 8
    expected = ours.sample_latents(evidence, seeds, num_inference_steps=steps)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1 / shift)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps))
    z = seeded_normal(seeds, *ours.latent_shape)
    predict = ours.denoiser(evidence, 1.0, (0.0, 1.0))
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
        with torch.no_grad():
            slope = velocity(predict, z, (1.0 - sigma).expand(len(z)))
        z = scheduler.step(-slope, timestep, z).prev_sample
    torch.testing.assert_close(z, expected, atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
def test_output_types_hold_the_same_pixels(pipeline: ImagePipeline, output_type: str) -> None:
    reference = pipeline([0, 1], seeds=[0, 1], output_type="pt")
    output = pipeline([0, 1], seeds=[0, 1], output_type=output_type)
    if output_type == "pil":
        assert [image.size for image in output] == [(28, 28)] * 2
        output = np.stack([np.asarray(image) for image in output])[..., None] / 255.0
    if output_type != "pt":
        output = torch.from_numpy(np.asarray(output, dtype=np.float32)).permute(0, 3, 1, 2)
    torch.testing.assert_close(output, reference, atol=0.51 / 255.0, rtol=0.0)
    assert 0.0 <= reference.min() <= reference.max() <= 1.0


def test_pil_images_of_any_size_and_mode_are_taken(pipeline: ImagePipeline) -> None:
    pictures = [
        Image.new("RGB", (60, 45), "red"),
        Image.new("RGBA", (10, 90)),
        Image.new("L", (28, 28)),
    ]
    assert pipeline.encode(pictures).shape == (3, 4, 8)
    assert len(pipeline.reconstruct(pictures)) == 3


def test_latents_interpolate(pipeline: ImagePipeline, images: torch.Tensor) -> None:
    row = pipeline.interpolate(images[:1], images[1:2], 5, output_type="pt")
    ends = pipeline.reconstruct(images[:2], output_type="pt")
    torch.testing.assert_close(row[[0, -1]], ends, atol=1e-5, rtol=0.0)
    assert row.shape == (5, 1, 28, 28)


def test_class_names_are_labels(pipeline: ImagePipeline) -> None:
    by_name = pipeline(["class 4"], seeds=[2], output_type="pt")
    assert torch.equal(by_name, pipeline([4], seeds=[2], output_type="pt"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p([10]), "class label 10 is out of range: this model has 10 classes"),
        (lambda p: p(["boot"]), "unknown class 'boot', expected one of"),
        (lambda p: p([0], output_type="jpg"), "output_type must be 'pil', 'pt' or 'np'"),
        (lambda p: p([0], solver="rk9"), "one of the solvers euler, heun, multistep, sde"),
        (
            lambda p: p([0], num_inference_steps=0),
            "num_inference_steps must be a whole number from 1",
        ),
        (lambda p: p([0], seeds=[1, 2]), "one seed per sample, got 2 for 1"),
        (lambda p: p.encode(2.0 * torch.ones(1, 1, 28, 28)), "pixel values must lie in"),
        (lambda p: p.encode(torch.ones(1, 3, 28, 28)), "expected images of shape"),
    ],
)
def test_mistakes_get_one_clear_sentence(pipeline: ImagePipeline, call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(pipeline)


def test_save_and_load_keep_everything(
    pipeline: ImagePipeline, images: torch.Tensor, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path / "pipeline")
    loaded = ImagePipeline.from_pretrained(tmp_path / "pipeline")
    assert torch.equal(loaded.encode(images), pipeline.encode(images))
    labels = [0, 5]
    assert torch.equal(
        loaded(labels, seeds=[1, 2], output_type="pt"),
        pipeline(labels, seeds=[1, 2], output_type="pt"),
    )
    assert loaded.config.class_names == NAMES
    assert loaded.sampling.guidance_scale == 2.0


@pytest.fixture(scope="module")
def saved(pipeline: ImagePipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "pipeline"
    pipeline.save_pretrained(folder)
    return folder


def cast(saved: Path, how: str) -> ImagePipeline:
    if how == "loaded":
        return ImagePipeline.from_pretrained(saved, torch_dtype=torch.bfloat16)
    return ImagePipeline.from_pretrained(saved).to(torch.bfloat16)


@pytest.mark.parametrize("how", ["loaded", "cast"])
def test_bfloat16_is_near_float32(
    pipeline: ImagePipeline, images: torch.Tensor, saved: Path, how: str
) -> None:
    """Latents within 3 % (root mean square), pixels within 0.005 on average, after four guided
    steps of this random network within 0.02."""
    half = cast(saved, how)
    assert half.decoder.latent_input.weight.dtype == torch.bfloat16
    latents, coarse = pipeline.encode(images), half.encode(images)
    assert coarse.dtype == torch.float32
    assert 0.0 < (coarse - latents).norm() < 0.03 * latents.norm()
    labels, seeds = [0, 5, 9], [1, 2, 3]
    for limit, fine, rough in (
        (0.005, pipeline.decode_tensor(latents), half.decode_tensor(latents)),
        (0.02, pipeline.generate(labels, seeds=seeds), half.generate(labels, seeds=seeds)),
    ):
        assert rough.dtype == torch.float32
        assert 0.0 < (rough - fine).abs().mean() < limit
    assert len(half(labels)) == len(half.reconstruct([Image.new("RGB", (40, 30))] * 3)) == 3


@pytest.mark.parametrize("how", ["loaded", "cast"])
def test_in_bfloat16_the_solver_state_and_the_angles_are_float32(saved: Path, how: str) -> None:
    half = cast(saved, how)
    assert half.encoder.angles.dtype == torch.float32
    seen: list[torch.dtype] = []
    half([0], seeds=[0], callback=lambda n, t, z: seen.append(z.dtype))
    assert set(seen) == {torch.float32}
    assert not torch.is_autocast_enabled("cpu")


def test_a_pipeline_saved_in_bfloat16_loads(
    images: torch.Tensor, saved: Path, tmp_path: Path
) -> None:
    half = cast(saved, "loaded")
    half.save_pretrained(tmp_path)
    again = ImagePipeline.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert torch.equal(again.encode(images), half.encode(images))


def test_float64_works_throughout(
    pipeline: ImagePipeline, images: torch.Tensor, saved: Path
) -> None:
    double = ImagePipeline.from_pretrained(saved).to(torch.float64)
    assert double.encode(images).dtype == torch.float64
    fine, finer = (p.generate([3], seeds=[1]) for p in (pipeline, double))
    torch.testing.assert_close(fine, finer, atol=1e-4, rtol=0.0)


def test_a_newer_format_is_refused(pipeline: ImagePipeline) -> None:
    with pytest.raises(ValueError, match="upgrade openunite"):
        ImagePipeline(pipeline.encoder, pipeline.decoder, format_version=3)


def test_unconditional_models_take_no_labels(tmp_path: Path) -> None:
    encoder, decoder = build_models(tiny_config(num_classes=0))
    unconditional = ImagePipeline(encoder.eval(), decoder.eval(), Sampling("heun", 2, 1.0, 1.0))
    assert unconditional(num_images=3, output_type="pt").shape == (3, 1, 28, 28)
    with pytest.raises(ValueError, match="leave class_labels out"):
        unconditional([0])


def test_callback_sees_every_step(pipeline: ImagePipeline) -> None:
    seen: list[tuple[int, float]] = []
    pipeline([0], seeds=[0], callback=lambda n, t, z: seen.append((n, t)))
    assert seen == [(2, 0.25), (4, 0.5), (6, 0.75), (7, 1.0)]
