"""The models that a demo offers."""

from collections.abc import Sequence
from pathlib import Path

from openunite.demo.atoms import AtomShow
from openunite.demo.images import ImageShow
from openunite.demo.shows import Show
from openunite.modalities.atoms.pipeline import AtomPipeline
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.runs import Run, load_pipeline
from openunite.training.config import RunConfig, load_config
from openunite.training.device import choose_device
from openunite.weights import TRAINING, packaged_folder


def open_shows(sources: Sequence[str | Path]) -> list[Show]:
    """One show for each run, pipeline folder, packaged name or hub id.

    Raises FileNotFoundError if there is no such model, and ValueError for a model that the demo
    cannot show.
    """
    shows: list[Show] = []
    for source in sources:
        pipeline = load_pipeline(source).to(choose_device())
        name, number = Path(source).name or str(source), 2
        while any(show.name == name for show in shows):
            name, number = f"{Path(source).name} ({number})", number + 1
        kinds: dict[type, type[Show]] = {ImagePipeline: ImageShow, AtomPipeline: AtomShow}
        kind = next((show for base, show in kinds.items() if isinstance(pipeline, base)), None)
        if kind is None:
            raise ValueError(
                f"{source} is a {type(pipeline).__name__}; the demo shows images, molecules and "
                "crystals"
            )
        shows.append(kind(name, pipeline, training_of(source)))
    return shows


def training_of(source: str | Path) -> RunConfig | None:
    """The settings of the run that trained a model, if they are beside it."""
    run = Run.around(source)
    folder = None if Path(source).is_dir() else packaged_folder(source)
    try:
        if run is not None:
            return run.config
        return None if folder is None else load_config(folder / TRAINING)
    except (ValueError, OSError):  # of another version; the model itself can be shown
        return None
