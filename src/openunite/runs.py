"""A run folder, and the model behind a name: a run, a pipeline folder, or a hub id."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, Literal

from torch import nn

from openunite.drawing.pictures import read_rows
from openunite.evaluation.images.features.base import module_checksum
from openunite.files import read_json
from openunite.flow.guidance import NO_GUIDANCE
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import Encoder
from openunite.pipelines.base import UnitePipeline
from openunite.pipelines.folder import find_folder, read_index
from openunite.task import pipeline_called, pipeline_class
from openunite.training.build import build_models
from openunite.training.checkpoint import checkpoint_name, list_checkpoints, load_newest
from openunite.training.config import RunConfig, load_config


@dataclass(frozen=True)
class Run:
    """A folder that `train` writes into: what was asked, what came out, and how far it is."""

    folder: Path

    @classmethod
    def of(cls, source: str | Path) -> "Run":
        """The run in a folder, or around the pipeline in it. FileNotFoundError if there is none."""
        found = cls.around(source)
        if found is None:
            raise FileNotFoundError(
                f"{source} is no run: it has no config.yaml; name a folder of `train`"
            )
        return found

    @classmethod
    def around(cls, source: str | Path) -> "Run | None":
        """The run in a folder, or around the pipeline in it; None if there is none."""
        path = Path(source)
        folders = (f for f in (path, path.parent) if (f / "config.yaml").is_file())
        return next((cls(folder) for folder in folders), None)

    @property
    def config(self) -> RunConfig:
        """The settings. ValueError names what is wrong in config.yaml."""
        return load_config(self.folder / "config.yaml")

    @property
    def record(self) -> dict[str, Any]:
        """What is known of the data (data.json); empty in a folder that holds settings alone."""
        path = self.folder / "data.json"
        return read_json(path) if path.is_file() else {}

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics of a finished run (metrics.json), else empty."""
        path = self.folder / "metrics.json"
        return read_json(path) if path.is_file() else {}

    @property
    def log(self) -> list[dict[str, float]]:
        """One row per optimizer step (metrics.jsonl), in the order of the steps."""
        path = self.folder / "metrics.jsonl"
        return read_rows(path) if path.is_file() else []

    @property
    def checkpoints(self) -> list[Path]:
        """The folders of the checkpoints, the newest first."""
        return list_checkpoints(self.folder / "checkpoints")

    @property
    def pictures(self) -> list[Path]:
        """The pictures of a finished run."""
        return sorted(self.folder.glob("*.png"))

    @property
    def state(self) -> Literal["new", "stopped", "collapsed", "finished"]:
        """How far the run is; one that is being trained is "new" or "stopped" for now."""
        if self.is_finished:
            return "finished"
        if (self.folder / "collapsed.json").is_file():
            return "collapsed"
        return "stopped" if self.checkpoints else "new"

    @property
    def is_finished(self) -> bool:
        """Whether there are metrics of the last step."""
        metrics, checkpoints = self.folder / "metrics.json", self.checkpoints
        if not metrics.is_file() or not checkpoints:
            return False
        last = checkpoints[0].name == checkpoint_name(self.config.steps)
        return last and metrics.stat().st_mtime >= checkpoints[0].stat().st_mtime

    @cached_property
    def pipeline(self) -> Any:
        """The trained pipeline: that of a finished run, else of the newest checkpoint's EMA."""
        return load_pipeline(self.folder)

    def from_checkpoint(self, weights: str = "ema") -> UnitePipeline:
        """The pipeline of the newest sound checkpoint. FileNotFoundError if there is none."""
        loaded, complaints = load_newest(self.folder / "checkpoints")
        if loaded is None:
            why = f" ({'; '.join(complaints)})" if complaints else ""
            raise FileNotFoundError(
                f"{self.folder} has no sound checkpoint yet{why}; let it train a little longer"
            )
        encoder, decoder = build_models(self.config)
        parts = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
        # Networks that were only trained along, such as a discriminator, are left out.
        saved = loaded.tensors[weights].items()
        parts.load_state_dict({n: t for n, t in saved if n.partition(".")[0] in parts})
        return make_pipeline(encoder, decoder, self.config, self.record)

    def _repr_html_(self) -> str:
        """The metrics and the pictures, as a notebook shows them."""
        rows = "".join(
            f"<tr><td>{escape(str(k))}</td><td>{escape(str(v))}</td></tr>"
            for k, v in self.metrics.items()
        )
        data = ((p.stem, b64encode(p.read_bytes()).decode()) for p in self.pictures)
        pictures = "".join(
            f'<p>{escape(name)}<br><img src="data:image/png;base64,{text}"></p>'
            for name, text in data
        )
        where = f"<p>{escape(str(self.folder))}: {self.state}</p>"
        return (
            f"{where}{pictures}<details><summary>metrics</summary><table>{rows}</table></details>"
        )


def load_pipeline(source: str | Path, weights: str = "ema") -> UnitePipeline:
    """The pipeline of a finished run, else the newest checkpoint's EMA, a folder, or a hub id.

    `weights` "raw" are those of a run's newest checkpoint that are not averaged. Raises
    FileNotFoundError, one sentence, if `source` is none of these.
    """
    path, name = Path(source), str(source)
    is_run = (path / "config.yaml").is_file()
    if weights == "raw":
        if not is_run:
            raise ValueError(f"raw weights are in a run's checkpoints, {source} is no run folder")
        return Run(path).from_checkpoint("model")
    if (path / "pipeline" / "model_index.json").is_file():
        return _open(path / "pipeline")
    if (path / "model_index.json").is_file():
        return _open(path)
    if is_run:
        return Run(path).from_checkpoint()
    if path.exists() or name.startswith((".", "/")):
        raise FileNotFoundError(
            f"{source} is neither a run (config.yaml, checkpoints/) nor a pipeline folder "
            "(model_index.json)"
        )
    try:
        folder = find_folder(name)
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


def make_pipeline(
    encoder: Encoder, decoder: Decoder, config: RunConfig, record: Mapping[str, Any]
) -> UnitePipeline:
    """A pipeline with the run's sampling settings as defaults; `record` is what data.json keeps."""
    sampling = config.sampling
    if not config.num_classes and not config.conditions:
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
