"""The UNITE objective: tokenize, decode, noise, denoise, all in one step with one encoder.

Equation numbers are those of docs/METHOD.md. The loss is handed out in terms that share no graph,
so the trainer can back-propagate each one and forget it before the next is computed: the gradient
is that of the sum, the memory that of one term.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from openunite.batch import Batch, Evidence
from openunite.conditions.drawing import Dropout, draw_evidence, partial_draws, passes_of
from openunite.flow.path import flow_time, gap, interpolate
from openunite.flow.random import SlotRandom, Stream
from openunite.modality import Modality
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import Encoder


@dataclass(frozen=True)
class LossTerm:
    """One summand of the loss: `weight * value`; `latents` is z0, detached, on the first term.

    No later term of the batch reaches the parameters of `done`.
    """

    name: str
    value: Tensor
    weight: float
    parts: dict[str, Tensor]
    latents: Tensor | None = None
    done: nn.Module | None = None


@dataclass(frozen=True)
class UniteObjective:
    """Equations (1) to (5). `flow_weight` is w, the weight of the mean over the k flow draws.

    `draws_per_pass` of them share a pass: memory grows with it, and small networks gain time.
    """

    encoder: Encoder
    decoder: Decoder
    modality: Modality
    flow_draws: int = 3
    draws_per_pass: int = 1
    flow_weight: float = 0.3
    flow_ramp_steps: int = 0
    time_shift: float = 0.5
    time_density: str = "logit_normal"
    tokenize_time: float = 0.01
    recon_noise_start: float = 0.7
    recon_noise_share: float = 0.5
    label_dropout: float = 0.1
    condition_dropout: float = 0.2
    common_dropout: float = 0.1
    partial_share: float = 0.0

    def terms(self, batch: Batch, step: float, random: SlotRandom) -> Iterator[LossTerm]:
        """Yield the reconstruction term, then the flow terms. Equation (5)."""
        batch = self.modality.prepare(batch, random)
        z0 = self.tokenize(batch, random)
        output = self.decoder(self.perturb(z0, batch, random), batch.mask)
        parts = self.modality.reconstruction_losses(output, batch)
        target = z0.detach()  # sg: the flow loss never reaches the tokenizing pass
        yield LossTerm("reconstruction", sum_of(parts), 1.0, parts, target, self.decoder)
        del z0, output, parts
        yield from self.flow_terms(target, batch, step, random)

    def flow_terms(
        self, target: Float[Tensor, "b k c"], batch: Batch, step: float, random: SlotRandom
    ) -> Iterator[LossTerm]:
        """One term per pass; their weights sum to w."""
        weight, partial = self.flow_weight_at(step), self.partial_draws(random)
        for part in passes_of(self.flow_draws, partial, self.draws_per_pass):
            value = self.flow_loss(target, batch, random, part)
            yield LossTerm("flow", value, weight * len(part) / self.flow_draws, {})

    def tokenize(self, batch: Batch, random: SlotRandom) -> Float[Tensor, "b k c"]:
        """Equation (1): pure noise registers, the observation, t near 0, no condition."""
        noise = self.noise(Stream.REGISTERS, random, batch)
        t = self.tokenize_time * random.uniform(Stream.TOKENIZE_TIME)
        return self.encoder(noise, t, Evidence(observation=batch.data), batch.mask)

    def perturb(
        self, z0: Float[Tensor, "b k c"], batch: Batch, random: SlotRandom
    ) -> Float[Tensor, "b k c"]:
        """Light noise on half of the latents: t z0 + (1 - t) eps with t ~ U[start, 1]."""
        start = self.recon_noise_start
        t = start + (1.0 - start) * random.uniform(Stream.RECON_TIME)
        noisy = interpolate(z0, self.noise(Stream.RECON_NOISE, random, batch), t)
        chosen = random.uniform(Stream.RECON_CHOICE) < self.recon_noise_share
        return torch.where(chosen[:, None, None], noisy, z0)

    def flow_loss(
        self, target: Float[Tensor, "b k c"], batch: Batch, random: SlotRandom, draws: Sequence[int]
    ) -> Float[Tensor, ""]:
        """Equations (3) to (5), the mean over some draws of t, eps and dropped conditions."""
        normal = torch.cat([random.normal(Stream.FLOW_TIME, draw=draw) for draw in draws])
        noise = torch.cat([self.noise(Stream.FLOW_NOISE, random, batch, draw) for draw in draws])
        times, t = len(draws), flow_time(normal, self.time_shift, self.time_density)
        mask = None if batch.mask is None else batch.mask.repeat(times, 1)
        evidence = self.shown(batch, random, draws)
        return self.flow_error(target.repeat(times, 1, 1), evidence, t, noise, mask).mean()

    def shown(self, batch: Batch, random: SlotRandom, draws: Sequence[int]) -> Evidence:
        """What a pass of these draws sees: conditions, dropped by chance, and perhaps a part."""
        rates = Dropout(self.label_dropout, self.condition_dropout, self.common_dropout)
        _, denoiser = self.encoder.networks()
        shown = draw_evidence(batch.conditions, denoiser.condition_tokens, rates, random, draws)
        if draws[0] not in self.partial_draws(random):
            return shown
        seen = Evidence(observation=batch.data).repeat(len(draws)).observation
        parts = [self.modality.draw_visible(batch, random, draw) for draw in draws]
        return replace(shown, observation=seen, visible=torch.cat(parts))

    def partial_draws(self, random: SlotRandom) -> set[int]:
        """The draws of a step that see a part of the observation."""
        return partial_draws(random.step, self.flow_draws, self.partial_share)

    def flow_error(
        self,
        target: Float[Tensor, "b k c"],
        evidence: Evidence,
        t: Float[Tensor, " b"],
        noise: Float[Tensor, "b k c"],
        mask: Bool[Tensor, "b k"] | None = None,
    ) -> Float[Tensor, " b"]:
        """((z0^ - sg(z0)) / max(1 - t, 0.05))^2, averaged over the valid K x C of each sample."""
        denoised = self.encoder(interpolate(target, noise, t), t, evidence, mask)
        error = (((denoised - target) / gap(t)) ** 2).mean(dim=2)
        if mask is None:
            return error.mean(dim=1)
        return (error * mask).sum(dim=1) / mask.sum(dim=1)

    def flow_weight_at(self, step: float) -> float:
        """Linear ramp from 0: with shared weights the reconstruction has to lead at first."""
        rising = step < self.flow_ramp_steps  # no ramp: full weight from the first step
        return self.flow_weight * (step / self.flow_ramp_steps if rising else 1.0)

    def weights(self, step: float) -> dict[str, float]:
        """The weights that change during a run, under the names they are logged by."""
        return {"flow_weight": self.flow_weight_at(step)}

    def noise(
        self, stream: Stream, random: SlotRandom, batch: Batch, draw: int = 0
    ) -> Float[Tensor, "b k c"]:
        """N(0, I) for the registers of a batch, the same for a sample however far it is padded."""
        mask, size = batch.mask, self.encoder.config
        drawn = random.normal(stream, size.num_registers, size.latent_channels, draw=draw)
        return drawn if mask is None else drawn[:, : mask.shape[1]]


def sum_of(parts: dict[str, Tensor]) -> Tensor:
    """Sum of named scalars."""
    return torch.stack(list(parts.values())).sum()
