"""`openunite report`: one run as one HTML page."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

import openunite
from openunite.commands import Report
from openunite.evaluation.card import CARD_VERSION, load_card
from openunite.files import read_json, write_text
from openunite.progress import say
from openunite.reporting.page import Card, Picture, Table, Values, render, shown
from openunite.reporting.tables import (
    by_reason,
    card_of,
    defined,
    headlines,
    metric_table,
    notes,
    other_metrics,
    protocol_of,
)
from openunite.runs import Run, load_pipeline, weights_checksums
from openunite.task import Task, get_task
from openunite.training.config import RunConfig, load_config, to_dict

# Pictures with known captions, in order; others follow under their file names.
_PICTURES = {
    "samples.png": "Samples from noise, none of them picked by hand. Look for variety within a row "
    "and for broken samples.",
    "samples_2d.png": "The bonds that the sampled atoms imply; a cross marks a sample whose bonds "
    "make no sense.",
    "reconstructions.png": "Held-out inputs above what the decoder makes of their latents. Samples "
    "cannot show what the lower row lacks.",
}
Entry = dict[str, Any]  # what the template shows of a part of the run or of an analysis
_CURVES = "curves.png"
_CURVES_CAPTION = (
    "Losses by optimizer step. The reconstruction loss should fall throughout; the flow loss "
    "should rise or stay level. If it falls to 0 early, together with the latent spread, the "
    "latents have collapsed."
)
_MAX_PREVIEWS = 4
_RUN_CARD = "card.json"  # written by `train`; its metrics are those of the run


def report(source: str | Path | Run, *, output: str | Path | None = None) -> Path:
    """Write one HTML page about a run; return its path (default RUN/report.html).

    Raises ValueError for another suffix than .html or .htm and for a damaged file of the run.
    """
    run = source.folder if isinstance(source, Run) else Run.of(source).folder
    path = Path(output or run / "report.html")
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--output must end in .html, got {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, run_page(run))
    say(f"{path.stat().st_size / 1e6:.1f} MB -> {path}; it opens in any browser, offline")
    return path


def run(command: Report) -> None:
    """Run `openunite report`."""
    report(**vars(command))


def run_page(run: Path) -> str:
    """The HTML of a run folder."""
    config = load_config(run / "config.yaml")
    settings = (run / "config.yaml").read_text(encoding="utf-8")
    task = get_task(config.modality)
    data, metrics = Run(run).record, Run(run).metrics
    paths = [path for kind in ("*card*.json", "sweep*.json") for path in sorted(run.glob(kind))]
    cards = {path.name: read_json(path) for path in paths if path.name != _RUN_CARD}
    results, left_out = _results(run / "analysis" / "analysis.json")
    other_pictures = [x for x in sorted(run.glob("*.png")) if x.name not in (*_PICTURES, _CURVES)]
    curves = [run / _CURVES] if (run / _CURVES).is_file() else []
    record = [(name, value) for name, value in data.items() if not isinstance(value, dict)]
    unmeasured = task.measuring(config, run).items()
    return render(
        {
            "title": f"Run {run.resolve().name}",
            "summary": _summary(config, task, data, metrics),
            "warnings": list(_warnings(metrics, results)),
            "parts": _parts(run, task, metrics),
            "other_pictures": [Picture.load(path, path.name) for path in other_pictures],
            "cards": _cards(run, cards),
            "commands": [text for kind, text in unmeasured if not any(kind in x for x in cards)],
            "curves": [Picture.load(path, _CURVES_CAPTION, chart=True) for path in curves],
            "previews": _previews(run / "previews"),
            "results": results,
            "left_out": left_out,
            "settings": [Table("Data", record), *card_of("Settings", to_dict(config)).tables],
            "config": settings,
            "footer": f"openunite {openunite.__version__}",
        }
    )


def _summary(config: RunConfig, task: Task, data: Values, metrics: Values) -> str:
    """One sentence about the model, its data and its training."""
    text = config.kind.title
    text += f", started from {config.init_from}" if config.init_from else ""
    if "parameters" in metrics:
        text += f", with {shown(metrics['parameters'])} parameters"
    text += f", trained on {data.get('name', config.data.source)}"
    if "train_size" in data:
        text += f" ({shown(data['train_size'])} {task.describe(config)}"
        text += f" in {config.num_classes} classes)" if config.num_classes else ")"
    text += f" for {shown(config.steps)} steps with {config.batch_size} samples each"
    if isinstance(seconds := metrics.get("train_seconds"), int | float):
        text += f" in {seconds / 60:.1f} minutes"
    return f"{text}."


def _warnings(metrics: Values, results: list[Entry]) -> Iterator[str]:
    if not metrics:
        yield "This run is not finished: it has no metrics yet."
    if any(("verdict", "collapsed") in result["table"].rows for result in results):
        yield "The latents have collapsed: start again with a lower flow weight."


def _parts(run: Path, task: Task, metrics: Values) -> list[Entry]:
    """The run itself, then its parts; the metrics of a part are prefixed by its name."""
    folders = {f"{name}_": run / name for name in task.parts if (run / name).is_dir()}
    own = {name: x for name, x in metrics.items() if not name.startswith(tuple(folders))}
    parts = [_part("", run, own)]
    for lead, folder in folders.items():
        found = {k.removeprefix(lead): x for k, x in metrics.items() if k.startswith(lead)}
        parts.append(_part(folder.name.capitalize(), folder, found))
    return parts


def _part(name: str, folder: Path, metrics: Values) -> Entry:
    paths = {folder / file: caption for file, caption in _PICTURES.items()}
    pictures = [Picture.load(path, caption) for path, caption in paths.items() if path.is_file()]
    text = folder / "report.txt"
    path = folder / _RUN_CARD
    card = load_card(path) if path.is_file() else None
    tables = [metric_table(card, "Metrics with their errors")] if card else []
    return {
        "name": name,
        "pictures": pictures,
        "tiles": headlines(card) if card else [],
        "tables": [*tables, other_metrics(card, metrics)],
        "notes": list(notes(card)) if card else [],
        "text": text.read_text(encoding="utf-8", errors="replace") if text.is_file() else "",
    }


def _cards(run: Path, values: Mapping[str, Values]) -> list[Card]:
    """Cards and sweeps; a warning marks cards of other weights than the run has now."""
    cards = []
    own: dict[str, tuple[str, str] | None] = {}
    for name, value in values.items():
        if value.get("card_version") != CARD_VERSION:
            cards.append(card_of(name, value))
            continue
        found = load_card(run / name)
        card, model = protocol_of(name, found), found.model
        kind = "raw" if model is not None and model.weights == "raw" else "ema"
        own.setdefault(kind, _checksums(run, kind))
        if model is not None and own[kind] not in (None, (model.encoder, model.decoder)):
            text = f"{name} was measured with other weights than this run has now."
            card = replace(card, warnings=[text, *card.warnings])
        cards.append(card)
    return cards


def _checksums(run: Path, weights: str) -> tuple[str, str] | None:
    """Checksums of the run's encoder and decoder; None if the model cannot be loaded."""
    try:
        pipeline = load_pipeline(str(run), weights)
    except (OSError, ValueError, RuntimeError, SafetensorError):  # missing or damaged
        return None
    return weights_checksums(pipeline)


