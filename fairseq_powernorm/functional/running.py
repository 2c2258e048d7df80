"""What running statistics are updated by; the updates themselves are operators."""

from torch import Tensor

from ..kernels.operators import move_average, move_projection
from ..kernels.plain import times

__all__ = ["move_average", "move_projection", "ratio_and_correlation"]


def ratio_and_correlation(
    weight: Tensor | None, grad_weight: Tensor, second_moment: Tensor, mean_square: Tensor, count: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Γ = mean X̂² = mean s²/(d + ε) and Λ = mean g ⊙ X̂ = γ dγ/N, (C,) each: neither needs a pass of its own.

    Args:
        weight: γ (C,), or None for 1.
        grad_weight: dγ (C,).
        second_moment: d (C,) that the rows were divided by the root of.
        mean_square: mean s² (C,).
        count: N, a scalar.
        eps: ε.
    """
    return mean_square / (second_moment + eps), times(weight, grad_weight) / count.clamp(min=1)
