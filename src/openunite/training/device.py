"""The one place that chooses where to compute, and that knows what a device lacks."""

import torch
from torch import Tensor


def choose_device() -> torch.device:
    """CUDA, else an Apple GPU (MPS), else the CPU: what Accelerate takes, too."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def on_cpu() -> bool:
    """Accelerate joins torchrun's processes on a CPU only if it is told that it is on one."""
    return choose_device().type == "cpu"


def wide(tensor: Tensor) -> Tensor:
    """In float64; in float32 on an Apple GPU, which has no float64."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """To the device, on CUDA without waiting.

    There a copy is safe once the call has returned; an Apple GPU may still read the memory of a
    tensor that is gone.
    """
    return tensor.to(device, non_blocking=device.type == "cuda")


def check_compiler(device: torch.device) -> None:
    """OSError if torch.compile does not work here, before a run has begun."""
    try:
        torch.compile(torch.neg)(torch.ones(2, device=device))
    except Exception as error:  # whatever its backend raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise OSError(
            f"torch.compile does not work here ({reason}); it needs a C++ compiler, for NVIDIA "
            "GPUs Triton. Install it, or leave --compile out (compile: false)"
        ) from error
