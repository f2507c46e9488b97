"""Finding the model behind a name: a run, a pipeline folder, or a hub id."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from openunite.evaluation.images.features.base import module_checksum
from openunite.files import read_json
from openunite.flow.guidance import NO_GUIDANCE
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import Encoder
from openunite.pipelines.base import UnitePipeline
from openunite.pipelines.folder import find_folder, read_index
from openunite.task import pipeline_called, pipeline_class
from openunite.training.build import build_models
from openunite.training.checkpoint import load_newest
from openunite.training.config import RunConfig, load_config


def load_pipeline(source: str, weights: str = "ema") -> UnitePipeline:
    """The pipeline of a finished run, else the newest checkpoint's EMA, a folder, or a hub id.

    `weights` "raw" are those of a run's newest checkpoint that are not averaged. Raises
    FileNotFoundError, one sentence, if `source` is none of these.
    """
    path = Path(source)
    if weights == "raw":
        if not (path / "config.yaml").is_file():
            raise ValueError(f"raw weights are in a run's checkpoints, {source} is no run folder")
        return _from_checkpoint(path, "model")
    if (path / "pipeline" / "model_index.json").is_file():
        return _open(path / "pipeline")
    if (path / "model_index.json").is_file():
        return _open(path)
    if (path / "config.yaml").is_file():
        return _from_checkpoint(path)
    if path.exists() or source.startswith((".", "/")):
        raise FileNotFoundError(
            f"{source} is neither a run (config.yaml, checkpoints/) nor a pipeline folder "
            "(model_index.json)"
        )
    try:
        folder = find_folder(source)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{source} is no run, no pipeline folder, and could not be had from the hub "
            f"({type(error).__name__})"
        ) from error
    return _open(folder)


def _open(folder: Path) -> UnitePipeline:
    kind = read_index(folder).get("_class_name")
    found = pipeline_called(kind)
    if found is None:
        raise ValueError(
            f"{folder} holds a {kind or 'model of another kind'}, no openunite pipeline"
        )
    return found.from_pretrained(folder)


def _from_checkpoint(run: Path, weights: str = "ema") -> UnitePipeline:
    config = load_config(run / "config.yaml")
    loaded, complaints = load_newest(run / "checkpoints")
    if loaded is None:
        why = f" ({'; '.join(complaints)})" if complaints else ""
        raise FileNotFoundError(
            f"{run} has no sound checkpoint yet{why}; let it train a little longer"
        )
    encoder, decoder = build_models(config)
    parts = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    # Not of what was only trained along.
    saved = loaded.tensors[weights].items()
    parts.load_state_dict({n: t for n, t in saved if n.partition(".")[0] in parts})
    return make_pipeline(encoder, decoder, config, _record(run))


def _record(run: Path) -> dict[str, Any]:
    """data.json, which `train` writes; empty in a folder that holds settings alone."""
    record = run / "data.json"
    return read_json(record) if record.is_file() else {}


def make_pipeline(
    encoder: Encoder, decoder: Decoder, config: RunConfig, record: Mapping[str, Any]
) -> UnitePipeline:
    """A pipeline with the run's sampling settings as defaults; `record` is what data.json keeps."""
    sampling = config.sampling
    if not config.num_classes:
        sampling = sampling.change(guidance_scale=NO_GUIDANCE)
    pipeline = pipeline_class(config.modality)(
        encoder.eval(),
        decoder.eval(),
        sampling,
        class_names=list(record.get("class_names", ())),
        size_histogram=list(record.get("size_histogram", ())),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def weights_checksums(pipeline: UnitePipeline) -> tuple[str, str]:
    """Checksums of the encoder's and the decoder's weights, 32 characters of sha256 each."""
    encoder, decoder = (module_checksum(part)[:32] for part in (pipeline.encoder, pipeline.decoder))
    return encoder, decoder
