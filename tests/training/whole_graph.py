"""Run apart from pytest, whose shape checker would break every graph: what compiles as one graph.

Prints a line of JSON: for each part the largest relative error against eager mode, of outputs
and gradients. Any graph break raises. Arguments: what to compile, backend, precision.
"""

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from unittest.mock import patch

import torch
from tests.training.tiny import TinyImages, tiny_config
from torch import Tensor, nn

from openunite.flow.random import SlotRandom
from openunite.objective import UniteObjective, sum_of
from openunite.training.build import build_models, build_objective


@dataclass(frozen=True)
class Way:
    """How to compile, and whether under bf16 autocast, as the trainer has it: forward alone."""

    backend: str
    precision: str


def denoiser(objective: UniteObjective, way: Way) -> dict[str, float]:
    """The encoder on registers alone."""
    given = torch.randn(3, 4, 8), torch.rand(3), torch.tensor([0, 4, 10])
    encoder = objective.encoder
    return {"denoise": compare(encoder, lambda f: f(*given), encoder, way)}


def networks(objective: UniteObjective, way: Way) -> dict[str, float]:
    """Both passes of the encoder, and the decoder."""
    encoder, decoder = objective.encoder, objective.decoder
    z, t, image = torch.randn(3, 4, 8), torch.rand(3), torch.rand(3, 1, 28, 28)
    return {
        "tokenize": compare(encoder, lambda f: f(z, t, None, image), encoder, way),
        **denoiser(objective, way),
        "decode": compare(decoder, lambda f: f(z), decoder, way),
    }


def terms(objective: UniteObjective, way: Way) -> dict[str, float]:
    """Equation (5) with its random numbers: the reconstruction, and one flow draw."""
    model = nn.ModuleDict({"encoder": objective.encoder, "decoder": objective.decoder})
    batch = objective.modality.prepare(TinyImages().batch([3, 1, 2]), None)
    random, target = SlotRandom(0, 7, torch.arange(3)), torch.randn(3, 4, 8)

    def reconstruction() -> Tensor:
        z0 = objective.tokenize(batch, random)
        output = objective.decoder(objective.perturb(z0, batch, random))
        return sum_of(objective.modality.reconstruction_losses(output, batch))

    def flow() -> Tensor:
        return objective.flow_loss(target, batch, random, (2,))

    found = {"reconstruction": reconstruction, "flow": flow}
    return {name: compare(call, lambda f: f(), model, way) for name, call in found.items()}


def compare(function: Callable, call: Callable, model: nn.Module, way: Way) -> float:
    """Largest relative error, in norm, of a whole graph against eager mode.

    Of an output or a gradient; both with plain rotations.
    """
    results = []
    compiled = torch.compile(function, fullgraph=True, dynamic=False, backend=way.backend)
    as_compiled = patch("torch.compiler.is_compiling", lambda: True)
    for chosen, how in ((compiled, nullcontext()), (function, as_compiled)):
        with how, torch.autocast("cpu", torch.bfloat16, enabled=way.precision == "bf16"):
            output = call(chosen)
        (output if output.ndim == 0 else output.square().sum()).backward()
        grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        model.zero_grad()
        results.append([output.detach(), *grads])
    pairs = zip(*results, strict=True)
    return max(float((a - b).norm() / b.norm().clamp_min(1e-6)) for a, b in pairs)


if __name__ == "__main__":
    torch.manual_seed(0)
    config = tiny_config()
    made = build_objective(config, *build_models(config))
    for parameter in (*made.encoder.parameters(), *made.decoder.parameters()):
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    parts = {"denoiser": denoiser, "networks": networks, "terms": terms}
    print(json.dumps(parts[sys.argv[1]](made, Way(*sys.argv[2:]))))
