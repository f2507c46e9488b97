"""`openunite train`: data, models, trainer; then evaluation, pictures, pipeline."""

import json
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from PIL import Image
from torch import Tensor

from openunite.commands import Train
from openunite.evaluation.fashion_classifier import load_fashion_classifier
from openunite.evaluation.image_protocol import evaluate_images
from openunite.evaluation.pictures import class_grid, draw_curves, image_grid, pair_grid
from openunite.jobs.configure import configure
from openunite.jobs.inspect import describe_config
from openunite.jobs.load import load_pipeline, make_pipeline
from openunite.modalities.image.data import ImageData, open_images
from openunite.pipelines.image import ImagePipeline
from openunite.training.build import build_models, build_objective, transfer
from openunite.training.config import RunConfig, differences, load_config, save_config
from openunite.training.device import on_cpu
from openunite.training.trainer import Trainer, TrainResult


def train(command: Train) -> None:
    """Train, or go on training, then leave pictures, metrics and a pipeline in the run folder."""
    if command.dry_run:
        describe_config(configure(command))
        return
    state = PartialState(cpu=on_cpu())
    folder = Path(command.output or f"runs/{command.recipe or 'again'}")
    config = _resolved(command, folder, state)
    with state.main_process_first():
        data = _open_data(config, progress=state.is_main_process)
    config = replace(config, num_classes=_num_classes(config, data))
    if state.is_main_process:
        _claim(folder, config, data)
    state.wait_for_everyone()
    result, trainer = _fit(config, folder, data)
    if not result.finished:
        state.print(f"stopped and saved at step {result.steps_done}; the same command goes on")
        return
    if state.is_main_process:
        _finish(config, folder, data, trainer, result)


def _resolved(command: Train, folder: Path, state: PartialState) -> RunConfig:
    """This run's settings; how many steps --minutes came to is measured once and remembered."""
    config: list[RunConfig | None] = [None]
    if state.is_main_process:
        saved = folder / "config.yaml"
        config[0] = configure(command, load_config(saved).steps if saved.is_file() else None)
    broadcast_object_list(config)
    assert config[0] is not None
    return config[0]


def _open_data(config: RunConfig, *, progress: bool) -> ImageData:
    image, settings = config.modality_config, config.data
    return open_images(
        settings.source,
        height=image["height"],
        width=image["width"],
        channels=image["channels"],
        min_side=image["patch_size"],
        holdout_share=settings.holdout_share,
        holdout_max=settings.holdout_max,
        max_bad_share=settings.max_bad_share,
        progress=progress,
    )


def _num_classes(config: RunConfig, data: ImageData) -> int:
    """As configured, if the data's labels fit; else what the data have."""
    if config.num_classes is None:
        return data.num_classes
    if data.num_classes > config.num_classes:
        raise ValueError(
            f"{config.data.source} has {data.num_classes} classes, the config says "
            f"{config.num_classes}; set num_classes to {data.num_classes} (or null)"
        )
    return config.num_classes


