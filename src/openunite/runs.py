"""Run folders, and loading a model from a run, a pipeline folder or a hub id."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from torch import nn

from openunite.evaluation.images.features.base import module_checksum
from openunite.files import read_json
from openunite.flow.guidance import NO_GUIDANCE
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import Encoder
from openunite.pipelines.base import UnitePipeline
from openunite.pipelines.folder import CONFIG, find_folder, read_index, read_object
from openunite.task import pipeline_class
from openunite.training.build import build_models
from openunite.training.checkpoint import checkpoint_name, list_checkpoints, load_newest
from openunite.training.config import MEMORY, RunConfig, load_config
from openunite.training.log import read_rows
from openunite.weights import packaged_names


@dataclass(frozen=True)
class Run:
    """A folder that `train` writes into: its settings, data record, results and progress."""

    folder: Path

    @classmethod
    def of(cls, source: str | Path) -> "Run":
        """The run in a folder or in its parent. Raises FileNotFoundError if there is none."""
        found = cls.around(source)
        if found is None:
            raise FileNotFoundError(
                f"{source} is no run: it has no config.yaml; name a folder of `train`"
            )
        return found

    @classmethod
    def around(cls, source: str | Path) -> "Run | None":
        """The run in a folder or, if that is a run's pipeline folder, in its parent; else None."""
        path = Path(source)
        folders = (f for f in (path, path.parent) if (f / "config.yaml").is_file())
        return next((cls(folder) for folder in folders), None)

    @property
    def config(self) -> RunConfig:
        """The settings of the run. Raises ValueError for an error in config.yaml."""
        return load_config(self.folder / "config.yaml")

    @property
    def record(self) -> dict[str, Any]:
        """The record of the data (data.json), empty if there is none yet."""
        return self._read("data.json")

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics of a finished run (metrics.json), empty if there are none yet."""
        return self._read("metrics.json")

    @property
    def log(self) -> list[dict[str, float]]:
        """One row per optimizer step (metrics.jsonl), in the order of the steps."""
        path = self.folder / "metrics.jsonl"
        return read_rows(path) if path.is_file() else []

    @property
    def checkpoints(self) -> list[Path]:
        """The checkpoint folders, newest first."""
        return list_checkpoints(self.folder / "checkpoints")

    @property
    def pictures(self) -> list[Path]:
        """The pictures of a finished run."""
        return sorted(self.folder.glob("*.png"))

    @property
    def state(self) -> Literal["new", "stopped", "collapsed", "finished"]:
        """The state of the run; one that is being trained counts as "new" or "stopped"."""
        if self.is_finished:
            return "finished"
        if (self.folder / "collapsed.json").is_file():
            return "collapsed"
        return "stopped" if self.checkpoints else "new"

    @property
    def is_finished(self) -> bool:
        """Whether the run has metrics that were computed after its last step."""
        metrics, checkpoints = self.folder / "metrics.json", self.checkpoints
        if not metrics.is_file() or not checkpoints:
            return False
        last = checkpoints[0].name == checkpoint_name(self.config.steps)
        return last and metrics.stat().st_mtime >= checkpoints[0].stat().st_mtime

    def source(self, data: Any = None) -> Any:
        """What to open: `data`, or what the run was trained on. ValueError if that is gone."""
        return source_of(self.config, data)

    @cached_property
    def pipeline(self) -> Any:
        """The pipeline of a finished run, else the EMA weights of the newest checkpoint."""
        return load_pipeline(self.folder)

    def from_checkpoint(self, weights: str = "ema") -> UnitePipeline:
        """A pipeline with weights of the newest sound checkpoint: "ema", or "model" for raw ones.

        Raises FileNotFoundError if there is none.
        """
        loaded, complaints = load_newest(self.folder / "checkpoints")
        if loaded is None:
            why = f" ({'; '.join(complaints)})" if complaints else ""
            raise FileNotFoundError(
                f"{self.folder} has no sound checkpoint yet{why}; let it train a little longer"
            )
        encoder, decoder = build_models(self.config)
        parts = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
        # Other trained networks, such as a discriminator, are left out.
        saved = loaded.tensors[weights].items()
        parts.load_state_dict({n: t for n, t in saved if n.partition(".")[0] in parts})
        return make_pipeline(encoder, decoder, self.config, self.record)

    def _read(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        return read_json(path) if path.is_file() else {}

    def _repr_html_(self) -> str:
        """The pictures and the metrics as HTML, for notebooks."""
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
    """Load the pipeline of a run, a pipeline folder, a packaged name or a hub id.

    An unfinished run gives the EMA weights of its newest checkpoint. `weights` "raw" gives the
    weights of a run's newest checkpoint without averaging. Raises FileNotFoundError if there is no
    model, and ValueError for raw weights of another source than a run.
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
            f"{source} is no run, no pipeline folder, no packaged model "
            f"({', '.join(packaged_names()) or 'none'}), and could not be had from the hub "
            f"({type(error).__name__})"
        ) from error
    return _open(folder)


def _open(folder: Path) -> UnitePipeline:
    read_index(folder)  # raises for other pipelines
    modality = read_object(folder / "encoder" / CONFIG).get("modality")
    try:
        kind = pipeline_class(str(modality))
    except ValueError as error:
        raise ValueError(f"{folder} cannot be opened: {error}") from error
    return kind.from_pretrained(folder)


def make_pipeline(
    encoder: Encoder, decoder: Decoder, config: RunConfig, record: Mapping[str, Any]
) -> UnitePipeline:
    """A pipeline with the run's sampling settings; `record` is the contents of data.json."""
    sampling = config.sampling
    if not config.num_classes and not config.conditions:
        sampling = sampling.change(guidance_scale=NO_GUIDANCE)
    kind = pipeline_class(config.modality)
    pipeline = kind(
        encoder.eval(),
        decoder.eval(),
        sampling,
        **{name: record[name] for name in signature(kind).parameters if name in record},
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def source_of(config: RunConfig, data: Any = None) -> Any:
    """What to open: `data`, or the source of the settings. ValueError if that was in memory."""
    if data is None and config.data.source == MEMORY:
        raise ValueError(
            "the data of this run were in the memory of a program; give them again, as `data` from "
            "Python or as a file with --data"
        )
    return config.data.source if data is None else data


def weights_checksums(pipeline: UnitePipeline) -> tuple[str, str]:
    """Checksums of encoder and decoder weights: the first 32 hex digits of a sha256 each."""
    encoder, decoder = (module_checksum(part)[:32] for part in (pipeline.encoder, pipeline.decoder))
    return encoder, decoder
