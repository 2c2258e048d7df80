"""What every batch norm of tokens ends in: one multiply and one add per channel."""

import torch
from torch import Tensor

from .group_scaling import group_scaling
from .precision import at_least_float32
from .rows import normalize


def scale_and_shift(rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """y = scale ⊙ x + shift in float32 or wider, cast back once to the dtype of ``rows`` (N, C)."""
    return torch.addcmul(shift, at_least_float32(rows), scale).to(rows.dtype)


def normalize_by_constants(
    rows: Tensor,
    mean: Tensor | None,
    square_deviation: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    groups: int = 0,
) -> Tensor:
    """Evaluation mode of batch, pn-v and power: y = γ (s − μ) / √(d + ε) + β with constant μ and d, differentiable
    by x, γ and β. s is x, or with group scaling the scaled x.

    Args:
        rows: (N, C).
        mean: running μ (C,) of batch; None where nothing is subtracted.
        square_deviation: d, the running σ² or ψ² (C,).
        weight: γ (C,).
        bias: β (C,).
        eps: ε > 0.
        groups: G ≥ 0 groups of channels that each token is scaled by first; 0 leaves it out.

    Returns:
        (N, C) in the dtype of ``rows``.
    """
    if (groups or rows.dtype != square_deviation.dtype) and not torch.is_grad_enabled():
        # One pass, which knows no gradient.
        return normalize(rows, None, mean, square_deviation, weight, bias, eps, groups)[0]
    scale = at_least_float32(weight) * (square_deviation + eps).rsqrt()
    shift = at_least_float32(bias) if mean is None else at_least_float32(bias) - mean * scale
    if groups:
        rows = group_scaling(rows, groups, eps)
    return scale_and_shift(rows, scale, shift)
