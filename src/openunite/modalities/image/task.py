"""Image runs: data, previews, pictures and metrics."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from openunite import clock
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
from openunite.flow.guidance import NO_GUIDANCE
from openunite.modalities.card import guidance_scale
from openunite.modalities.image.card import run_card
from openunite.modalities.image.fit import fit_to_images, num_patches
from openunite.modalities.image.outputs import ImageFiles
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.modalities.image.score import MOST_SCORED, in_words, score, score_extractor
from openunite.modalities.image.tokens import ImageModality
from openunite.modality import get_modality
from openunite.progress import bar, say
from openunite.runs import make_pipeline
from openunite.task import Analyzed, DataColumns, Options, Tell, sized
from openunite.training.build import build_models
from openunite.training.config import RunConfig
from openunite.training.loader import TrainingData

_BATCH = 64
_JUDGED = 1000  # samples for the classifier of the embedded images
_TRIED = 16  # images on which the time for all of this is measured
_AROUND = 5.0  # seconds for files, curves and pictures
_DRAWN = MOST_SHOWN**2  # samples of one's own images: enough for the picture and a score
_TESTED = 1000  # test images for the metrics of a run; also the number of training images


class ImageTask(ImageFiles):
    """What commands need for images."""

    things = "images"
    sources = "a folder, .npz, parquet or hub id"
    train_options = ("image_size", "patch_size")
    sample_options = ("observed", "mask", "paste")
    names_key = "files"
    expectation = (  # docs/LOG.md: the quickstart's short form, the small grid and the quickstart
        "for comparison: on the embedded pictures of clothing (28 x 28, gray) a classifier "
        "recognizes 57, 80 and 95 % of the samples after 250, 600 and 1,400 steps"
    )

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
        train = data.train.batch(_spread(len(data.train))).data
        extractor = load_extractor("fashion") if is_embedded(config.data.source) else None
        found = _evaluate(config, pipeline, data, test, train, extractor)
        inputs, outputs = test.data[:20].float() / 255.0, found.reconstructions[:20]
        pair_grid(inputs, outputs).save(folder / "reconstructions.png")
        best = found.samples.get("guided", found.samples["unguided"])
        sample_grid(best, data.class_names).save(folder / "samples.png")
        card = run_card(pipeline, data, folder.name, found, data.test.labels[test.index], extractor)
        card.save(folder / "card.json")
        judge = _judge(config)
        scored = {} if judge is None else score(best, test.data, train, judge)
        if scored:
            say(in_words(scored))
        return {
            **flat_metrics(card.metrics),
            **scored,
            "num_test_images": card.reference.count,
            "num_samples": card.samples.count,
            "guidance_scale": guidance_scale(pipeline),
        }

    def finish_seconds(self, config: RunConfig, data: ImageData) -> float:
        """Try out what `finish` does, with a new model and a few images."""
        pipeline = make_pipeline(*build_models(config), config, self.record(data))
        few = data.test.batch(list(range(min(_TRIED, len(data.test))))).data / 255.0
        labels = [0] * _TRIED if config.num_classes else None
        scales = {NO_GUIDANCE, guidance_scale(pipeline)}

        def draw() -> None:
            for scale in scales:
                pipeline.generate(labels, seeds=range(_TRIED), guidance_scale=scale)

        drawn = _seconds(draw) / _TRIED
        rebuilt = _seconds(lambda: pipeline.decode_tensor(pipeline.encode(few))) / len(few)
        embedded = is_embedded(config.data.source)
        extractor = load_extractor("fashion") if embedded else _judge(config)
        seen = 0.0 if extractor is None else _seconds(lambda: extractor(few)) / len(few)
        count = _JUDGED if embedded else _DRAWN
        tested = min(_TESTED, len(data.test))
        features = (len(scales) + 4) * _JUDGED if embedded else 4 * MOST_SCORED
        return _AROUND + count * drawn + tested * rebuilt + features * seen

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


def _judge(config: RunConfig) -> Extractor | None:
    """What scores samples of one's own images, in runs whose deadline has time for it."""
    own = config.pace is not None and not is_embedded(config.data.source)
    return score_extractor(config.data.source) if own else None


def _seconds(run: Callable[[], object]) -> float:
    """Processor time of the second of two calls: the first allocates."""
    run()
    began = clock.processor()
    run()
    return clock.processor() - began


def _spread(count: int) -> list[int]:
    """At most _TESTED positions, evenly spaced."""
    return list(range(0, count, max(1, count // _TESTED))[:_TESTED])


def _evaluate(
    config: RunConfig,
    pipeline: ImagePipeline,
    data: ImageData,
    test: Batch,
    train_images: Tensor,
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

    return evaluate_images(
        reconstruct=reconstruct,
        sample=sample,
        test_images=test.data,
        test_labels=data.test.labels[test.index],
        train_images=train_images,
        num_classes=min(MOST_SHOWN, len(data.class_names)),
        num_samples=_DRAWN if extractor is None else _JUDGED,
        guidance_scale=config.sampling.guidance_scale,
        extractor=extractor,
        patch_size=pipeline.modality.settings.patch_size,
    )