def _claim(folder: Path, config: RunConfig, data: ImageData) -> None:
    """Make the run folder, or check that it holds this very run."""
    path, record = folder / "config.yaml", folder / "data.json"
    if path.is_file():
        if changed := differences(load_config(path), config):
            raise ValueError(
                f"{folder} holds a run with other settings ({'; '.join(changed)}); choose another "
                "--output, or repeat the settings of that run"
            )
        if json.loads(record.read_text())["fingerprint"] != data.fingerprint:
            raise ValueError(
                f"the data behind {config.data.source} changed since {folder} was started; choose "
                "another --output, or restore the data"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    skipped = [f"{item.name}: {item.reason}" for item in data.skipped]
    for line in skipped:
        print(f"skipped {line}", file=sys.stderr)
    about = {
        "name": data.name,
        "train_images": len(data.train),
        "test_images": len(data.test),
        "num_classes": data.num_classes,
        "class_names": list(data.class_names),
        "skipped": skipped,
        "fingerprint": data.fingerprint,
    }
    _write_json(record, about)
    save_config(config, path)
    print(
        f"{folder}: {len(data.train)} training and {len(data.test)} held-out images, "
        f"{data.num_classes or 'no'} classes, {len(skipped)} skipped"
    )


def _fit(config: RunConfig, folder: Path, data: ImageData) -> tuple[TrainResult, Trainer]:
    encoder, decoder = build_models(config)
    if config.init_from is not None:
        source = load_pipeline(config.init_from)
        for name, target in (("encoder", encoder), ("decoder", decoder)):
            report = transfer(getattr(source, name).state_dict(), target)
            PartialState(cpu=on_cpu()).print(f"{name} from {config.init_from}: {report.summary()}")
    preview = partial(_preview, config, folder, data.class_names)
    trainer = Trainer(
        build_objective(config, encoder, decoder), data.train, config, folder, preview
    )
    return trainer.fit(), trainer


def _preview(
    config: RunConfig, folder: Path, class_names: tuple[str, ...], ema: Any, step: int
) -> None:
    """A small grid from fixed seeds: watch one noise become a picture over the run."""
    pipeline = make_pipeline(ema.encoder, ema.decoder, config, class_names)
    count = min(64, max(16, 4 * (config.num_classes or 4)))
    labels = [i % config.num_classes for i in range(count)] if config.num_classes else None
    images = pipeline.generate(labels, seeds=range(count), num_inference_steps=10)
    (folder / "previews").mkdir(exist_ok=True)
    image_grid(images, columns=8).save(folder / "previews" / f"step-{step:08d}.png")


def _finish(
    config: RunConfig, folder: Path, data: ImageData, trainer: Trainer, result: TrainResult
) -> None:
    """Pipeline first, so that nothing later can lose it; then pictures and metrics."""
    ema: Any = trainer.ema.model
    pipeline = make_pipeline(ema.encoder, ema.decoder, config, data.class_names)
    pipeline.save_pretrained(folder / "pipeline")
    draw_curves(folder / "metrics.jsonl", folder / "curves.png")
    metrics = _evaluate(config, folder, data, pipeline)
    metrics |= {
        "train_seconds": round(result.train_seconds, 2),
        "images_per_second": round(config.steps * config.batch_size / result.train_seconds, 1),
        "steps": config.steps,
        "parameters": sum(p.numel() for p in trainer.names),
        "seed": config.seed,
        "torch_version": torch.__version__,
    }
    _write_json(folder / "metrics.json", metrics)
    _summarize(folder, metrics)


def _evaluate(
    config: RunConfig, folder: Path, data: ImageData, pipeline: ImagePipeline
) -> dict[str, Any]:
    """Metrics of the held-out images, and samples.png and reconstructions.png."""
    classifier = load_fashion_classifier() if config.data.source == "fashion-mnist-mini" else None

    def reconstruct(images: Tensor) -> Tensor:
        return pipeline.decode_tensor(pipeline.encode(images)).cpu()

    def sample(labels: Tensor, seeds: Tensor, guidance_scale: float) -> Tensor:
        return pipeline.generate(
            labels if config.num_classes else None,
            seeds=seeds.tolist(),
            guidance_scale=guidance_scale,
        ).cpu()

    spread = range(0, len(data.train), max(1, len(data.train) // 1000))[:1000]
    test = data.test.batch(range(len(data.test)))
    result = evaluate_images(
        reconstruct=reconstruct,
        sample=sample,
        test_images=test["data"],
        test_labels=test["label"],
        train_images=data.train.batch(spread)["data"],
        num_classes=config.num_classes or 0,
        guidance_scale=config.sampling.guidance_scale,
        classifier=classifier,
    )
    inputs, outputs = test["data"][:20].float() / 255.0, result.reconstructions[:20]
    pair_grid(inputs, outputs).save(folder / "reconstructions.png")
    best = result.samples if result.samples_guided is None else result.samples_guided
    _sample_picture(best, data.class_names).save(folder / "samples.png")
    return result.metrics


def _sample_picture(samples: Tensor, class_names: tuple[str, ...]) -> Image.Image:
    """Up to ten classes by ten samples; the samples run through the classes in turn."""
    classes = len(class_names)
    if classes == 0:
        return image_grid(samples[:100], columns=10)
    rows = [samples[c::classes][:10] for c in range(min(10, classes))]
    return class_grid(torch.stack(rows), class_names[:10])


def _summarize(folder: Path, metrics: dict[str, Any]) -> None:
    """A short table and what to try next."""
    print()
    for name, value in metrics.items():
        print(f"  {name:<26} {value:.4f}" if isinstance(value, float) else f"  {name:<26} {value}")
    print(
        f"\nPictures: {folder}/samples.png, reconstructions.png, curves.png. Next:\n"
        f"  openunite sample {folder} --num-images 64 --seed 7 --output more.png\n"
        f"  openunite reconstruct {folder} YOUR_IMAGES --output pairs.png\n"
        "  openunite train images --data YOUR_FOLDER --minutes 30"
    )


def _write_json(path: Path, values: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(values, indent=1) + "\n")
    os.replace(temporary, path)
