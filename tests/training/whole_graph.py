"""Run apart from pytest, whose shape checker would break every graph: what compiles as one graph.

Prints a line of JSON: for each part the largest relative error against eager mode, of outputs
and gradients. Any graph break raises. Arguments: what to compile, backend (the last three
have Inductor), precision.
"""

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from unittest.mock import patch

import torch
from tests.training.tiny import TinyImages, tiny_color, tiny_config
from torch import Tensor, nn

from openunite.batch import CLASS, Evidence, Given
from openunite.evaluation.images.perceptual import Lpips
from openunite.flow.random import SlotRandom, Stream
from openunite.objective import UniteObjective, sum_of
from openunite.training.build import build_models, build_objective


@dataclass(frozen=True)
class Way:
    """How to compile, and whether under bf16 autocast, as the trainer has it: forward alone."""

    backend: str
    precision: str


def denoiser(objective: UniteObjective, way: Way) -> dict[str, float]:
    """The encoder on registers alone."""
    classes = Given(torch.tensor([0, 4, 10]), torch.tensor([True, True, False]))
    given = torch.randn(3, 4, 8), torch.rand(3), Evidence({CLASS: classes})
    encoder = objective.encoder
    return {"denoise": compare(encoder, lambda f: f(*given), encoder, way)}


def networks(objective: UniteObjective, way: Way) -> dict[str, float]:
    """Both passes of the encoder, and the decoder."""
    encoder, decoder = objective.encoder, objective.decoder
    z, t, image = torch.randn(3, 4, 8), torch.rand(3), torch.rand(3, 1, 28, 28)
    images = tiny_config().modality_config | {"head": "convolutional"}
    refined = build_models(tiny_config(modality_config=images))[1]
    nn.init.normal_(refined.head.refinement.pixel_output.weight, std=0.1)
    return {
        "tokenize": compare(encoder, lambda f: f(z, t, Evidence(observation=image)), encoder, way),
        **denoiser(objective, way),
        "decode": compare(decoder, lambda f: f(z), decoder, way),
        "refine": compare(refined, lambda f: f(z), refined, way),
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


def random(objective: UniteObjective, way: Way) -> dict[str, float]:
    """Fused draws, at several addresses by one compiled function; uniform ones bit for bit."""
    slots, errors = torch.arange(32) * 7 + (1 << 30), {"uniform": 0.0, "normal": 0.0}
    for seed, step, draw in [(3, 0, 0), (2**40 + 7, 1, 1), (2**63 - 1, 2**31 + 5, 13), (0, 9, 2)]:
        plain, fused = (SlotRandom(seed, step, slots, fused=f) for f in (False, True))
        for kind, worst in errors.items():
            a, b = (getattr(r, kind)(Stream.FLOW_NOISE, 4, 6, draw=draw) for r in (plain, fused))
            errors[kind] = max(worst, float((a - b).abs().max()))
        torch._dynamo.config.error_on_recompile = True  # from the second address on
    return errors


def distance(objective: UniteObjective, way: Way) -> dict[str, float]:
    """LPIPS and its gradient."""
    images, found = torch.rand(2, 2, 3, 16, 16), []
    for compiled in (False, True):
        lpips, output = Lpips.random(0), images[0].clone().requires_grad_()
        if compiled:
            lpips.compile()
        value = lpips(output, images[1])
        found.append([value.detach(), *torch.autograd.grad(value.sum(), output)])
    (value, slope), (other, other_slope) = found
    return {"value": relative(other, value), "gradient": relative(other_slope, slope)}


def discriminator(objective: UniteObjective, way: Way) -> dict[str, float]:
    """The decoder against a discriminator: gradients with LPIPS compiled and in eager mode."""
    found = []
    for compiled in (False, True):
        made, images, _ = tiny_color(init_from="elsewhere", objective__stage="decoder")
        if compiled:
            made.modality.compile()
        draws = SlotRandom(0, 7, torch.arange(3))
        for term in made.terms(images.batch([3, 1, 2]), 39, draws):
            term.value.backward()
        found.append(
            torch.cat([p.grad.flatten() for p in made.decoder.parameters() if p.grad is not None])
        )
    plain, other = found
    return {"decoder": relative(other, plain)}


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
    return max(relative(a, b) for a, b in zip(*results, strict=True))


def relative(found: Tensor, expected: Tensor) -> float:
    """Error in norm."""
    return float((found - expected).norm() / expected.norm().clamp_min(1e-6))


if __name__ == "__main__":
    torch.manual_seed(0)
    config = tiny_config()
    made = build_objective(config, *build_models(config))
    for parameter in (*made.encoder.parameters(), *made.decoder.parameters()):
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    parts = {"denoiser": denoiser, "networks": networks, "terms": terms}
    parts |= {"random": random, "distance": distance, "discriminator": discriminator}
    print(json.dumps(parts[sys.argv[1]](made, Way(*sys.argv[2:]))))
