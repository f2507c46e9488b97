"""`openunite sweep RUN`: samples at several guidance scales, on images kept for this alone."""

import math
from pathlib import Path

from openunite.commands import Sweep
from openunite.evaluation.card import software
from openunite.evaluation.images.feature_sets import gather
from openunite.evaluation.images.features.base import Extractor
from openunite.evaluation.images.sets import evaluations_in
from openunite.files import write_json
from openunite.modalities.image.trial import Sampling, open_trial
from openunite.verbs.evaluate import of_model, of_samples

FIRST_SEED = 1_000_000_000  # far from those of `evaluate`


def sweep(command: Sweep, extractor: Extractor | None = None) -> None:
    """Print the whole curve and write it; nothing is selected.

    `extractor` takes the place of the one that the command names.
    """
    if not command.scales or not all(map(math.isfinite, command.scales)):
        given = " ".join(map(str, command.scales)) or "none"
        raise ValueError(f"--scales must be finite numbers, at least one, got {given}")
    trial = open_trial(command, extractor=extractor)
    if trial.num_classes == 0:
        raise ValueError(f"{command.source} was trained without classes: there is no guidance")
    sampling = Sampling(
        command.num_samples, FIRST_SEED, command.solver, command.num_inference_steps
    )
    reference, _ = trial.real("sweep")
    made = [trial.samples(sampling, scale) for scale in command.scales]
    if not trial.crew.leads:
        return
    judge, labels = trial.judge(reference), trial.labels(sampling)
    curve = [
        {"scale": scale, "evaluations": evaluations_in(drawn)} | judge.judge(gather(found), labels)
        for scale, (drawn, found) in zip(command.scales, made, strict=True)
    ]
    path = Path(command.output or trial.home / f"sweep-{trial.extractor.name}.json")
    record = {
        "extractor": {"name": trial.extractor.name, "checksum": trial.extractor.checksum},
        "reference": {
            "data": trial.data.name,
            "checksum": trial.data.fingerprint,
            "split": "sweep",
            "images": len(trial.rows("sweep")[1]),
        },
        "model": of_model(trial),
        **of_samples(trial, sampling),
        "guidance": {"interval": list(trial.pipeline.sampling.guidance_interval)},
        "curve": curve,
        "software": software(str(trial.device), trial.crew.world),
    }
    write_json(path, record)
    print(f"\n{_table(curve)}\n-> {path}")
    print(
        "These are images of the training part. Choose a scale, then measure it once on the test\n"
        f"images: openunite evaluate {command.source} --guidance-scale SCALE"
    )


def _table(curve: list[dict[str, float]]) -> str:
    names = [name for name in curve[0] if not name.endswith("deviation")]
    widths = [max(9, len(name)) for name in names]
    lines = ["  ".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))]
    for row in curve:
        cells = zip(names, widths, strict=True)
        lines.append("  ".join(f"{row[name]:>{width}.5g}" for name, width in cells))
    return "\n".join(lines)
