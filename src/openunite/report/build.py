"""`openunite report`: one run as one HTML page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError

import openunite
from openunite.commands import Report
from openunite.files import write_text
from openunite.loading import load_pipeline, weights_checksums
from openunite.modalities.joint.tokens import CLASS_NAMES
from openunite.report.page import folded, heading, page, paragraph, picture, shown, table, tiles
from openunite.report.tables import (
    Values,
    by_reason,
    card_tables,
    headlines,
    measured,
    metric_tables,
)
from openunite.training.config import RunConfig, load_config

# Known pictures and their captions, in order; others follow under their file names.
_PICTURES = {
    "samples.png": "Samples from noise. Look for variety within a row and for broken ones: nothing "
    "was picked by hand.",
    "samples_2d.png": "The bonds that the sampled atoms imply; a cross where no bonds make sense.",
    "reconstructions.png": "Held-out inputs above what the decoder makes of their latents: what "
    "the lower row lacks, no sample can have.",
}
_CURVES = "curves.png"
_CURVES_CAPTION = (
    "Losses by optimizer step. Reconstruction should fall throughout; the flow loss should rise or "
    "stay level, for an early fall to 0, with the latent spread, is collapse."
)
_PREVIEWS = 4


def report(command: Report) -> None:
    """Write the page."""
    run = Path(command.source)
    if not (run / "config.yaml").is_file():
        raise FileNotFoundError(f"{run} is no run: it has no config.yaml; name a folder of `train`")
    output = Path(command.output or run / "report.html")
    if output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--output must end in .html, got {output}")
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, run_page(run))
    print(f"{output.stat().st_size / 1e6:.1f} MB -> {output}; it opens in any browser, offline")


def run_page(run: Path) -> str:
    """The HTML of a run folder; whatever is not there yet is left out."""
    config = load_config(run / "config.yaml")
    data, metrics = _json(run / "data.json"), _json(run / "metrics.json")
    analysis = _analyses(run / "analysis" / "analysis.json")
    found = [*sorted(run.glob("*card*.json")), *sorted(run.glob("sweep*.json"))]
    cards = {path.name: _json(path) for path in found}
    used = {*_PICTURES, _CURVES}
    parts = [run / name for name in CLASS_NAMES if (run / name).is_dir()]
    sections = {
        "Pictures": _pictures(run) + "".join(map(_part_pictures, parts)),
        "Metrics": _metrics(run, metrics, parts),
        "Protocol": _protocol(run, config, cards),
        "Training": _training(run),
        "Analysis": _analysis(run / "analysis", analysis),
        "Other pictures": "".join(
            picture(path, path.stem, path.name)
            for path in sorted(run.glob("*.png"))
            if path.name not in used
        ),
        "Settings": _settings(run, data),
    }
    name = run.resolve().name
    return page(f"Run {name}", _summary(config, data, metrics, analysis), sections, _foot(metrics))


def _pictures(folder: Path) -> str:
    return "".join(_run_picture(folder / name, text) for name, text in _PICTURES.items())


def _part_pictures(part: Path) -> str:
    found = _pictures(part)
    return heading(part.name.capitalize()) + found if found else ""


def _metrics(run: Path, metrics: Values, parts: Sequence[Path]) -> str:
    """Of the run, then of each kind in a joint run, whose name leads those of its metrics."""
    leads = tuple(f"{part.name}_" for part in parts)
    text = metric_tables({k: v for k, v in metrics.items() if not k.startswith(leads)})
    text += _text(run / "report.txt", "The same as text")
    for part, lead in zip(parts, leads, strict=True):
        plain = {k.removeprefix(lead): v for k, v in metrics.items() if k.startswith(lead)}
        text += heading(part.name.capitalize()) + tiles(headlines(plain)) + metric_tables(plain)
        text += _text(part / "report.txt", "The same as text")
    return text


def _summary(config: RunConfig, data: Values, metrics: Values, analysis: Values) -> str:
    """What was trained on what, in words, and the first numbers to look at."""
    things = {"joint": "structures"}.get(config.modality, f"{config.modality}s")
    size = config.modality_config
    if config.modality == "image":
        things += f" of {size['height']} x {size['width']}"
    train = data.get("train_size")
    text = _kind(config)
    if "parameters" in metrics:
        text += f", with {metrics['parameters'] / 1e6:.2f} million parameters"
    text += f", trained on {data.get('name', config.data.source)}"
    if train is not None:
        text += f" ({shown(train)} {things}"
        text += f" in {config.num_classes} classes)" if config.num_classes else ")"
    text += f" for {shown(config.steps)} steps of {config.batch_size} each"
    if "train_seconds" in metrics:
        text += f" in {metrics['train_seconds'] / 60:.1f} minutes"
    warnings = []
    if not metrics:
        warnings.append("This run is not finished: it has no metrics yet.")
    if _verdict(analysis) == "collapsed":
        warnings.append("The latents have collapsed: start again with a lower flow weight.")
    notes = "".join(paragraph(line, "warning") for line in warnings)
    return paragraph(text + ".") + notes + tiles(headlines(metrics))


def _kind(config: RunConfig) -> str:
    """What is trained, and what it starts from."""
    tokenizer, stage = config.model.tokenizer, config.objective.stage
    if stage == "autoencoder":
        text = "An autoencoder, the first of two stages"
        text += ", with a posterior as in a KL-VAE" if tokenizer == "posterior" else ""
    elif stage == "denoiser":
        text = "A network that generates in the latents of an autoencoder, the second of two stages"
    elif stage == "decoder":
        text = "A decoder trained on against a discriminator, the rest as it was"
    elif tokenizer == "shared":
        text = "One network that tokenizes and generates"
    else:
        text = "A network that tokenizes and another one that generates, trained together"
    return text + (f", started from {config.init_from}" if config.init_from else "")


def _verdict(analysis: Values) -> Any:
    entries = {entry["name"]: entry for entry in analysis.get("analyses", [])}
    return entries["dynamics"]["numbers"].get("verdict") if "dynamics" in entries else None


def _protocol(run: Path, config: RunConfig, cards: Mapping[str, Values]) -> str:
    """Cards and sweeps, then the commands for what is not there; `evaluate` is for images."""
    text, others = "", _of_other_weights(run, cards)
    for name, card in cards.items():
        if name in others:
            line = f"{name} is of other weights than this run has now: its numbers are of those."
            text += paragraph(line, "warning")
        text += card_tables(name, card)
    if config.modality != "image":
        return text
    commands = {"card": f"`openunite evaluate {run}` for a protocol card"}
    if config.num_classes:
        commands["sweep"] = f"`openunite sweep {run}` for a curve over guidance scales"
    missing = [line for kind, line in commands.items() if not any(kind in name for name in cards)]
    if missing:
        lead = "Not yet there" if text else "None yet"
        text += paragraph(f"{lead}: run {' and '.join(missing)}, then report again.", "soft")
    return text


def _of_other_weights(run: Path, cards: Mapping[str, Values]) -> set[str]:
    """The cards that name a model with other weights than the run has now."""
    named = {name: card["model"] for name, card in cards.items() if _names_weights(card)}
    kinds = {name: str(model.get("weights")) for name, model in named.items()}
    own = {kind: _checksum(run, kind) for kind in set(kinds.values())}
    return {
        name for name, model in named.items() if own[kinds[name]] not in (None, model["checksum"])
    }


def _names_weights(card: Values) -> bool:
    return isinstance(card.get("model"), dict) and "checksum" in card["model"]


def _checksum(run: Path, weights: str) -> str | None:
    """That of the run's model as a card has it, None if it cannot be had."""
    try:
        pipeline = load_pipeline(str(run), "raw" if weights == "raw" else "ema")
    except (OSError, ValueError, RuntimeError, SafetensorError):  # gone, or damaged
        return None
    return "".join(weights_checksums(pipeline))


