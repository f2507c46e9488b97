"""`openunite evaluate RUN`: samples and reconstructions of a model of images, a card."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from openunite.commands import Evaluate
from openunite.evaluation.card import (
    ProtocolCard,
    class_counts,
    differences,
    find_warnings,
    load_card,
    software,
)
from openunite.evaluation.images.feature_sets import gather, read_features
from openunite.evaluation.images.features.base import Extractor
from openunite.evaluation.images.perceptual import MIN_SIDE, Lpips
from openunite.evaluation.images.sets import (
    SETTINGS,
    evaluations_in,
    kid_settings,
    reconstruct_shards,
    reconstruction_metrics,
)
from openunite.evaluation.shards import Shards
from openunite.modalities.image.trial import Sampling, Split, Trial, home_of, open_trial, trained_on

NO_GUIDANCE = 1.0


def evaluate(command: Evaluate, extractor: Extractor | None = None) -> None:
    """Draw, reconstruct, judge; write the card, print it and compare it if asked to.

    `extractor` takes the place of the one that the command names, a `CallableExtractor` say.
    """
    other = load_card(command.compare) if command.compare else None
    if command.source.endswith(".json"):
        _show(load_card(command.source), other, command.compare)
        return
    trial = open_trial(
        command, weights=command.weights, precision=command.precision, extractor=extractor
    )
    work = do_work(trial, command)
    if not trial.crew.leads:
        return
    card = make_card(trial, command, work)
    path = Path(command.output or trial.home / f"card-{trial.extractor.name}.json")
    card.save(path)
    print(f"\n-> {path}\n")
    _show(card, other, command.compare)


@dataclass(frozen=True)
class Work:
    """What all processes made together: images and features in shards, real images in files."""

    sampling: Sampling
    lpips: Lpips | None
    scale: float
    samples: tuple[Shards, Shards]
    guided: tuple[Shards, Shards] | None
    reconstructions: tuple[Shards, Shards]
    reference: Path
    others: tuple[Path, Tensor]
    originals: Path


def do_work(trial: Trial, command: Evaluate) -> Work:
    """Everything that takes long; each process does its part, and all wait for each other."""
    chosen, steps = command.guidance_scale, command.num_inference_steps
    scale = float(trial.pipeline.sampling.guidance_scale if chosen is None else chosen)
    scale = scale if trial.num_classes else NO_GUIDANCE
    sampling = Sampling(command.num_samples, command.seed, command.solver, steps, command.labels)
    lpips = _lpips(trial, command.vgg16)
    others = _other(command.split)
    return Work(
        sampling=sampling,
        lpips=lpips,
        scale=scale,
        samples=trial.samples(sampling, NO_GUIDANCE),
        guided=None if scale == NO_GUIDANCE else trial.samples(sampling, scale),
        reconstructions=_reconstruct(trial, lpips),
        reference=trial.real(command.split)[0],
        others=trial.real(others, command.num_samples),
        originals=trial.real("test")[0],
    )


def make_card(trial: Trial, command: Evaluate, work: Work) -> ProtocolCard:
    """All metrics and what decided them; the work of one process."""
    judge, labels = trial.judge(work.reference), trial.labels(work.sampling)
    drawn, features = work.samples
    metrics = {"unguided": judge.judge(gather(features), labels)}
    if work.guided is not None:
        metrics["guided"] = judge.judge(gather(work.guided[1]), labels)
    others, other_labels = work.others
    metrics["real images"] = judge.judge(read_features(others), other_labels)
    outputs, found = work.reconstructions
    metrics["reconstructions"] = reconstruction_metrics(
        outputs, gather(found), read_features(work.originals), trial.extractor.label
    )
    sampled = of_samples(trial, work.sampling)
    sampled["sampling"]["evaluations"] = evaluations_in(drawn)
    if work.guided is not None:
        sampled["sampling"]["evaluations_guided"] = evaluations_in(work.guided[0])
    protocol = {
        **_of_trial(trial, command),
        **sampled,
        "real_images": {"split": _other(command.split), "images": len(other_labels)},
        "guidance": {
            "scale": work.scale,
            "interval": list(trial.pipeline.sampling.guidance_interval),
            "swept_on": _swept_on(trial),
        },
        "metrics": {
            **SETTINGS,
            "kid": kid_settings(work.sampling.count, len(judge.reference.features)),
            "lpips": "none" if work.lpips is None else work.lpips.checksum,
        },
    }
    warnings = find_warnings(protocol, trial.class_names) + _data_warning(trial)
    versions = software(str(trial.device), trial.crew.world) | {"batch_size": trial.batch_size}
    return ProtocolCard(of_model(trial), protocol, versions, metrics, warnings)


def _other(split: Split) -> Split:
    """The split of the column of real images: the one that samples are not compared with."""
    return "train" if split == "test" else "test"


def _reconstruct(trial: Trial, lpips: Lpips | None) -> tuple[Shards, Shards]:
    def reconstruct(images: Tensor) -> Tensor:
        return trial.pipeline.decode_tensor(trial.pipeline.encode(images))

    test, count = trial.data.test, len(trial.data.test)
    settings = {
        "model": trial.checksum,
        "data": trial.data.fingerprint,
        "lpips": None if lpips is None else lpips.checksum,
        "precision": str(trial.pipeline.dtype),
    }
    shards = reconstruct_shards(
        reconstruct,
        lambda positions: test.batch(list(positions)).data,
        trial.shards("reconstructions", settings, count),
        trial.crew,
        lpips,
    )
    return shards, trial.features(shards, "features of reconstructions")


def _lpips(trial: Trial, vgg16: str | None) -> Lpips | None:
    """LPIPS where its weights are at hand: never a reason to lose the other metrics."""
    shape = trial.pipeline.encoder.config.modality_config
    if min(shape["height"], shape["width"]) < MIN_SIDE:
        return None
    try:
        return Lpips.load(vgg16)
    except FileNotFoundError as error:
        if vgg16 is not None:
            raise
        if trial.crew.leads:
            print(f"no LPIPS: {error}", file=sys.stderr)
        return None


# ---- the card ---------------------------------------------------------------------------------


def of_model(trial: Trial) -> dict[str, Any]:
    """Which model: its name, weights and size."""
    parts = (trial.pipeline.encoder, trial.pipeline.decoder)
    return {
        "source": Path(trial.source).name,
        "weights": trial.weights,
        "checksum": trial.checksum,
        "parameters": sum(p.numel() for part in parts for p in part.parameters()),
        "class_names": list(trial.class_names),
    }


def _of_trial(trial: Trial, command: Evaluate) -> dict[str, Any]:
    extractor, shape = trial.extractor, trial.pipeline.encoder.config.modality_config
    dataset, rows = trial.rows(command.split)
    classes = trial.data.num_classes
    return {
        "extractor": {
            "name": extractor.name,
            "label": extractor.label,
            "checksum": extractor.checksum,
            "dim": extractor.dim,
        },
        "reference": {
            "data": trial.data.name,
            "checksum": trial.data.fingerprint,
            "split": command.split,
            "images": len(rows),
            "class_names": list(trial.data.class_names),
            "class_counts": class_counts(dataset.labels[rows].tolist(), classes),
            "size": f"{shape['height']} x {shape['width']} x {shape['channels']}",
        },
        "reconstruction": {"split": "test", "images": len(trial.data.test)},
    }


def of_samples(trial: Trial, sampling: Sampling) -> dict[str, dict[str, Any]]:
    """Which samples, and how they are drawn.

    The adaptive solver has no steps to shift, and shares its step sizes over a batch: with it the
    batch size decides what a sample is.
    """
    labels = trial.labels(sampling)
    how = trial.pipeline.sampling.change(
        solver=sampling.solver, num_inference_steps=sampling.num_steps
    )
    adaptive = how.row.adaptive
    drawn = [] if labels is None else labels.tolist()
    return {
        "samples": {
            "images": sampling.count,
            "labels": "none" if labels is None else sampling.labels,
            "class_counts": class_counts(drawn, trial.num_classes),
            "seeds": f"{sampling.first_seed} to {sampling.first_seed + sampling.count - 1}",
        },
        "sampling": {
            "solver": how.solver,
            "steps": "adaptive" if adaptive else how.num_inference_steps,
            "time_shift": 1.0 if adaptive else how.time_shift,
            "eta": how.option("eta") if how.solver == "sde" else 0.0,
            "temperature": how.option("temperature") if how.solver == "sde" else 1.0,
            "weights": trial.weights,
            "precision": str(trial.pipeline.dtype).removeprefix("torch."),
            **({"batch_size": trial.batch_size} if adaptive else {}),
        },
    }


def _swept_on(trial: Trial) -> str:
    """The split of a guidance sweep of this model that lies beside the card or in the run.

    "nothing" if there is none, "unknown" where one cannot be read or the model has no folder.
    """
    folders = {folder.resolve() for folder in (trial.home, home_of(trial.source))}
    paths = sorted(path for folder in folders for path in folder.glob("sweep*.json"))
    found = [_swept_in(path, trial) for path in paths]
    known = [split for split in found if split not in ("nothing", "other images", "unknown")]
    if known:
        return known[0]
    if "other images" in found:
        return "other images"
    return "unknown" if "unknown" in found or not Path(trial.source).is_dir() else "nothing"


def _swept_in(path: Path, trial: Trial) -> str:
    """What one record of a sweep says of this model."""
    try:
        record = json.loads(path.read_text())
        model, reference = record["model"], record["reference"]
        if model["checksum"] != trial.checksum:
            return "nothing"
        same = reference["checksum"] == trial.data.fingerprint
        return str(reference["split"]) if same else "other images"
    except (ValueError, KeyError, TypeError):  # cut off, or of another program
        return "unknown"


def _data_warning(trial: Trial) -> list[str]:
    known = trained_on(trial.source)
    if known is None or known == trial.data.fingerprint:
        return []
    return [
        "the run was trained on other images, or on another split of them: its training images may "
        "be among the reference"
    ]


def _show(card: ProtocolCard, other: ProtocolCard | None, name: str | None) -> None:
    print(card.table())
    if other is None:
        return
    apart = differences(other, card)
    print(f"\ncompared with {name}: {len(apart) or 'no'} settings of the protocol differ")
    for line in apart:
        print(f"  {line}")
    for line in differences(other, card, "software"):
        print(f"  (software) {line}")
    if apart:
        print("these numbers cannot be compared")
        sys.exit(1)
