"""How running statistics move, and when they do not: where the batch held no token, or the next value would not be
finite in some entry. Such a value would stay for good."""

from torch import Tensor

from ..kernels.backend import backend_for
from . import plain_rows


def move_average(running: Tensor, batch: Tensor, count: Tensor, alpha: float) -> None:
    """running ← α running + (1 − α) batch, in place.

    Args:
        running: a statistic (C,).
        batch: the batch's (C,).
        count: the number of real tokens that the batch held, a scalar.
        alpha: decay in [0, 1).
    """
    (backend_for(running) or plain_rows).move_average(running, batch, count, alpha)


def ratio_and_correlation(
    weight: Tensor, grad_weight: Tensor, deviation: Tensor, mean_square: Tensor, count: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Γ = mean X̂² = mean s²/(d + ε) and Λ = mean g ⊙ X̂ = γ dγ/N, (C,) each: neither needs a pass of its own.

    Args:
        weight: γ (C,).
        grad_weight: dγ (C,).
        deviation: d (C,) that the rows were divided by the root of.
        mean_square: mean s² (C,).
        count: N, a scalar.
        eps: ε.
    """
    backend = backend_for(grad_weight) or plain_rows
    return backend.ratio_and_correlation(weight, grad_weight, deviation, mean_square, count, eps)


def move_projection(
    projection: Tensor, square_mean_ratio: Tensor, correlation: Tensor, count: Tensor, alpha: float
) -> None:
    """ν_t = ν_{t−1} (1 − w Γ) + w Λ with w = min(1 − α, 1/Γ), in place.

    With w = 1 − α it is the last line of Algorithm 2 (Shen et al. 2020), and that is so wherever (1 − α) Γ ≤ 1, as the
    proof of Theorem 4 assumes: ν_t is then a mean of ν_{t−1} and Λ/Γ, and |ν| stays below the largest |Λ|/Γ so far. A
    channel whose quadratic mean jumps breaks the assumption: by the line as printed a single batch with activations 100
    times as large multiplies ν by −1000, and ν comes back only after ψ² has. Here such a batch puts ν at its own Λ/Γ.

    Args:
        projection: ν (C,).
        square_mean_ratio: Γ = mean X̂² (C,).
        correlation: Λ = mean g ⊙ X̂ (C,).
        count: the number of real tokens that Γ and Λ are over, a scalar.
        alpha: decay in [0, 1).
    """
    backend = backend_for(projection) or plain_rows
    backend.move_projection(projection, square_mean_ratio, correlation, count, alpha)
