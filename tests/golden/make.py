"""Golden files: what the model computed when it was known to be right.

Made once with the parity tests green; `python tests/golden/make.py` writes them anew, which a
change of the mathematics alone may do. Weights are not stored: every parameter is a function of
its name and a seed through the counter-based generator, so no random generator of torch matters.
"""

import zlib
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from openunite.batch import CLASS, Batch, Evidence, Given
from openunite.flow.path import interpolate
from openunite.flow.random import SlotRandom, seeded_normal
from openunite.flow.solvers import solve
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.modality import get_modality
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import GenerativeEncoder
from openunite.objective import UniteObjective
from openunite.sampling import Sampling

FOLDER = Path(__file__).parent
CLASSES, STEP, LABELS = 3, 7, (2, 0)


@dataclass(frozen=True)
class Case:
    """Two small models; `gradients` are the parameters whose gradients are kept."""

    images: dict[str, Any]
    num_registers: int
    latent_channels: int
    encoder: dict[str, int]
    num_context_tokens: int
    decoder: dict[str, int]
    gradients: tuple[str, ...]


_EVERYWHERE = (
    "encoder.register_positions",
    "encoder.class_embedding.weight",
    "encoder.time_embedding.mlp_in.weight",
    "encoder.embedder.projection.weight",
    "encoder.blocks.0.attention.qkv.weight",
    "encoder.blocks.1.modulation.weight",
    "encoder.latent_norm.weight",
    "decoder.blocks.1.mlp_down.weight",
    "decoder.latent_input.weight",
)
CASES = {
    # The released layout: as many registers as patches, two Linears before the decoder.
    "square": Case(
        {"height": 16, "width": 16, "channels": 3, "patch_size": 4, "patch_positions": "zero"},
        num_registers=16,
        latent_channels=8,
        encoder={"width": 32, "depth": 3, "num_heads": 4, "context_start": 1},
        num_context_tokens=4,
        decoder={"width": 24, "depth": 2, "num_heads": 2, "mlp_width": 40, "input_width": 28},
        gradients=(*_EVERYWHERE, "encoder.context_positions", "decoder.widen.weight"),
    ),
    # K != N: query tokens in the decoder; padded patches of a grey, oblong image; no context.
    "registers": Case(
        {"height": 14, "width": 18, "channels": 1, "patch_size": 4},
        num_registers=6,
        latent_channels=5,
        encoder={"width": 24, "depth": 2, "num_heads": 2},
        num_context_tokens=0,
        decoder={"width": 32, "depth": 2, "num_heads": 4, "mlp_width": 48},
        gradients=(*_EVERYWHERE, "decoder.query_tokens"),
    ),
}


def build(case: Case) -> UniteObjective:
    """The models of a case with their weights, in an objective midway through its ramp."""
    shared = ("image", case.images, case.num_registers, case.latent_channels)
    encoder = GenerativeEncoder(
        *shared,
        **case.encoder,
        num_classes=CLASSES,
        num_context_tokens=case.num_context_tokens,
    )
    decoder = Decoder(*shared, **case.decoder)
    for model in (encoder, decoder):
        for name, parameter in model.named_parameters():
            parameter.data.copy_(_values(model, name, parameter))
    frequencies = encoder.time_embedding.frequencies
    frequencies.copy_(draw("frequencies", *frequencies.shape))
    modality = get_modality("image", case.images)
    return UniteObjective(encoder, decoder, modality, flow_ramp_steps=4 * STEP)


def _values(model: nn.Module, name: str, parameter: Tensor) -> Tensor:
    """Nothing at its initial zero or one: every gate, norm and bias takes part."""
    values = draw(f"{type(model).__name__}.{name}", *parameter.shape)
    if parameter.ndim == 1:
        return 0.1 * values + (0.0 if name.endswith("bias") else 1.0)
    if parameter.ndim == 3:  # tables and tokens
        return 0.5 * values
    return values / parameter.flatten(1).shape[1] ** 0.5


def draw(name: str, *shape: int) -> Tensor:
    """Standard normal numbers that depend on a name alone."""
    return seeded_normal(torch.tensor([zlib.crc32(name.encode())]), *shape)[0]


