"""`openunite evaluate images`: images that any program made, beside real ones."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor

from openunite.cache import cache_folder
from openunite.commands import ScoreImages
from openunite.data.images.color import to_rgb
from openunite.data.images.dataset import ImagePart, open_part
from openunite.data.images.look import ImageSummary, inspect_images
from openunite.data.images.pixels import PixelSpec
from openunite.evaluation.card import ProtocolCard, class_counts, find_warnings, software
from openunite.evaluation.images.feature_sets import (
    KEPT,
    FeatureSet,
    cached_features,
    choose,
    read_features,
)
from openunite.evaluation.images.features import EXTRACTORS, extractor_for, load_extractor
from openunite.evaluation.images.features.base import Extractor
from openunite.evaluation.images.metrics import shrink
from openunite.evaluation.images.pixels import over_real, pixel_ratios
from openunite.evaluation.images.table import (
    COPY_METRICS,
    SET_METRICS,
    ImageMetrics,
    SetMetric,
    added,
    settings,
)
from openunite.evaluation.measured import Measured
from openunite.evaluation.sections import (
    GuidanceSection,
    ModelSection,
    ReferenceSection,
    SamplesSection,
)
from openunite.evaluation.shards import ProcessGroup
from openunite.modalities.image.card import extractor_section
from openunite.progress import say
from openunite.settings import check_options
from openunite.texts import printable
from openunite.training.device import choose_device

_MOST_PIXELS = 2**24  # of one batch
_PARTS: dict[str, Literal["all", "train", "test"]] = {
    "samples": "all",
    "reference": "test",
    "train": "train",
}


def evaluate_images(
    samples: Any, reference: Any, train: Any = None, *, extractor: Any = None, **options: Any
) -> ProtocolCard:
    """The protocol card of images that any program made, beside real, held-out ones.

    `samples`, `reference` and `train` (what the model was trained on) are paths, names or images in
    memory. `extractor` is a name, or an object that gives features, such as a `CallableExtractor`.
    `options` are the fields of `openunite.commands.measuring.ScoreImages`: image_size, patch_size,
    extractor_weights. ValueError, OSError or ImportError say what is wrong.
    """
    check_options(options, ScoreImages, (*_PARTS, "output"))
    if isinstance(extractor, str):
        options["extractor"], extractor = extractor, None
    given = {"samples": samples, "reference": reference, "train": train}
    sources = {name: source for name, source in given.items() if source is not None}
    return _evaluate(ScoreImages(str(samples), str(reference), **options), sources, extractor)


def run(command: ScoreImages) -> None:
    """Print the card, and write it if asked to."""
    if command.output and Path(command.output).is_dir():
        raise ValueError(f"--output must be a file to write, got the folder {command.output}")
    card = evaluate_images(**{k: x for k, x in vars(command).items() if k != "output"})
    say(card.table())
    if command.output:
        card.save(Path(command.output))
        say(f"\n-> {command.output}")


@dataclass(frozen=True)
class _Images:
    """One of the sources: all its images or a part, at the size of all, and their features."""

    part: ImagePart
    looked: ImageSummary
    features: FeatureSet

    def pixel_ratios(self, patch: int, batch: int) -> dict[str, float]:
        return pixel_ratios(_batches(self.part, self.features.rows, batch), patch)


def _evaluate(command: ScoreImages, sources: dict[str, Any], own: Extractor | None) -> ProtocolCard:
    if own is None and command.extractor != "auto":
        EXTRACTORS.get(command.extractor)  # refuses an unknown name
    looked = {name: inspect_images(source) for name, source in sources.items()}
    spec = _common(command, looked)
    parts = {
        name: open_part(source, _PARTS[name], spec, progress=True)
        for name, source in sources.items()
    }
    if own is None:
        chosen = command.extractor
        chosen = extractor_for(parts["reference"].name) if chosen == "auto" else chosen
        own = load_extractor(chosen, command.extractor_weights)
    batch = max(1, min(250, _MOST_PIXELS // (spec.height * spec.width)))
    images = {}
    for name, part in parts.items():
        found = _features(part, spec, own, batch, keep=name != "samples")
        images[name] = _Images(part, looked[name], found)
    return _card(images, spec, own, command.patch_size or 1, batch)


def _common(command: ScoreImages, looked: dict[str, ImageSummary]) -> PixelSpec:
    """The size of the samples or the one asked for; as many channels as any of the sources needs.

    At most 4: of grey images with and without alpha all become RGBA.
    """
    own, side = looked["samples"], command.image_size
    if command.patch_size is not None and command.patch_size < 1:
        raise ValueError(f"--patch-size must be at least 1, got {command.patch_size}")
    channels = max(each.channels for each in looked.values())
    if side is not None:
        return PixelSpec(side, side, channels)
    return PixelSpec(own.height, own.width, channels)


def _features(
    part: ImagePart, spec: PixelSpec, extractor: Extractor, batch: int, *, keep: bool
) -> FeatureSet:
    """Features and shrunk pixels of at most KEPT images; those of real images are cached."""
    chosen = choose(len(part.images), KEPT)
    what = {"data": part.fingerprint, "split": part.name, "shape": list(spec.shape)}
    with TemporaryDirectory() as folder:
        work = Path(folder)
        path = cached_features(
            extractor,
            lambda positions: part.images.batch(chosen[list(positions)]).data,
            len(chosen),
            what,
            cache_folder() / "features" if keep else work,
            work,
            ProcessGroup(),
            batch,
            choose_device(),
        )
        found = read_features(path)
    pixels = [shrink(to_rgb(each.float() / 255.0)) for each in _batches(part, chosen, batch)]
    return replace(found, rows=chosen, pixels=torch.cat(pixels).flatten(1))


def _batches(part: ImagePart, rows: Tensor, batch: int) -> Iterator[Tensor]:
    return (part.images.batch(each).data for each in rows.split(batch))


def _columns(
    images: dict[str, _Images], metrics: ImageMetrics, patch: int, batch: int
) -> dict[str, dict[str, Measured]]:
    samples, reference, train = (images.get(name) for name in _PARTS)
    assert samples is not None
    assert reference is not None
    labels, real = samples.part.images.labels, reference.pixel_ratios(patch, batch)
    seen = over_real(samples.pixel_ratios(patch, batch), real)
    columns = {"samples": metrics.evaluate(samples.features, labels) | seen}
    if train is not None:
        # As many as samples: the bias of a distance depends on the number.
        others = train.features.part(len(samples.features.rows))
        copied = metrics.only(*COPY_METRICS).evaluate(reference.features, None)
        seen = over_real(train.pixel_ratios(patch, batch), real)
        rest = [metric for metric in metrics.metrics if metric not in COPY_METRICS]
        known = metrics.only(*rest).evaluate(others, train.part.images.labels)
        columns["real images"] = known | copied | seen
    return columns


def _card(
    images: dict[str, _Images], spec: PixelSpec, extractor: Extractor, patch: int, batch: int
) -> ProtocolCard:
    samples, reference = images["samples"], images["reference"]
    own, names = samples.part, reference.part.class_names
    metrics = ImageMetrics(
        reference.features,
        bool(extractor.class_names) and extractor.class_names == own.class_names == names,
        (*SET_METRICS, *added(SetMetric), *COPY_METRICS),
        images["train"].features if "train" in images else None,
    )
    labels = own.images.labels.tolist() if own.class_names == names else []
    card = ProtocolCard(
        kind="images",
        model=ModelSection(own.name, "unknown", "", "", None, files=own.fingerprint),
        reference=_reference(reference.part, spec),
        samples=SamplesSection(
            *(len(own.images), "as in the files" if own.class_names else "none", None),
            class_counts=class_counts(labels, len(names) if labels else 0),
        ),
        sampling=None,
        guidance=GuidanceSection(None, ()),
        software=software(str(choose_device()), 1, batch),
        metrics=_columns(images, metrics, patch, batch),
        extractor=extractor_section(extractor),
        metric_settings=settings(len(own.images), len(reference.part.images))
        | {"copies": "nearer to a training image than 99 % of the reference are"}
        | ({"patch": f"{patch} pixels"} if patch > 1 else {})
        | {f"size of {name}": _sizes(each.looked, spec) for name, each in images.items()},
    )
    return replace(card, warnings=(*find_warnings(card), *_remarks(images, metrics)))


def _reference(part: ImagePart, spec: PixelSpec) -> ReferenceSection:
    labels, names = part.images.labels.tolist(), part.class_names
    return ReferenceSection(
        data=part.name,
        checksum=part.fingerprint,
        split="test",
        count=len(labels),
        class_names=names,
        class_counts=class_counts(labels, len(names)),
        size=f"{spec.height} x {spec.width} x {spec.channels}",
    )


def _sizes(looked: ImageSummary, spec: PixelSpec) -> str:
    """What sizes the images had and what became of them."""
    if looked.one_size and (looked.height, looked.width) == (spec.height, spec.width):
        return f"{spec.height} x {spec.width}, unchanged"
    had = "" if looked.one_size else "several, median "
    return f"{had}{looked.height} x {looked.width}, resized and center-cropped"


def _remarks(images: dict[str, _Images], metrics: ImageMetrics) -> Iterator[str]:
    """What was left out, and what copies in the real images mean."""
    samples, reference = images["samples"], images["reference"]
    for metric in metrics.too_few(samples.features):
        yield (
            f"{metric.name} is left out: it needs {metric.min_images} samples and "
            f"{metric.min_reference} reference images, got {len(samples.features.features)} and "
            f"{len(reference.features.features)}"
        )
    for name, each in images.items():
        if bad := each.part.skipped:
            first = printable(f"{bad[0].name}: {bad[0].reason}")
            yield f"{len(bad)} images of the {name} cannot be used and are left out ({first})"
        if len(each.part.images) > KEPT:
            yield f"of the {name}, {KEPT} of {len(each.part.images)} images are looked at"
    if "train" in images:
        trained = set(images["train"].part.digests)
        if same := sum(digest in trained for digest in reference.part.digests):
            yield (
                f"{same} of {len(reference.part.digests)} reference images are training images: "
                "they are not held out, and copies are found less often"
            )
