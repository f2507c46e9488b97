"""Where to compute: CUDA before MPS before the CPU, and Accelerate agrees."""

import pytest
import torch
from accelerate import PartialState
from tests.training.apart import run_apart
from torch._subclasses.fake_tensor import FakeTensorMode

from openunite.training.device import check_compiler, choose_device, on_cpu, wide

STAND_IN = "_setup_privateuseone_for_python_backend"


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [
        (True, False, "cuda"),
        (True, True, "cuda"),
        (False, True, "mps"),
        (False, False, "cpu"),
    ],
)
def test_the_fastest_device_there_is(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device() == torch.device(expected)
    assert on_cpu() == (expected == "cpu")


def test_accelerate_computes_on_the_same_kind_of_device() -> None:
    assert PartialState(cpu=on_cpu()).device.type == choose_device().type


@pytest.mark.parametrize(("device", "expected"), [("cpu", torch.float64), ("mps", torch.float32)])
def test_wide_is_what_the_device_has(device: str, expected: torch.dtype) -> None:
    with FakeTensorMode():
        assert wide(torch.empty(3, device=device)).dtype == expected


def test_a_missing_compiler_is_named_before_a_run_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(function: object) -> object:
        def call(given: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("No working C++ compiler found\nSet TORCHDYNAMO_VERBOSE")

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    with pytest.raises(OSError, match=r"\(No working C\+\+ compiler found\).*leave --compile out"):
        check_compiler(torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(torch.utils.backend_registration, STAND_IN),
    reason="this torch cannot name a device without kernels",
)
def test_steps_and_samples_never_mix_host_and_device() -> None:
    """And the host asks once per step for a number: whether the step is finite."""
    assert run_apart("elsewhere.py") == {"images": 1, "molecules": 1, "crystals": 1}
