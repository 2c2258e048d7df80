"""Per-channel moments over the real tokens of a batch, of s: the rows, group-scaled if ``groups`` is above 0."""

from torch import Tensor

from ..kernels.operators import moments
from .reduction import Reduce, keep_local


def square_mean(
    rows: Tensor, padding: Tensor | None, reduce: Reduce = keep_local, groups: int = 0, eps: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Quadratic mean ψ_B² = Σ s² / N of each channel over the N real tokens (PowerNorm, Definition 1).

    Args:
        rows: (N, C).
        padding: (N, 1), True at padding, or None.
        reduce: sums over ranks.
        groups: of group scaling; 0 for none.
        eps: of group scaling.

    Returns:
        ψ_B² (C,) and the number of real tokens, a scalar; both float32 or wider. Without a single token ψ_B² is 0.
    """
    squares, _, count = moments(rows, padding, None, eps, groups)
    sums, count = reduce([squares, count])
    return sums / count.clamp(min=1), count


def mean_and_variance(
    rows: Tensor,
    padding: Tensor | None,
    shift: Tensor,
    reduce: Reduce = keep_local,
    groups: int = 0,
    eps: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean μ_B and biased variance σ_B² = Σ (s − μ_B)² / N of each channel over the N real tokens.

    On one rank in two passes, since the one-pass form Σs²/N − μ² cancels for channels whose mean is far from zero.
    Over several ranks in one collective, with the rows shifted by a vector that all ranks share, which takes most of
    the mean away before anything is squared.

    Args:
        rows: (N, C).
        padding: (N, 1), True at padding, or None.
        shift: (C,), a guess of the mean, the same on every rank (the running mean).
        reduce: sums over ranks.
        groups: of group scaling; 0 for none.
        eps: of group scaling.

    Returns:
        μ_B (C,), σ_B² (C,) and the number of real tokens, a scalar; all float32 or wider. Without a single token the
        variance is 0.
    """
    if reduce is keep_local:
        _, sums, count = moments(rows, padding, None, eps, groups)
        shift = sums / count.clamp(min=1)
    square_sums, sums, count = reduce([*moments(rows, padding, shift, eps, groups)])
    mean_shifted = sums / count.clamp(min=1)
    variance = (square_sums / count.clamp(min=1) - mean_shifted.square()).clamp(min=0)
    return shift + mean_shifted, variance, count