def inputs(case: Case) -> dict[str, Tensor]:
    size = case.images
    latents = (2, case.num_registers, case.latent_channels)
    pixels = torch.sigmoid(draw("data", 2, size["channels"], size["height"], size["width"]))
    return {
        "data": (255.0 * pixels).round().to(torch.uint8),
        "label": torch.tensor(LABELS),
        "register_noise": draw("register_noise", *latents),
        "t_tokenize": torch.tensor([0.002, 0.009]),
        "t": torch.tensor([0.35, 0.97]),  # on both sides of the floor of 1 - t
        "noise": draw("noise", *latents),
        "sample_noise": draw("sample_noise", *latents),
    }


def _batch(given: dict[str, Tensor]) -> Batch:
    classes = Given.of_all(given["label"])
    return Batch(given["data"], torch.arange(len(LABELS)), conditions={CLASS: classes})


def outputs(case: Case, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Everything that is compared."""
    objective = build(case)
    return _passes(case, objective, given) | _training(objective, given) | _sample(objective, given)


def _passes(case: Case, objective: UniteObjective, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Equations (1) to (5) with given noise and times, and gradients of the sum of the losses."""
    encoder, decoder = objective.encoder, objective.decoder
    batch = objective.modality.prepare(_batch(given), None)
    t, noise, classes = given["t"], given["noise"], Evidence.of_classes(given["label"])
    kept: dict[str, Tensor] = {}
    seen = Evidence(observation=batch.data)
    z0 = encoder(given["register_noise"], given["t_tokenize"], seen, intermediates=kept)
    reconstruction = decoder(z0)
    l1 = objective.modality.reconstruction_losses(reconstruction, batch)["l1"]
    flow = objective.flow_error(z0.detach(), classes, t, noise)
    parameters = {f"encoder.{name}": x for name, x in encoder.named_parameters()}
    parameters |= {f"decoder.{name}": x for name, x in decoder.named_parameters()}
    chosen = [parameters[name] for name in case.gradients]
    gradients = torch.autograd.grad(l1 + flow.mean(), chosen)
    with torch.no_grad():
        z_t = interpolate(z0, noise, t)
        denoised, denoised_null = encoder(z_t, t, classes), encoder(z_t, t)
    return {
        "prenorm": kept["prenorm"].detach(),
        "z0": z0.detach(),
        "reconstruction": reconstruction.detach(),
        "denoised": denoised,
        "denoised_null": denoised_null,
        "loss_l1": l1.detach(),
        "loss_flow": flow.detach(),
    } | {f"grad.{name}": x for name, x in zip(case.gradients, gradients, strict=True)}


def _training(objective: UniteObjective, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The loss terms of a step: drawn times and noise, reconstruction noise, label dropout.

    The gradient of the patch projection tells whether the flow loss leaks into tokenizing.
    """
    random = SlotRandom(seed=1, step=STEP, slots=torch.tensor([0, 1]))
    terms = list(objective.terms(_batch(given), STEP, random))
    total = torch.stack([term.weight * term.value for term in terms]).sum()
    projection = objective.encoder.get_parameter("embedder.projection.weight")
    (gradient,) = torch.autograd.grad(total, projection)
    return {
        "terms": torch.stack([term.value.detach() for term in terms]),
        "term_weights": torch.tensor([term.weight for term in terms]),
        "grad.terms.embedder.projection.weight": gradient,
    }


def _sample(objective: UniteObjective, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Three Heun steps with guidance, through the denoiser of the pipeline.

    In float64: the last slope is divided by 0.05, which lifts float32 rounding to the tolerance.
    """
    encoder, decoder = (deepcopy(x).double() for x in (objective.encoder, objective.decoder))
    classes = Evidence.of_classes(given["label"])
    denoiser = ImagePipeline(encoder, decoder).denoiser(classes, 2.0, (0.1, 1.0))
    noise = given["sample_noise"].double()
    with torch.no_grad():
        return {"sample": solve(denoiser, noise, Sampling("heun", 3, 1.0)).float()}


if __name__ == "__main__":
    for name, case in CASES.items():
        given = inputs(case)
        stored = {f"in.{key}": x for key, x in given.items()}
        stored |= {f"out.{key}": x for key, x in outputs(case, given).items()}
        path = FOLDER / f"{name}.safetensors"
        save_file({key: x.contiguous() for key, x in stored.items()}, path)
        print(f"{path}: {len(stored)} tensors, {path.stat().st_size / 1000:.0f} kB")
