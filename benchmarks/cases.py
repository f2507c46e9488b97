"""What is measured: a training step as released and as here, on the same weights and images."""

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.released import PlainEncoder, PlainObjective, plain_average, plain_optimizers
from openunite.flow.random import SlotRandom
from openunite.modalities.image.perceptual import Lpips
from openunite.modalities.image.tokens import ImageModality
from openunite.objective import UniteObjective
from openunite.training.build import build_models, build_objective
from openunite.training.config import RunConfig
from openunite.training.cost import uses_lpips
from openunite.training.trainer import Trainer

Step = Callable[[], object]


@dataclass(frozen=True)
class RandomImages:
    """Images of noise in the stored form: what a step costs does not depend on what they show."""

    config: RunConfig
    sizes: None = None

    def __len__(self) -> int:
        return 4 * self.config.batch_size

    def batch(self, indices: list[int]) -> dict[str, Tensor]:
        shape = self.config.modality_config
        size = (len(indices), shape["channels"], shape["height"], shape["width"])
        generator = torch.Generator().manual_seed(indices[0])
        return {
            "data": torch.randint(0, 256, size, dtype=torch.uint8, generator=generator),
            "label": torch.tensor(indices) % (self.config.num_classes or 1),
            "index": torch.tensor(indices),
        }


def our_trainer(config: RunConfig) -> Trainer:
    """A trainer of this config on images of noise; it writes nothing while it only steps."""
    folder = Path(tempfile.gettempdir())
    return Trainer(_objective(config), RandomImages(config), config, folder)


def _objective(config: RunConfig) -> UniteObjective:
    """LPIPS with random weights, where the recipe has it: they take as long as real ones."""
    objective = build_objective(config, *build_models(config))
    if uses_lpips(config):
        assert isinstance(objective.modality, ImageModality)
        objective.modality.use_distance(Lpips.random(0))
    return objective


def our_step(config: RunConfig, *, compiled: bool = False) -> Step:
    """The trainer's own step, batches and bookkeeping included."""
    trainer = our_trainer(replace(config, compile=compiled))
    batches = iter(trainer.batches())
    return lambda: trainer._train_step(batches)


def released_step(config: RunConfig, device: torch.device, *, float32: bool = False) -> Step:
    """The step of `benchmarks.released`, as one graph, on the same numbers.

    `float32` has the matrices orthogonalized in float32, still one at a time.
    """
    ours = _objective(config)
    model = nn.ModuleDict({"encoder": ours.encoder, "decoder": ours.decoder}).to(device).train()
    plain: Any = PlainEncoder(ours.encoder)
    objective = PlainObjective(replace(ours, encoder=plain))
    settings, average = config.optimizer, copy.deepcopy(model).requires_grad_(False)
    rates = settings.muon_learning_rate, settings.adamw_learning_rate
    optimizers = plain_optimizers(model, *rates, float32=float32)
    data, slots = RandomImages(config), torch.arange(config.batch_size, device=device)
    half = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")

    def step() -> None:
        stored = data.batch(list(range(config.batch_size)))
        batch = {name: value.to(device) for name, value in stored.items()}
        with half:
            (term,) = objective.terms(batch, config.steps, SlotRandom(config.seed, 0, slots))
        term.value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        plain_average(average, model, settings.ema_decay)

    return step


def dit_step(config: RunConfig, device: torch.device) -> Step:
    """Forward and backward of diffusers' DiT with as many blocks, as wide, on as many tokens.

    Its blocks have the products of ours (24 D^2 per token); the registers are its pixels.
    """
    from diffusers import DiTTransformer2DModel

    size = config.model
    side = round(size.num_registers**0.5)
    model = DiTTransformer2DModel(
        num_attention_heads=size.num_heads,
        attention_head_dim=size.width // size.num_heads,
        in_channels=size.latent_channels,
        num_layers=size.depth,
        sample_size=side,
        patch_size=1,
        num_embeds_ada_norm=max(1, config.num_classes or 0),
    ).to(device)
    batch = config.batch_size
    z = torch.randn(batch, size.latent_channels, side, side, device=device)
    t, label = (torch.zeros(batch, dtype=torch.int64, device=device) for _ in range(2))
    half = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")

    def step() -> None:
        with half:
            loss = model(z, t, label).sample.square().mean()
        loss.backward()
        model.zero_grad(set_to_none=True)

    return step


def denoiser_step(config: RunConfig, device: torch.device) -> Step:
    """Forward and backward of our denoising pass, on the registers alone."""
    encoder, size, batch = build_models(config)[0].to(device), config.model, config.batch_size
    z = torch.randn(batch, size.num_registers, size.latent_channels, device=device)
    t = torch.rand(batch, device=device)
    label = torch.zeros(batch, dtype=torch.int64, device=device)
    half = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")

    def step() -> None:
        with half:
            loss = encoder(z, t, label).square().mean()
        loss.backward()
        encoder.zero_grad(set_to_none=True)

    return step
