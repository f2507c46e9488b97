"""Choice of the compute device, and workarounds for what a device lacks."""

import torch
from torch import Tensor


def choose_device() -> torch.device:
    """CUDA if available, else an Apple GPU (MPS), else the CPU; Accelerate chooses the same."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def on_cpu() -> bool:
    """Whether to pass `cpu=True` to Accelerate, which needs it to join torchrun's CPU processes."""
    return choose_device().type == "cpu"


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float64, or in float32 on Apple GPUs, which lack float64."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; the host does not wait for the copy if it is a CUDA device.

    On Apple GPUs a non-blocking copy is unsafe: it may read the source after it was freed.
    """
    return tensor.to(device, non_blocking=device.type == "cuda")


def check_compiler(device: torch.device) -> None:
    """Raise OSError if torch.compile does not work on this device."""
    try:
        torch.compile(torch.neg)(torch.ones(2, device=device))
    except Exception as error:  # whatever its backend raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise OSError(
            f"torch.compile does not work here ({reason}); it needs a C++ compiler, for NVIDIA "
            "GPUs Triton. Install it, or leave --compile out (compile: false)"
        ) from error
