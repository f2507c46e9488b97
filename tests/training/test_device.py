"""Where to compute: CUDA before MPS before the CPU, and Accelerate agrees."""

import pytest
import torch
from accelerate import PartialState
from torch._subclasses.fake_tensor import FakeTensorMode

from openunite.training.device import choose_device, on_cpu, wide


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
