"""Detect collapse: constant latents, the failure mode of joint training with shared weights.

When the flow loss dominates, the cheapest way to make latents predictable is to make them equal
for all inputs. The decoder can then only return the mean of the data (docs/METHOD.md, section 6).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from openunite.training.device import wide

ADVICE = (
    "Let the reconstruction lead: lower flow_weight (0.1 to 0.3), raise flow_ramp (0.3), use more "
    "warmup_steps or smaller learning rates, then start again in a new run folder."
)


MIN_SPREAD = 0.05  # a latent spread below this is collapse


class CollapseError(RuntimeError):
    """The latents have become constant, so further training is useless."""


def pad_latents(
    latents: Float[Tensor, "b k c"], mask: Bool[Tensor, "b k"] | None, registers: int
) -> tuple[Float[Tensor, "b r c"], Float[Tensor, "b r 1"]]:
    """Latents padded to `registers` with zeros, and a 1 (valid) or 0 (padding) per register."""
    valid = torch.ones_like(latents[..., 0]) if mask is None else mask.to(latents.dtype)
    missing = registers - latents.shape[1]
    padded = nn.functional.pad(latents * valid[..., None], (0, 0, 0, missing))
    return padded, nn.functional.pad(valid, (0, missing))[..., None]


def moments(
    latents: Float[Tensor, "b r c"], valid: Float[Tensor, "b r 1"]
) -> Float[Tensor, "3 r c"]:
    """Count, sum and sum of squares over samples, in float64 where possible; processes add them."""
    values, count = wide(latents), wide(valid).expand_as(latents)
    return torch.stack([count.sum(0), values.sum(0), values.square().sum(0)])


def spread_of(moments: Float[Tensor, "3 r c"]) -> Float[Tensor, ""]:
    """Std over samples, averaged over channels and all registers that at least two samples have."""
    count, total, squares = moments
    shared = count > 1.0
    count = count.clamp_min(1.0)
    variance = (squares / count - (total / count).square()).clamp_min(0.0)
    # Indexing by a mask would make the host wait for the GPU.
    return torch.where(shared, variance.sqrt(), 0.0).sum() / shared.sum()


def effective_rank(latents: Float[Tensor, "b r c"], valid: Float[Tensor, "b r 1"]) -> float:
    """Effective rank of the latents, flattened to (B, R C) and centered; at most B - 1.

    The result is NaN if a latent is not finite; training skips such a step and continues.
    """
    mean = latents.sum(0) / valid.sum(0).clamp_min(1.0)
    flat = ((latents - mean) * valid).flatten(1).float()
    products = flat @ flat.T
    if products.device.type == "mps":
        products = products.cpu()  # eigvalsh is not implemented on Apple GPUs
    if not bool(products.isfinite().all()):
        return float("nan")
    return rank_of_variances(torch.linalg.eigvalsh(products).clamp_min(0.0))


def rank_of_variances(variances: Float[Tensor, " d"]) -> float:
    """Effective rank: exp of the entropy of the normalized principal variances; 0 if all are 0.

    Source: Roy and Vetterli, "The effective rank", 2007.
    """
    total = variances.sum()
    if float(total) <= 1e-12:
        return 0.0
    return float(torch.special.entr(variances / total).sum().exp())


@dataclass
class CollapseGuard:
    """Raise CollapseError after `patience` steps in a row with a latent spread below `min_spread`.

    Steps up to `start` do not count: the output layer starts at zero, so latents start constant.
    """

    start: int
    patience: int
    min_spread: float = MIN_SPREAD
    low_steps: int = 0

    @classmethod
    def of_run(cls, steps: int, warmup_steps: int) -> "CollapseGuard":
        """A guard that starts after a tenth of the run, but not later than max(1000, warm-up).

        While learning rates are small, the latents of healthy runs are nearly constant as well.
        """
        return cls(start=max(100, min(steps // 10, max(1000, warmup_steps))), patience=100)

    def check(self, rows: list[dict[str, float]]) -> None:
        """Check "latent_spread" of every row of the log. Raises CollapseError."""
        for row in rows:
            low = row["step"] > self.start and row["latent_spread"] < self.min_spread
            self.low_steps = self.low_steps + 1 if low else 0
            if self.low_steps >= self.patience:
                raise CollapseError(
                    f"the latents have collapsed: at step {row['step']:.0f} they differ between "
                    f"samples by {row['latent_spread']:.3f} on average, below {self.min_spread} "
                    f"for {self.patience} steps in a row (healthy runs keep 0.3 to 1). {ADVICE}"
                )
