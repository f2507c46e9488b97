"""CKA and CKNNA: similarity of two sets of activations of the same samples in any bases.

Linear CKA (Kornblith et al., "Similarity of neural network representations revisited", 2019) with
the unbiased estimator of HSIC (Song et al., "Feature selection via dependence maximization", 2012),
averaged over minibatches before the ratio is taken (Nguyen et al., "Do wide and deep networks
learn the same things?", 2021). CKNNA: Huh et al., "The platonic representation hypothesis", 2024.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def hsic_terms(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"]) -> Float[Tensor, "3"]:
    """Unbiased HSIC of (x, y), (x, x) and (y, y) with linear kernels, float64.

    Add the terms of all minibatches, then take `ratio`. Raises ValueError below four samples.
    """
    if len(x) != len(y) or len(x) < 4:
        raise ValueError(
            f"expected the same samples twice, at least 4 of them, got {len(x)} and {len(y)}; "
            "use larger minibatches"
        )
    k, l = _kernel(x), _kernel(y)  # noqa: E741
    return torch.stack([_hsic(k, l), _hsic(k, k), _hsic(l, l)])


def ratio(terms: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b"]:
    """xy / sqrt(xx yy) of `hsic_terms`; NaN if an activation is constant."""
    joint, first, second = terms.unbind(-1)
    product = first * second
    defined = (first > 0.0) & (second > 0.0)
    return torch.where(defined, joint / product.clamp_min(1e-300).sqrt(), torch.nan)


def cknna(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], neighbors: int = 10) -> float:
    """Alignment of kernels over pairs that are neighbors in both; 1 if equal, near 0 by chance.

    Align(K, L) = sum over i != j, with j among the k nearest of i in both, of Kc_ij Lc_ij, where
    Kc_ij = K_ij - mean over l of K_il; CKNNA = Align(K, L) / sqrt(Align(K, K) Align(L, L)).
    Kernels are inner products of centered features of unit length. NaN if undefined.
    """
    if not 1 <= neighbors < len(x) or len(x) != len(y):
        raise ValueError(
            f"expected the same samples twice, more than {neighbors} of them, got {len(x)} and "
            f"{len(y)}; use larger minibatches"
        )
    (k, near_k), (l, near_l) = (_cosine_kernel(z, neighbors) for z in (x, y))  # noqa: E741
    terms = [(k * l)[near_k & near_l].sum(), (k * k)[near_k].sum(), (l * l)[near_l].sum()]
    return float(ratio(torch.stack(terms)))


def _kernel(x: Tensor) -> Tensor:
    """Inner products without the diagonal, centered for precision (HSIC ignores the mean)."""
    x = x.double()
    centered = x - x.mean(0)
    return (centered @ centered.T).fill_diagonal_(0.0)


def _hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    n, k_sums, l_sums = len(k), k.sum(0), l.sum(0)
    means = k_sums.sum() * l_sums.sum() / ((n - 1) * (n - 2))
    return ((k * l).sum() + means - 2.0 / (n - 2) * (k_sums @ l_sums)) / (n * (n - 3))


def _cosine_kernel(x: Tensor, neighbors: int) -> tuple[Tensor, Tensor]:
    """Row-centered kernel, and a mask of the pairs (i, j) where j is among the nearest of i."""
    x = x.double()
    unit = torch.nn.functional.normalize(x - x.mean(0), dim=1)
    kernel = unit @ unit.T
    nearest = kernel.clone().fill_diagonal_(-torch.inf).topk(neighbors, dim=1).indices
    near = torch.zeros_like(kernel, dtype=torch.bool).scatter_(1, nearest, True)
    return kernel - kernel.mean(1, keepdim=True), near