def _previews(folder: Path) -> list[Picture]:
    """Up to `_MAX_PREVIEWS` previews, evenly spread over the training."""
    paths = sorted(folder.glob("step-*.png"))
    spread = [round(i * (len(paths) - 1) / (_MAX_PREVIEWS - 1)) for i in range(_MAX_PREVIEWS)]
    chosen = sorted(set(spread)) if paths else []
    return [Picture.load(paths[i], f"Step {paths[i].stem[5:].lstrip('0')}") for i in chosen]


def _results(path: Path) -> tuple[list[Entry], dict[str, list[str]]]:
    """The results that `analyze` wrote, and the titles of missing ones by reason."""
    if not path.is_file():
        return [], {}
    record = read_json(path)
    try:
        results = [_result(path.parent, entry) for entry in record["analyses"]]
        return results, by_reason(record["missing"])
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no record of `openunite analyze` ({type(error).__name__}: {error}); remove "
            "it or analyze the run again"
        ) from error


def _result(folder: Path, entry: Values) -> Entry:
    numbers = [
        (name, defined(value))
        for name, value in entry["numbers"].items()
        if not isinstance(value, list | dict)
    ]
    files = [folder / Path(name).name for name in entry["files"]]
    pictures = [Picture.load(path, chart=entry["chart"]) for path in files]
    table = Table(entry["title"], numbers)
    return {**entry, "pictures": pictures, "table": table}
