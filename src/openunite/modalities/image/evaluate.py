"""`openunite evaluate RUN`: samples and reconstructions of a model of images, and their card."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from openunite.commands import Evaluate
from openunite.evaluation.card import ProtocolCard, find_warnings, load_card
from openunite.evaluation.images.feature_sets import gather, read_features
from openunite.evaluation.images.features.base import Extractor
from openunite.evaluation.images.perceptual import MIN_SIDE, Lpips
from openunite.evaluation.images.pixels import over_real
from openunite.evaluation.images.sets import mean_nfe, pair_means, reconstruct_shards
from openunite.evaluation.images.table import (
    RECONSTRUCTION_FD,
    ImageMetrics,
    PairMetric,
    pair_metrics,
)
from openunite.evaluation.measured import Measured
from openunite.evaluation.sections import PartSection
from openunite.evaluation.shards import Shards
from openunite.modalities.card import NO_GUIDANCE, guidance_scale
from openunite.modalities.image.card import evaluation_card
from openunite.modalities.image.context import (
    EvaluationContext,
    SampleSettings,
    Split,
    home_of,
    open_context,
    trained_on,
)
from openunite.pipelines.base import UnitePipeline
from openunite.progress import say


def evaluate_images_of(
    command: Evaluate, pipeline: UnitePipeline, data: Any, extractor: Extractor | None
) -> ProtocolCard:
    """Draw, reconstruct and measure; write the card on the main process."""
    context = open_context(command, pipeline, data, extractor)
    card = make_card(context, command, compute(context, command))
    if context.group.is_main:
        path = Path(command.output or context.home / f"card-{context.extractor.name}.json")
        card.save(path)
        say(f"\n-> {path}\n")
    return card


@dataclass(frozen=True)
class EvaluationResults:
    """What all processes computed: pairs of shards (images, features), and files of features."""

    drawn: SampleSettings
    scale: float
    lpips: Lpips | None
    pairs: list[PairMetric]
    samples: tuple[Shards, Shards]
    guided: tuple[Shards, Shards] | None
    reconstructions: tuple[Shards, Shards]
    reference: Path
    others: tuple[Path, Tensor]
    originals: Path


def compute(context: EvaluationContext, command: Evaluate) -> EvaluationResults:
    """Everything that takes long; each process computes a part and waits for the others."""
    scale = guidance_scale(context.pipeline, command.guidance_scale)
    steps = command.num_inference_steps
    drawn = SampleSettings(command.num_samples, command.seed, command.solver, steps, command.labels)
    side = _shorter_side(context)
    lpips = _lpips(context, command.vgg16) if side >= MIN_SIDE else None
    pairs = pair_metrics(side, lpips)
    return EvaluationResults(
        drawn=drawn,
        scale=scale,
        lpips=lpips,
        pairs=pairs,
        samples=context.samples(drawn, NO_GUIDANCE),
        guided=None if scale == NO_GUIDANCE else context.samples(drawn, scale),
        reconstructions=_reconstruct(context, pairs, lpips),
        reference=context.real(command.split)[0],
        others=context.real(_other(command.split), command.num_samples),
        originals=context.real("test")[0],
    )


def make_card(
    context: EvaluationContext, command: Evaluate, results: EvaluationResults
) -> ProtocolCard:
    """All metrics and what decided them, on one process."""
    columns = _columns(context, results, command.split)
    card = evaluation_card(context, results.drawn, command.split, columns)
    checksum = "none" if results.lpips is None else results.lpips.checksum
    card = replace(
        card,
        guidance=replace(card.guidance, scale=results.scale, swept_on=_swept_on(context)),
        reconstruction=PartSection("test", len(context.data.test)),
        real_images=PartSection(_other(command.split), len(results.others[1])),
        metric_settings={**card.metric_settings, "lpips": checksum},
    )
    return replace(card, warnings=(*find_warnings(card), *_data_warning(context)))


def _columns(
    context: EvaluationContext, results: EvaluationResults, split: Split
) -> dict[str, dict[str, Measured]]:
    metrics, labels = context.metrics(results.reference), context.labels(results.drawn)
    real, columns = context.pixels(split), {}
    for name, shards in (("unguided", results.samples), ("guided", results.guided)):
        if shards is not None:
            images, features = shards
            seen = over_real(context.pixels(images), real) | {"nfe": mean_nfe(images)}
            columns[name] = metrics.evaluate(gather(features), labels) | seen
    others, other_labels = results.others
    seen = over_real(context.pixels(_other(split)), real)
    columns["real images"] = metrics.evaluate(read_features(others), other_labels) | seen
    outputs, features = results.reconstructions
    distance = ImageMetrics(read_features(results.originals), False, (RECONSTRUCTION_FD,))
    errors = pair_means(outputs, results.pairs)
    errors |= over_real(context.pixels(outputs), context.pixels("test"))
    columns["reconstructions"] = distance.evaluate(gather(features), None) | errors
    return columns


def _other(split: Split) -> Split:
    """The split that samples are not compared with: real images for the column beside them."""
    return "train" if split == "test" else "test"


def _shorter_side(context: EvaluationContext) -> int:
    shape = context.pipeline.encoder.config.modality_config
    return int(min(shape["height"], shape["width"]))


def _reconstruct(
    context: EvaluationContext, pairs: list[PairMetric], lpips: Lpips | None
) -> tuple[Shards, Shards]:
    def reconstruct(images: Tensor) -> Tensor:
        return context.pipeline.decode_tensor(context.pipeline.encode(images))

    test, count = context.data.test, len(context.data.test)
    settings = {
        "model": [context.model.encoder, context.model.decoder],
        "data": context.data.fingerprint,
        "lpips": None if lpips is None else lpips.checksum,
        "precision": str(context.pipeline.dtype),
        "metrics": [metric.name for metric in pairs],
    }
    shards = reconstruct_shards(
        reconstruct,
        lambda positions: test.batch(list(positions)).data,
        context.shards("reconstructions", settings, count),
        context.group,
        pairs,
    )
    return shards, context.features(shards, "features of reconstructions")


def _lpips(context: EvaluationContext, vgg16: str | None) -> Lpips | None:
    """LPIPS if its weights are there; without them the other metrics are still computed."""
    try:
        return Lpips.load(vgg16)
    except FileNotFoundError as error:
        if vgg16 is not None:
            raise
        if context.group.is_main:
            say(f"no LPIPS: {error}", err=True)
        return None


# ---- what the card says of the run ----------------------------------------------------------


def _swept_on(context: EvaluationContext) -> str:
    """The split of a guidance sweep of this model, found beside the card or in the run.

    "nothing" without one, "unknown" if one cannot be read or the model has no folder.
    """
    folders = {folder.resolve() for folder in (context.home, home_of(context.source))}
    paths = sorted(path for folder in folders for path in folder.glob("sweep*.json"))
    found = [_swept_in(path, context) for path in paths]
    known = [split for split in found if split not in ("nothing", "other images", "unknown")]
    if known:
        return known[0]
    if "other images" in found:
        return "other images"
    return "unknown" if "unknown" in found or not Path(context.source).is_dir() else "nothing"


def _swept_in(path: Path, context: EvaluationContext) -> str:
    """What one card of a sweep says about this model."""
    try:
        card = load_card(path)
    except ValueError:  # damaged, or of another program
        return "unknown"
    if not card.model.has_weights_of(context.model):
        return "nothing"
    same = card.reference.checksum == context.data.fingerprint
    return card.reference.split if same else "other images"


def _data_warning(context: EvaluationContext) -> tuple[str, ...]:
    known = trained_on(context.source)
    if known is None or known == context.data.fingerprint:
        return ()
    return (
        "the run was trained on other images, or on another split of them: its training images may "
        "be among the reference",
    )
