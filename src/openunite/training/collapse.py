"""Watching for collapse: constant latents, the failure of joint training with shared weights.

When the flow loss leads, the cheapest way to make latents predictable is to make them equal for
all inputs. Then reconstruction stays at the mean of the data for ever (docs/METHOD.md, section 6).
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
    """The latents are constant; going on would only cost time."""


def pad_latents(
    latents: Float[Tensor, "b k c"], mask: Bool[Tensor, "b k"] | None, registers: int
) -> tuple[Float[Tensor, "b r c"], Float[Tensor, "b r 1"]]:
    """Latents at the model's full number of registers, zero where invalid, and what is valid."""
    valid = torch.ones_like(latents[..., 0]) if mask is None else mask.to(latents.dtype)
    missing = registers - latents.shape[1]
    padded = nn.functional.pad(latents * valid[..., None], (0, 0, 0, missing))
    return padded, nn.functional.pad(valid, (0, missing))[..., None]


def moments(
    latents: Float[Tensor, "b r c"], valid: Float[Tensor, "b r 1"]
) -> Float[Tensor, "3 r c"]:
    """Count, sum and sum of squares over the samples, as `wide` has it: what processes add up."""
    values, count = wide(latents), wide(valid).expand_as(latents)
    return torch.stack([count.sum(0), values.sum(0), values.square().sum(0)])


def spread_of(moments: Float[Tensor, "3 r c"]) -> Float[Tensor, ""]:
    """Deviation over samples, mean over channels and the registers that two samples share."""
    count, total, squares = moments
    shared = count > 1.0
    count = count.clamp_min(1.0)
    variance = (squares / count - (total / count).square()).clamp_min(0.0)
    # A mask as index would make the host wait for a GPU to count it.
    return torch.where(shared, variance.sqrt(), 0.0).sum() / shared.sum()


def effective_rank(latents: Float[Tensor, "b r c"], valid: Float[Tensor, "b r 1"]) -> float:
    """Effective rank of the latents, flattened to (B, K C) and centered; at most B - 1.

    NaN if the latents are not finite: training skips such a step and continues.
    """
    mean = latents.sum(0) / valid.sum(0).clamp_min(1.0)
    flat = ((latents - mean) * valid).flatten(1).float()
    products = flat @ flat.T
    if products.device.type == "mps":
        products = products.cpu()  # PyTorch finds no eigenvalues on an Apple GPU
    if not bool(products.isfinite().all()):
        return float("nan")
    return rank_of_variances(torch.linalg.eigvalsh(products).clamp_min(0.0))


def rank_of_variances(variances: Float[Tensor, " d"]) -> float:
    """exp of the entropy of the normalized variances along principal axes; 0 if all are 0.

    Roy and Vetterli, "The effective rank", 2007.
    """
    total = variances.sum()
    if float(total) <= 1e-12:
        return 0.0
    return float(torch.special.entr(variances / total).sum().exp())


@dataclass
class CollapseGuard:
    """Raises CollapseError after `patience` optimizer steps in a row below `min_spread`.

    Steps before `start` do not count: latents begin constant, because the output layer is zero.
    """

    start: int
    patience: int
    min_spread: float = MIN_SPREAD
    low_steps: int = 0

    @classmethod
    def of_run(cls, steps: int, warmup_steps: int) -> "CollapseGuard":
        """From a tenth of the run on; of a long run after 1,000 steps or the warm-up.

        While learning rates are small, latents of healthy runs are nearly constant, too.
        """
        return cls(start=max(100, min(steps // 10, max(1000, warmup_steps))), patience=100)

    def check(self, rows: list[dict[str, float]]) -> None:
        """Look at "latent_spread" of every row: deviation over samples, mean over K and C."""
        for row in rows:
            low = row["step"] > self.start and row["latent_spread"] < self.min_spread
            self.low_steps = self.low_steps + 1 if low else 0
            if self.low_steps >= self.patience:
                raise CollapseError(
                    f"the latents have collapsed: at step {row['step']:.0f} they differ between "
                    f"samples by {row['latent_spread']:.3f} on average, below {self.min_spread} "
                    f"for {self.patience} steps in a row (healthy runs keep 0.3 to 1). {ADVICE}"
                )
