"""Small trained pipelines that come with the package, each in a folder beside this file.

`tools/package_weights.py` makes them. Their matrices are float16 on disk and float32 in use.
"""

from pathlib import Path

HOME = Path(__file__).parent
TRAINING = "training.yaml"  # the config.yaml of the run that trained the weights


def packaged_names() -> list[str]:
    """The names of the packaged pipelines."""
    return sorted(path.parent.name for path in HOME.glob("*/model_index.json"))


def packaged_folder(name: str | Path) -> Path | None:
    """The folder of the packaged pipeline with this name; None if there is none."""
    return HOME / str(name) if str(name) in packaged_names() else None
