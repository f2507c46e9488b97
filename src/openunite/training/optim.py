"""Muon in batches, and the table that says which optimizer trains which parameter.

Muon (Jordan et al., 2024): momentum, then the nearest (semi-)orthogonal matrix by five Newton-
Schulz steps. Matrices of one shape are stacked and orthogonalized together; the state has the
names and the layout of torch.optim.Muon.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from openunite.training.config import OptimizerConfig
from openunite.training.sharding import stack_whole, unstack

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)

# First match wins; a pattern is searched in the qualified parameter name.
OPTIMIZER_TABLE: tuple[tuple[str, str], ...] = (
    (r"\.(bias|cls_token)$", "adamw"),
    (r"norm\w*\.weight$|\.[qk]_norm$", "adamw"),
    (r"(positions|query_tokens|cls_token)$", "adamw"),
    (r"(embedder|head|class_embedding|condition_tokens)\.", "adamw"),
    (r"\.(register_input|latent_input|latent_output|widen)\.weight$", "adamw"),
    (r"\.blocks\.\d+\..*weight$", "muon"),
    (r"\.(modulation_out|time_embedding\.\w+)\.weight$", "muon"),
)


def optimizer_of(name: str) -> str:
    """'muon' or 'adamw' for a qualified parameter name; ValueError if the table has no row."""
    for pattern, optimizer in OPTIMIZER_TABLE:
        if re.search(pattern, name):
            return optimizer
    raise ValueError(f"no row of OPTIMIZER_TABLE matches parameter {name!r}; add one")


def partition(model: nn.Module) -> dict[str, list[tuple[str, nn.Parameter]]]:
    """Trainable parameters by optimizer; every one is in exactly one group (asserted)."""
    groups: dict[str, list[tuple[str, nn.Parameter]]] = {"muon": [], "adamw": []}
    trainable = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    for name, parameter in trainable:
        groups[optimizer_of(name)].append((name, parameter))
    assert sum(map(len, groups.values())) == len(trainable)
    assert all(p.ndim == 2 for _, p in groups["muon"]), "Muon trains matrices only"
    return groups


def orthogonalize(matrices: Tensor, steps: int = 5, eps: float = 1e-7) -> Tensor:
    """Newton-Schulz on a stack (n, rows, columns), each towards its orthogonal polar factor.

    One step is X <- P(G) X with G = X X' and P(G) = a + b G + c G^2. Where X is much wider than
    tall, the steps after the second are multiplied out in G, which becomes P G P, and applied to X
    at once. Not from the start: G squares the condition number, which two steps make moderate (up
    to 2.7 times the rounding error was seen); nor in half precision, which is too coarse for it.
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.flatten(1).norm(dim=1).clamp_min(eps)[:, None, None]
    small = x.shape[2] >= 2 * x.shape[1] and torch.finfo(x.dtype).eps < 1e-6
    direct = min(2, steps) if small else steps
    for _ in range(direct):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    if direct < steps:
        x = _in_gram(x @ x.mT, steps - direct) @ x
    return x.mT if tall else x


def _in_gram(gram: Tensor, steps: int) -> Tensor:
    """The product of P(G) over some steps; all of them commute."""
    a, b, c = _COEFFICIENTS
    product: Tensor | None = None
    for step in range(steps):
        p = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        p.diagonal(dim1=1, dim2=2).add_(a)
        product = p if product is None else p @ product
        if step < steps - 1:
            gram = p @ gram @ p
    assert product is not None
    return product


class BatchedMuon(torch.optim.Optimizer):
    """Muon over matrices, batched by shape.

    Update: lr * 0.2 sqrt(max(rows, columns)) * orthogonalize(Nesterov momentum of the gradient).
    `precision` is the type of the Newton-Schulz products: bfloat16 on GPUs, float32 elsewhere when
    None. Raises ValueError for parameters that are not matrices.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        precision: torch.dtype | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.precision = precision
        for parameter in (p for group in self.param_groups for p in group["params"]):
            if parameter.ndim != 2:
                raise ValueError(
                    f"Muon trains matrices, got a parameter of shape {tuple(parameter.shape)}; "
                    "give it to AdamW"
                )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            self._step_group(group)

    def _step_group(self, group: dict[str, Any]) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        grads: list[Tensor] = [p.grad for p in parameters]
        for p in parameters:
            if not self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        buffers = [self.state[p]["momentum_buffer"] for p in parameters]
        torch._foreach_lerp_(buffers, grads, 1.0 - group["momentum"])
        updates = torch._foreach_lerp(grads, buffers, group["momentum"])
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1.0 - group["lr"] * group["weight_decay"])
        alike: dict[torch.Size, list[int]] = defaultdict(list)
        for i, update in enumerate(updates):
            alike[update.shape].append(i)
        for members in alike.values():
            self._apply([parameters[i] for i in members], [updates[i] for i in members], group)

    def _apply(
        self, parameters: list[Tensor], updates: list[Tensor], group: dict[str, Any]
    ) -> None:
        rows, columns = updates[0].shape
        precision = self.precision or (
            torch.bfloat16
            if updates[0].is_cuda
            else torch.promote_types(updates[0].dtype, torch.float32)
        )
        direction = orthogonalize(stack_whole(updates).to(precision))
        scale = group["lr"] * 0.2 * max(rows, columns) ** 0.5
        # Contiguous like the parameters: otherwise the addition takes them one by one.
        steps = unstack(direction.to(updates[0].dtype).contiguous(), updates)
        torch._foreach_add_(parameters, steps, alpha=-scale)


def build_optimizers(
    model: nn.Module, settings: OptimizerConfig
) -> dict[str, torch.optim.Optimizer]:
    """Muon and AdamW over the partition; each group remembers its base rate as `initial_lr`."""
    groups = {name: [p for _, p in members] for name, members in partition(model).items()}
    optimizers: dict[str, torch.optim.Optimizer] = {
        "muon": BatchedMuon(
            groups["muon"], lr=settings.muon_learning_rate, momentum=settings.muon_momentum
        ),
        "adamw": torch.optim.AdamW(
            groups["adamw"],
            lr=settings.adamw_learning_rate,
            betas=settings.betas,
            eps=1e-6,
            weight_decay=0.0,
            fused=True,
        ),
    }
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers
