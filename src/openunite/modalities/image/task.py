"""Image runs: data, previews, pictures and metrics."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from openunite.data.images.dataset import ImageData, open_images
from openunite.drawing.pictures import class_grid, image_grid, pair_grid
from openunite.evaluation.images.feature_sets import choose
from openunite.evaluation.images.features import is_embedded, load_extractor
from openunite.evaluation.images.features.base import Extractor
from openunite.evaluation.images.protocol import ImageEvaluation, evaluate_images
from openunite.evaluation.images.table import flat_metrics
from openunite.modalities.card import guidance_scale
from openunite.modalities.image.card import run_card
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.modalities.image.tokens import ImageModality
from openunite.training.config import RunConfig

_SHOWN = 10  # classes in the picture of samples, and samples of each
_TESTED = 1000  # test images for the metrics of a run, and as many training images beside them


class ImageTask:
    """`openunite train` for images."""

    things = "images"

    def open(self, config: RunConfig, *, progress: bool) -> ImageData:
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

    def settle(self, config: RunConfig, data: ImageData) -> RunConfig:
        """The number of classes: what the data have, which must be what is configured, if any is.

        Weights of the perceptual loss that cannot be had are complained of here, before any step.
        """
        modality = ImageModality(config.modality_config)
        if modality.perceptual != "none":
            modality.distance()
        if config.num_classes is None:
            return replace(config, num_classes=data.num_classes)
        if data.num_classes != config.num_classes:
            raise ValueError(
                f"expected {config.num_classes} classes, as recipe {config.recipe} or the config "
                f"says, got {data.num_classes} in {config.data.source}; train recipe `images` on "
                f"it, or set num_classes to {data.num_classes} (or null) and pass --config"
            )
        return config

    def record(self, data: ImageData) -> dict[str, Any]:
        return {"num_classes": data.num_classes, "class_names": list(data.class_names)}

    def preview(self, pipeline: ImagePipeline, config: RunConfig, picture: Path) -> None:
        count = min(64, max(16, 4 * (config.num_classes or 4)))
        labels = [i % config.num_classes for i in range(count)] if config.num_classes else None
        images = pipeline.generate(labels, seeds=range(count), num_inference_steps=10)
        image_grid(images, columns=8).save(picture)

    def finish(
        self, config: RunConfig, folder: Path, data: ImageData, pipeline: ImagePipeline
    ) -> dict[str, float | int | str]:
        """Write card.json, samples.png and reconstructions.png; return flat metrics.

        At most _TESTED held-out images are used, a fixed random part, because all are in memory at
        once. `openunite evaluate` uses all of them.
        """
        test = data.test.batch(choose(len(data.test), _TESTED))
        extractor = load_extractor("fashion") if is_embedded(config.data.source) else None
        found = _evaluate(config, data, pipeline, test, extractor)
        inputs, outputs = test["data"][:20].float() / 255.0, found.reconstructions[:20]
        pair_grid(inputs, outputs).save(folder / "reconstructions.png")
        best = found.samples.get("guided", found.samples["unguided"])
        _sample_picture(best, data.class_names).save(folder / "samples.png")
        card = run_card(pipeline, data, folder.name, found, test["label"], extractor)
        card.save(folder / "card.json")
        return {
            **flat_metrics(card.metrics),
            "num_test_images": card.reference.count,
            "num_samples": card.samples.count,
            "guidance_scale": guidance_scale(pipeline),
        }

    def next_commands(self, folder: Path) -> list[str]:
        return [
            f"openunite sample {folder} --num-images 64 --seed 7 --output more.png",
            f"openunite reconstruct {folder} YOUR_IMAGES --output pairs.png",
            "openunite train images --data YOUR_FOLDER --minutes 30",
        ]


def _evaluate(
    config: RunConfig,
    data: ImageData,
    pipeline: ImagePipeline,
    test: Mapping[str, Tensor],
    extractor: Extractor | None,
) -> ImageEvaluation:
    def reconstruct(images: Tensor) -> Tensor:
        return pipeline.decode_tensor(pipeline.encode(images)).cpu()

    def sample(labels: Tensor, seeds: Tensor, guidance_scale: float) -> Tensor:
        return pipeline.generate(
            labels if config.num_classes else None,
            seeds=seeds.tolist(),
            guidance_scale=guidance_scale,
        ).cpu()

    spread = range(0, len(data.train), max(1, len(data.train) // _TESTED))[:_TESTED]
    return evaluate_images(
        reconstruct=reconstruct,
        sample=sample,
        test_images=test["data"],
        test_labels=test["label"],
        train_images=data.train.batch(spread)["data"],
        num_classes=min(_SHOWN, len(data.class_names)),
        num_samples=_SHOWN**2 if extractor is None else 1000,  # 100 are for the picture alone
        guidance_scale=config.sampling.guidance_scale,
        extractor=extractor,
    )


def _sample_picture(samples: Tensor, class_names: tuple[str, ...]) -> Image.Image:
    """Up to ten classes by ten samples; the samples run through them in turn."""
    classes = min(_SHOWN, len(class_names))
    if classes == 0:
        return image_grid(samples[: _SHOWN**2], columns=_SHOWN)
    rows = [samples[c::classes][:_SHOWN] for c in range(classes)]
    return class_grid(torch.stack(rows), class_names[:classes])
