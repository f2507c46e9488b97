"""Reading of pipeline folders without running code: only JSON and safetensors files are read.

Class names in these files are compared with the classes below, and never imported. Sizes are
compared with the contents of the weights files before a model is built.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from openunite.baselines.encoders import ENCODERS
from openunite.files import read_json, sha256_of, write_json
from openunite.hub import hub_or_cache
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import GenerativeEncoder
from openunite.weights import packaged_folder

Part = type[GenerativeEncoder] | type[Decoder]
INDEX, MANIFEST, CONFIG = "model_index.json", "manifest.json", "config.json"
PARTS: dict[str, dict[tuple[str, str], Part]] = {
    "encoder": {(kind.__module__, kind.__name__): kind for kind in ENCODERS.values()},
    "decoder": {(Decoder.__module__, Decoder.__name__): Decoder},
}
MANIFEST_VERSION = 1
_WHOLE = "diffusion_pytorch_model.safetensors"
_SHARD = re.compile(r"diffusion_pytorch_model-\d{5}-of-\d{5}\.safetensors")
_PATTERNS = (CONFIG, _WHOLE, "diffusion_pytorch_model-?????-of-?????.safetensors")
_WANTED = [INDEX, MANIFEST, *(f"{part}/{name}" for part in PARTS for name in _PATTERNS)]
_LONGEST = 2**24  # bytes of a JSON file; lists of class names are the longest


def find_folder(source: str | Path, **download: Any) -> Path:
    """The folder of a pipeline: `source` or inside the run `source`, packaged, or downloaded.

    `download`: revision, token, cache_dir, local_files_only, force_download, as for
    `huggingface_hub.snapshot_download`. Raises OSError or ValueError if both fail.
    """
    path = Path(source)
    if path.is_dir():
        return _in_run(path) if (path / "config.yaml").is_file() else path
    if (packaged := packaged_folder(source)) is not None:
        return packaged
    with hub_or_cache():
        return Path(snapshot_download(str(source), allow_patterns=_WANTED, **download))


def _in_run(folder: Path) -> Path:
    """The pipeline folder of a run. FileNotFoundError if it has only checkpoints."""
    found = next((f for f in (folder, folder / "pipeline") if (f / INDEX).is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"{folder} is not finished; openunite.Run({str(folder)!r}).pipeline loads the weights "
            "of its newest checkpoint"
        )
    return found


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises FileNotFoundError, or ValueError if it is damaged."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; a pipeline folder needs it")
    if path.stat().st_size > _LONGEST:
        raise ValueError(f"{path} is longer than {_LONGEST} bytes; no pipeline has such a file")
    return read_json(path)


def read_index(folder: Path) -> dict[str, Any]:
    """The contents of model_index.json. Raises ValueError if it names unknown components."""
    path = folder / INDEX
    index = read_object(path)
    for part, known in PARTS.items():
        if _pair(index.get(part)) not in known:
            names = " or ".join(f"{module}.{name}" for module, name in known)
            raise ValueError(
                f"{path} names {index.get(part)!r:.200} as {part}, expected {names}; a pipeline "
                "cannot bring classes of its own"
            )
    return index


def part_named(part: str, pair: Any) -> Part:
    """The class of a component of an index that `read_index` returned."""
    found = _pair(pair)
    assert found is not None
    return PARTS[part][found]


def _pair(value: Any) -> tuple[str, str] | None:
    """(library, class) as the index gives it; None for anything else."""
    if isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value):
        return value[0], value[1]
    return None


def weights_of(folder: Path) -> list[Path]:
    """The safetensors files of a component: one file, or shards. Raises FileNotFoundError."""
    whole = folder / _WHOLE
    shards = sorted(p for p in folder.glob("*") if _SHARD.fullmatch(p.name))
    if found := [p for p in ([whole] if whole.is_file() else shards) if p.is_file()]:
        return found
    raise FileNotFoundError(
        f"{whole} is missing; weights of a pipeline are read from safetensors only"
    )


def write_manifest(folder: Path) -> None:
    """Write manifest.json, with the sha256 of every file that loading reads."""
    sums = {name: sha256_of(folder / name) for name in _files(folder)}
    write_json(folder / MANIFEST, {"format_version": MANIFEST_VERSION, "sha256": sums})


def check_manifest(folder: Path) -> None:
    """Raise ValueError if a file has changed since it was saved; no manifest.json is no error."""
    if not (folder / MANIFEST).exists():
        return
    manifest = read_object(folder / MANIFEST)
    version, sums = manifest.get("format_version"), manifest.get("sha256")
    if type(version) is int and version > MANIFEST_VERSION:
        raise ValueError(
            f"{folder / MANIFEST} has format {version}, this openunite reads up to "
            f"{MANIFEST_VERSION}; upgrade openunite"
        )
    if version != MANIFEST_VERSION or not isinstance(sums, Mapping):
        raise ValueError(f"{folder / MANIFEST} is damaged; copy the pipeline again")
    present = _files(folder)
    for name in sorted({*present, *sums}):
        if name not in present or sha256_of(folder / name) != sums.get(name):
            raise ValueError(
                f"{folder / name} is not what was saved (its sha256 is not that of "
                f"{MANIFEST}); copy the pipeline again, or delete {MANIFEST} if the change is yours"
            )


def _files(folder: Path) -> list[str]:
    """The names of the files that loading reads."""
    configs = [folder / INDEX, *(folder / part / CONFIG for part in PARTS)]
    weights = [path for part in PARTS for path in weights_of(folder / part)]
    for path in configs:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; a pipeline folder needs it")
    return [path.relative_to(folder).as_posix() for path in configs + weights]
