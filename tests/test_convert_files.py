"""Which weights of a file are taken, and what happens to files that are not to be trusted."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.released_checkpoint import GIVEN, is_model, released, run

from openunite.convert import convert
from openunite.modalities.image.pipeline import ImagePipeline

CHECKPOINT = {
    "model": released(0),
    "model_ema": {f"module.{name}": x for name, x in released(1).items()},
    "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]},
    "scheduler": {"last_epoch": 3},
    "epoch": 3,
}


@pytest.mark.parametrize(
    ("weights", "seed", "path"), [("ema", 1, "model_ema"), ("raw", 0, "model")]
)
def test_choice_of_weights(tmp_path: Path, weights: str, seed: int, path: str) -> None:
    report, pipeline = run(tmp_path, CHECKPOINT, weights=weights)
    assert is_model(pipeline, seed)
    assert report.weights == repr(path)
    assert {"optimizer", "scheduler", "epoch", "model", "model_ema"} - {path} <= set(report.unused)
    assert report.unexpected == []


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"one set of ema .* sets found: 'model'; try --weights raw"
    ):
        run(tmp_path, {"model": released(), "epoch": 1})
    with pytest.raises(ValueError, match=r"one set of raw .* sets found: 'ema'; try --weights ema"):
        run(tmp_path, {"ema": released(), "epoch": 1}, weights="raw")
    with pytest.raises(ValueError, match="got 2; sets found: 'a', 'b'"):
        run(tmp_path, {"a": released(0), "b": released(1), "epoch": 1}, weights="raw")
    with pytest.raises(
        ValueError, match=r"expected tensors called latent_tokens and .* got weight"
    ):
        run(tmp_path, {"weight": torch.zeros(2)})


@pytest.mark.parametrize(
    "average",
    [{"shadow_params": [torch.zeros(2)], "decay": 0.9}, [torch.zeros(2)]],
)
def test_average_without_names_is_refused(tmp_path: Path, average: Any) -> None:
    with pytest.raises(ValueError, match=r"a list without names .*Sets with names: 'model'"):
        run(tmp_path, {"model": released(), "ema": average})
    assert is_model(run(tmp_path, {"model": released(), "ema": average}, weights="raw")[1], 0)


def test_moments_kept_by_parameter_name_are_no_weights(tmp_path: Path) -> None:
    content = {"state": {"net": released(0), "optim": {"momentum": released(1)}}}
    assert is_model(run(tmp_path, content, weights="raw")[1], 0)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.replace("decoder.", "decoder._orig_mod.", 1),
        lambda name: f"module.{name}",
        lambda name: f"_orig_mod.module.{name}",
        lambda name: f"model.{name}",
    ],
)
def test_wrappers_in_names(tmp_path: Path, rename: Callable[[str], str]) -> None:
    weights = {rename(name): tensor for name, tensor in released().items()}
    report, pipeline = run(tmp_path, weights, weights="raw")
    assert is_model(pipeline, 0)
    assert report.unexpected == []


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    weights = released()
    weights["module.latent_tokens"] = weights["latent_tokens"].clone()
    with pytest.raises(ValueError, match="one tensor called latent_tokens, got two"):
        run(tmp_path, weights)


class Malicious:
    """Runs a command when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["zip", "old", "plain"])
def test_code_in_a_pickle_never_runs(tmp_path: Path, form: str) -> None:
    source, trace = tmp_path / "w.pt", tmp_path / "trace"
    content = {"model": released(), "args": Malicious(trace)}
    if form == "plain":
        source.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, source, _use_new_zipfile_serialization=form == "zip")
    message = "cannot be read as plain tensors .*mkdir.*nothing in it was run"
    with pytest.raises(ValueError, match=message if form != "plain" else "nothing in it was run"):
        convert(source, tmp_path / "pipeline", weights="raw", **GIVEN)
    assert not trace.exists()
    assert not (tmp_path / "pipeline").exists()


def test_old_pickle_form_is_read(tmp_path: Path) -> None:
    torch.save(CHECKPOINT, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    convert(tmp_path / "w.pth", tmp_path / "pipeline", **GIVEN)
    assert is_model(ImagePipeline.from_pretrained(tmp_path / "pipeline"), 1)


def test_old_torch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(CHECKPOINT, tmp_path / "w.pt")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(ValueError, match=r"got 2.9.1.*CVE-2025-32434, CVE-2026-24747"):
        convert(tmp_path / "w.pt", tmp_path / "pipeline", **GIVEN)


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 broken zip"])
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot be read|not a sound safetensors file"):
        convert(tmp_path / name, tmp_path / "pipeline")


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").touch()
    with pytest.raises(ValueError, match=r"expected a .safetensors, .pt or .pth file, got weights"):
        convert(tmp_path / "weights.bin", tmp_path / "pipeline")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        convert(tmp_path / "nowhere.pt", tmp_path / "pipeline")