def _training(run: Path) -> str:
    curves = _run_picture(run / _CURVES, _CURVES_CAPTION, chart=True)
    found = sorted((run / "previews").glob("step-*.png"))
    last = len(found) - 1
    picks = sorted({round(i * last / (_PREVIEWS - 1)) for i in range(_PREVIEWS)} if found else ())
    shots = "".join(
        picture(found[i], f"preview {found[i].stem}", f"Step {int(found[i].stem[5:]):,}")
        for i in picks
    )
    about = paragraph("The same noise in the course of training:") if shots else ""
    return curves + about + (f'<div class="row">{shots}</div>' if shots else "")


def _analysis(folder: Path, analysis: Values) -> str:
    """Each analysis as a card: figures, how to read them, numbers."""
    if not analysis:
        return paragraph(
            "None yet: run `openunite analyze` on this run, then report again.", "soft"
        )
    parts = []
    for entry in analysis["analyses"]:
        numbers = [
            (name, measured(value))
            for name, value in entry["numbers"].items()
            if not isinstance(value, list | dict)
        ]
        figures = "".join(
            picture(folder / name, entry["title"], chart=entry["chart"]) for name in entry["files"]
        )
        text = paragraph(entry["reading"], "soft")
        values = table(("", ""), numbers, label=entry["title"])
        parts.append(f'<div class="card">{heading(entry["title"])}{figures}{text}{values}</div>')
    for reason, titles in by_reason(analysis["missing"]).items():
        parts.append(paragraph(f"Left out, for {reason}: {', '.join(titles)}.", "soft"))
    return "".join(parts)


def _settings(run: Path, data: Values) -> str:
    record = [(name, value) for name, value in data.items() if not isinstance(value, dict)]
    settings = (run / "config.yaml").read_text()
    again = f"openunite train --config {run}/config.yaml --output runs/again"
    return (
        table(("", ""), record, "Data")
        + card_tables("Settings", yaml.safe_load(settings))
        + folded("config.yaml, which trains this run again", settings)
        + folded("The command", again)
    )


def _foot(metrics: Values) -> str:
    versions = f"openunite {openunite.__version__}"
    if "torch_version" in metrics:
        versions += f"; trained with torch {metrics['torch_version']}"
    return paragraph(versions)


def _run_picture(path: Path, caption: str, *, chart: bool = False) -> str:
    return picture(path, path.stem, caption, chart=chart) if path.is_file() else ""


def _text(path: Path, title: str) -> str:
    return folded(title, path.read_text()) if path.is_file() else ""


def _analyses(path: Path) -> Values:
    """The record of `analyze`, empty if there is none. ValueError if it is another file."""
    found, keys = _json(path), {"name", "title", "reading", "chart", "files", "numbers"}
    entries = found.get("analyses")
    whole = isinstance(entries, list) and all(
        isinstance(x, dict) and keys <= set(x) for x in entries
    )
    if found and not (whole and "missing" in found):
        raise ValueError(
            f"{path} is no record of `openunite analyze`, which has analyses and what is missing; "
            "remove it or analyze the run again"
        )
    return found


def _json(path: Path) -> Mapping[str, Any]:
    """A JSON object, empty if there is no such file. ValueError if it is damaged."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of its syntax or its encoding
        raise ValueError(f"{path} is no sound JSON ({error}); remove it or make it anew") from error
    return found if isinstance(found, dict) else {"value": found}
