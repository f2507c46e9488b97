"""Image runs: data, previews, pictures and metrics."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from openunite.analysis.base import Analyses
from openunite.batch import Batch
from openunite.data.images.dataset import ImageData, open_images
from openunite.data.images.folders import input_files
from openunite.data.images.formats import converted
from openunite.data.images.look import inspect_images
from openunite.data.images.memory import content_of
from openunite.data.images.pixels import BadImage, open_image
from openunite.drawing.pictures import MOST_SHOWN, image_grid, pair_grid, sample_grid
from openunite.evaluation.card import ProtocolCard
from openunite.evaluation.images.feature_sets import choose
from openunite.evaluation.images.features import is_embedded, load_extractor
from openunite.evaluation.images.features.base import Extractor
from openunite.evaluation.images.protocol import ImageEvaluation, evaluate_images
from openunite.evaluation.images.table import flat_metrics
from openunite.modalities.card import guidance_scale
from openunite.modalities.image.card import run_card
from openunite.modalities.image.fit import fit_to_images, num_patches
from openunite.modalities.image.outputs import ImageFiles
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.modalities.image.tokens import ImageModality
from openunite.modality import get_modality
from openunite.progress import bar
from openunite.task import Analyzed, DataColumns, Options, Tell, sized
from openunite.training.config import RunConfig
from openunite.training.loader import TrainingData

_BATCH = 64
_TESTED = 1000  # test images for the metrics of a run; also the number of training images


class ImageTask(ImageFiles):
    """What commands need for images."""

    things = "images"
    sources = "a folder, .npz, parquet or hub id"
    train_options = ("image_size", "patch_size")
    sample_options = ("observed", "mask", "paste")
    names_key = "files"

    def open(self, config: RunConfig, source: Any, *, progress: bool) -> ImageData:
        image = config.modality_config
        return open_images(
            source,
            height=image["height"],
            width=image["width"],
            channels=image["channels"],
            min_side=image["patch_size"],
            **config.data.limits,
            progress=progress,
        )

    def configure(self, config: RunConfig, options: Options, source: Any) -> RunConfig:
        """Fit the recipe `images` to the data, or apply the options to another recipe.

        The number of registers follows the number of patches if the two are equal in the recipe.
        """
        if config.recipe == "images" and options.fresh:
            return fit_to_images(config, inspect_images(source), options)
        settings = dict(config.modality_config)
        if options.image_size is not None:
            settings |= {"height": options.image_size, "width": options.image_size}
        if options.patch_size is not None:
            settings["patch_size"] = options.patch_size
        config = self.follow(config, replace(config, modality_config=settings))
        return sized(config, options.size)

    def follow(self, before: RunConfig, after: RunConfig) -> RunConfig:
        if before.model.num_registers != num_patches(before.modality_config):
            return after
        model = replace(after.model, num_registers=num_patches(after.modality_config))
        return replace(after, model=model)

    def describe(self, config: RunConfig) -> str:
        shape = config.modality_config
        size = f"{shape['height']} x {shape['width']}"
        return f"images of {size} pixels in patches of {shape['patch_size']}"

    def resolve(self, config: RunConfig, data: ImageData) -> RunConfig:
        """Set the number of classes from the data. ValueError if another one is configured.

        Weights of the perceptual loss are loaded, so that missing ones are noticed at the start.
        """
        modality = get_modality(config.modality, config.modality_config)
        assert isinstance(modality, ImageModality)
        if modality.settings.perceptual != "none":
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

    def columns(self, data: TrainingData) -> DataColumns:
        found: DataColumns = getattr(data, "columns", {})
        return found

    def preview(self, pipeline: ImagePipeline, config: RunConfig, picture: Path) -> None:
        count = min(64, max(16, 4 * (config.num_classes or 4)))
        labels = [i % config.num_classes for i in range(count)] if config.num_classes else None
        images = pipeline.generate(labels, seeds=range(count), num_inference_steps=10)
        image_grid(images, columns=8).save(picture)

    def evaluate_model(
        self, command: Any, pipeline: ImagePipeline, data: Any, extractor: Any
    ) -> ProtocolCard:
        from openunite.modalities.image.evaluate import evaluate_images_of

        return evaluate_images_of(command, pipeline, data, extractor)

    def measuring(self, config: RunConfig, folder: Path) -> dict[str, str]:
        commands = super().measuring(config, folder)
        if config.num_classes:
            commands["sweep"] = f"`openunite sweep {folder}` for a curve over guidance scales"
        return commands

    def analyses(self, run: Analyzed, other: tuple[str, Any] | None) -> Analyses:
        from openunite.modalities.image.analyses import image_analyses

        return image_analyses(run, other)

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
        inputs, outputs = test.data[:20].float() / 255.0, found.reconstructions[:20]
        pair_grid(inputs, outputs).save(folder / "reconstructions.png")
        best = found.samples.get("guided", found.samples["unguided"])
        sample_grid(best, data.class_names).save(folder / "samples.png")
        card = run_card(pipeline, data, folder.name, found, data.test.labels[test.index], extractor)
        card.save(folder / "card.json")
        return {
            **flat_metrics(card.metrics),
            "num_test_images": card.reference.count,
            "num_samples": card.samples.count,
            "guidance_scale": guidance_scale(pipeline),
        }

    def next_commands(self, folder: Path) -> list[str]:
        return [
            f"openunite sample {folder} --num-samples 64 --seed 7 --output more.png",
            f"openunite reconstruct {folder} YOUR_IMAGES --output pairs.png",
            "openunite train images --data YOUR_FOLDER --minutes 30",
        ]

    # ---- a trained model ----------------------------------------------------------------------

    def read(
        self, pipeline: ImagePipeline, sources: Sequence[str], tell: Tell
    ) -> Iterator[tuple[str, Image.Image]]:
        """Names and images of files, whatever their suffix, and of folders. ValueError if none."""
        files, found = input_files(sources), False
        for file in bar(files, desc="images", unit="image", disable=len(files) < 2 * _BATCH):
            try:
                content = converted(file)
                image = open_image(file.read_bytes() if content is None else content)
            except (OSError, BadImage) as error:
                tell(str(file), str(error))
                continue
            found = True
            yield str(file), image
        if not found:
            raise ValueError(f"none of {len(files)} files could be read as an image")

    def item(self, value: Any) -> Image.Image:
        """A PIL image, or one of a file, an array (H, W, C) or a tensor (C, H, W)."""
        if isinstance(value, Image.Image):
            return value
        return open_image(
            Path(value).read_bytes() if isinstance(value, str | Path) else content_of(value, 0)
        )

    def reconstruct(
        self, pipeline: ImagePipeline, items: Sequence[Image.Image]
    ) -> tuple[list[Tensor], list[Tensor]]:
        pixels = pipeline.preprocess(items)
        return list(pixels.cpu()), list(pipeline.decode_tensor(pipeline.encode(pixels)).cpu())

    def latents(
        self, pipeline: ImagePipeline, items: Sequence[Image.Image]
    ) -> dict[str, np.ndarray]:
        return {"latents": pipeline.encode(list(items)).float().cpu().numpy()}


def _evaluate(
    config: RunConfig,
    data: ImageData,
    pipeline: ImagePipeline,
    test: Batch,
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
        test_images=test.data,
        test_labels=data.test.labels[test.index],
        train_images=data.train.batch(spread).data,
        num_classes=min(MOST_SHOWN, len(data.class_names)),
        num_samples=MOST_SHOWN**2 if extractor is None else 1000,  # 100 suffice for the picture
        guidance_scale=config.sampling.guidance_scale,
        extractor=extractor,
        patch_size=pipeline.modality.settings.patch_size,
    )
