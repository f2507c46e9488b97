"""What is measured: a training step as released and as here, on the same weights and images."""

import copy
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.released import PlainEncoder, PlainObjective, plain_average, plain_optimizers
from openunite.batch import CLASS, Batch, Evidence, Given
from openunite.evaluation.images.perceptual import Lpips
from openunite.flow.random import SlotRandom
from openunite.modalities.image.tokens import ImageModality
from openunite.objective import UniteObjective
from openunite.training.build import build_models, build_objective
from openunite.training.config import DataConfig, ModelConfig, RunConfig
from openunite.training.trainer import Trainer

Step = Callable[[], object]


def small() -> RunConfig:
    """The model that documented figures of a CPU are of: it stays when recipes are tuned."""
    return RunConfig(
        recipe="small",
        modality="image",
        modality_config={"height": 28, "width": 28, "channels": 1, "patch_size": 7},
        num_classes=10,
        data=DataConfig(""),
        model=ModelConfig(16, 24, 128, 4, 4, 128, 2, 4, 256, 0, 0),
        steps=1_000_000,
        batch_size=32,
    )


class RandomImages:
    """Images of noise in the stored form: what a step costs does not depend on what they show.

    Drawn once, for two batches; a batch is a view of them, so that no step pays for its data.
    """

    sizes = None

    def __init__(self, config: RunConfig) -> None:
        shape = config.modality_config
        size = (2 * config.batch_size, shape["channels"], shape["height"], shape["width"])
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
        self.has_classes = bool(config.num_classes)
        self.labels = torch.arange(len(self.images)) % (config.num_classes or 1)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: list[int]) -> Batch:
        """As many images in a row as there are indices, from a place that the first decides."""
        start = indices[0] % (len(self) - len(indices) + 1)
        rows = slice(start, start + len(indices))
        known = {CLASS: Given.of_all(self.labels[rows])} if self.has_classes else {}
        return Batch(self.images[rows], torch.tensor(indices), conditions=known)


def our_trainer(config: RunConfig) -> Trainer:
    """A trainer of this config on images of noise; it writes nothing while it only steps."""
    folder = Path(tempfile.gettempdir())
    return Trainer(_objective(config), RandomImages(config), config, folder)


def _objective(config: RunConfig) -> UniteObjective:
    """LPIPS with random weights, where the recipe has it: they take as long as real ones."""
    objective = build_objective(config, *build_models(config))
    if objective.modality.vgg_input() is not None:
        assert isinstance(objective.modality, ImageModality)
        objective.modality.use_distance(Lpips.random(0))
    return objective


def our_step(config: RunConfig, *, compiled: bool = False) -> Step:
    """The trainer's own step, batches and bookkeeping included."""
    trainer = our_trainer(replace(config, compile=compiled))
    batches = iter(trainer.batches())
    return lambda: trainer.advance(batches)


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
    micro = config.micro_batch_size or config.batch_size
    data, rounds = RandomImages(config), torch.arange(config.batch_size).split(micro)
    half = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")

    def step() -> None:
        for slots in rounds:
            stored = data.batch(slots.tolist())
            batch = {name: value.to(device) for name, value in stored.items()}
            random = SlotRandom(config.seed, 0, slots.to(device))
            with half:
                (term,) = objective.terms(batch, config.steps, random)
            (term.value / len(rounds)).backward()
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
    evidence = Evidence.of_classes(torch.zeros(batch, dtype=torch.int64, device=device))
    half = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")

    def step() -> None:
        with half:
            loss = encoder(z, t, evidence).square().mean()
        loss.backward()
        encoder.zero_grad(set_to_none=True)

    return step
