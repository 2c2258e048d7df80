"""What every batch norm of tokens ends in: one multiply and one add per channel."""

import torch
from torch import Tensor
from torch.autograd import Function

from .group_scaling import group_scaling
from .precision import at_least_float32
from .rows import gradient, normalize


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
    if not groups and rows.dtype == square_deviation.dtype:
        return by_operators(rows, mean, square_deviation, weight, bias, eps, groups)
    if torch.is_grad_enabled():  # the same pass, so that the same numbers come out
        return NormalizeByConstantsFunction.apply(rows, weight, bias, mean, square_deviation, eps, groups)
    return normalize(rows, None, mean, square_deviation, weight, bias, eps, groups)[0]


def by_operators(
    rows: Tensor,
    mean: Tensor | None,
    square_deviation: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    groups: int,
) -> Tensor:
    """:func:`normalize_by_constants` by plain operators, which can be differentiated any number of times."""
    scale = at_least_float32(weight) * (square_deviation + eps).rsqrt()
    shift = at_least_float32(bias) if mean is None else at_least_float32(bias) - mean * scale
    scaled = group_scaling(at_least_float32(rows), groups, eps) if groups else rows
    return scale_and_shift(scaled, scale, shift).to(rows.dtype)


class NormalizeByConstantsFunction(Function):
    """Forward and backward in one fused pass each; see :func:`normalize_by_constants`."""

    @staticmethod
    def forward(ctx, rows, weight, bias, mean, square_deviation, eps, groups):
        """Y, (N, C); keeps what the backward pass needs."""
        ctx.save_for_backward(rows, weight, bias, mean, square_deviation)
        ctx.settings = eps, groups
        return normalize(rows, None, mean, square_deviation, weight, bias, eps, groups)[0]

    @staticmethod
    def backward(ctx, grad_output):
        """dX, dγ, dβ."""
        rows, weight, bias, mean, square_deviation = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again
            inputs = [tensor if tensor.requires_grad else tensor.detach().requires_grad_() for tensor in (rows, weight)]
            output = by_operators(inputs[0], mean, square_deviation, inputs[1], bias, *ctx.settings)
            gradients = torch.autograd.grad(output, inputs, grad_output, create_graph=True)
            return *gradients, at_least_float32(grad_output).sum(dim=0).to(bias.dtype), *[None] * 4
        nothing = torch.zeros_like(square_deviation)  # constants: no gradient passes through μ and d
        projections = nothing, None if mean is None else nothing
        grad_rows, grad_weight, grad_bias = gradient(
            rows, grad_output, None, mean, square_deviation, weight, *projections, *ctx.settings
        )
        return grad_rows, grad_weight.to(weight.dtype), grad_bias.to(bias.dtype), *[None] * 4
