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
