"""What every batch norm of tokens ends in: one multiply and one add per channel."""

from torch import Tensor

from .precision import at_least_float32


def scale_and_shift(rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """y = scale ⊙ x + shift in float32 or wider, cast back once to the dtype of ``rows`` (N, C)."""
    return at_least_float32(rows).mul(scale).add_(shift).to(rows.dtype)


def normalize_by_constants(
    rows: Tensor, mean: Tensor | None, square_deviation: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    """Evaluation mode of batch, pn-v and power: y = γ (x − μ) / √(d + ε) + β with constant μ and d, differentiable
    by x, γ and β.

    Args:
        rows: (N, C).
        mean: running μ (C,) of batch; None where nothing is subtracted.
        square_deviation: d, the running σ² or ψ² (C,).
        weight: γ (C,).
        bias: β (C,).
        eps: ε > 0.

    Returns:
        (N, C) in the dtype of ``rows``.
    """
    scale = at_least_float32(weight) * (square_deviation + eps).rsqrt()
    shift = at_least_float32(bias) if mean is None else at_least_float32(bias) - mean * scale
    return (at_least_float32(rows) * scale + shift).to(rows.dtype)
