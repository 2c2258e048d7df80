"""PN-V: divide by the batch's quadratic mean, no centring (Shen et al. 2020, Definition 1)."""

from torch import Tensor

from .batch_norm import BatchNormFunction
from .reduction import Reduce, keep_local


def pn_v(
    rows: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    padding: Tensor | None,
    square_mean: Tensor,
    count: Tensor,
    eps: float,
    groups: int = 0,
    reduce: Reduce = keep_local,
) -> Tensor:
    """PN-V in training: Y = γ ⊙ s/√(ψ_B² + ε) + β (Definition 1), with the gradient through ψ_B.

    ds = (g − Λ X̂)/√(ψ_B² + ε), g = γ ⊙ dY, Λ = mean(g ⊙ X̂) over the real tokens (of all ranks). s is x, or with
    group scaling the scaled x, whose gradient follows.

    Args:
        rows: x (N, C).
        weight: γ (C,), or None for 1.
        bias: β (C,), or None for 0.
        padding: (N, 1), True at padding, or None. Rows of padding come out as β and get a gradient of 0.
        square_mean: ψ_B² (C,), the quadratic mean of these very rows; the backward pass differentiates through it.
        count: the number of real tokens (of all ranks) that ψ_B² was taken over, a scalar.
        eps: ε > 0.
        groups: G ≥ 0 groups of channels that each token is scaled by first; 0 leaves it out.
        reduce: sums over ranks.

    Returns:
        (N, C) in the dtype of ``rows``.
    """
    return BatchNormFunction.apply(rows, weight, bias, padding, None, square_mean, count, eps, groups, reduce)
