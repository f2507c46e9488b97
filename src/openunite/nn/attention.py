"""Multi-head self-attention; the rotary form normalizes and rotates queries and keys."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from openunite.nn.norm import unit_rms


def rotate(x: Float[Tensor, "*b e"], angles: Float[Tensor, "*c half"]) -> Float[Tensor, "*b e"]:
    """Rotate the interleaved pairs (2i, 2i + 1) of x by angles broadcast over the other axes."""
    pairs = x.unflatten(-1, (-1, 2))
    # One pass over memory instead of seven, where no compiler fuses them.
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        turn = torch.polar(torch.ones_like(angles), angles)
        return torch.view_as_real(torch.view_as_complex(pairs) * turn).flatten(-2)
    even, odd = pairs.unbind(-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)


class Attention(nn.Module):
    """Self-attention; one projection laid out [q | k | v], each heads x head width.

    With `rotary`, q and k pass an RMSNorm over the head width, its weights shared by the heads,
    and are rotated by the angles given to forward.
    """

    def __init__(self, width: int, num_heads: int, *, rotary: bool) -> None:
        super().__init__()
        if width % num_heads or (width // num_heads) % 2:
            raise ValueError(
                f"width must be num_heads times an even head width, got width {width} and "
                f"{num_heads} heads"
            )
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        if rotary:
            self.q_norm = nn.Parameter(torch.ones(width // num_heads))
            self.k_norm = nn.Parameter(torch.ones(width // num_heads))

    def forward(
        self,
        x: Float[Tensor, "b s d"],
        angles: Float[Tensor, "s half"] | None = None,
        mask: Bool[Tensor, "b s"] | Float[Tensor, "b s"] | None = None,
        queries: slice = slice(None),
    ) -> Float[Tensor, "b q d"]:
        """Attend from the positions in `queries` (all by default) to all unmasked positions.

        A mask of numbers is added to the logits of its positions; -inf hides one.
        """
        qk, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).split([2, 1], dim=2)
        if angles is not None:
            weight = torch.stack([self.q_norm, self.k_norm])[:, None, :]
            weight = weight.expand(2, self.num_heads, -1)  # its gradient: one sum over rows first
            qk = rotate(unit_rms(qk) * weight, angles[:, None, None, :]).to(v.dtype)
        q, k = qk.unbind(dim=2)
        q, k, v = (part.transpose(1, 2) for part in (q[:, queries], k, v.squeeze(2)))
        keep = None if mask is None else mask[:, None, None, :]
        keep = keep.to(q.dtype) if keep is not None and keep.is_floating_point() else keep
        attended = scaled_dot_product_attention(q, k, v, attn_mask=keep)
        return self.out(attended.transpose(1, 2).flatten(2))
