"""What every batch norm of tokens ends in: one multiply and one add per channel."""

import torch
from torch import Tensor
from torch.autograd import Function

from ..kernels import operators, plain
from .second_derivative import with_gradient


class NormalizeByConstantsFunction(Function):
    """Forward and backward; see :func:`normalize_by_constants`."""

    @staticmethod
    def forward(ctx, rows, weight, bias, mean, second_moment, eps, groups):
        """Y; keeps what the backward pass needs."""
        ctx.save_for_backward(rows, weight, bias, mean, second_moment)
        ctx.settings = eps, groups
        return operators.normalize_by_constants(rows, mean, second_moment, weight, bias, eps, groups)

    @staticmethod
    def backward(ctx, grad_output):
        """dX, dγ, dβ."""
        rows, weight, bias, mean, second_moment = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated itself
            given = [None if each is None else with_gradient(each) for each in (rows, weight, bias)]
            output = plain.normalize_by_constants(given[0], mean, second_moment, *given[1:], *ctx.settings)
            inputs = [each for each in given if each is not None]
            found = iter(torch.autograd.grad(output, inputs, grad_output, create_graph=True))
            return *(None if each is None else next(found) for each in given), *[None] * 4
        nothing = torch.zeros_like(second_moment)  # no gradient passes through μ and d
        grad_mean = None if mean is None else nothing
        grad_rows, grad_weight, grad_bias = operators.gradient(
            rows, grad_output, None, mean, second_moment, weight, nothing, grad_mean, *ctx.settings
        )
        return grad_rows, like(weight, grad_weight), like(bias, grad_bias), *[None] * 4


def like(parameter: Tensor | None, gradient: Tensor) -> Tensor | None:
    """The gradient in its parameter's dtype; None where there is no parameter."""
    if parameter is None:
        return None
    return gradient if gradient.dtype == parameter.dtype else gradient.to(parameter.dtype)


def normalize_by_constants(
    rows: Tensor,
    mean: Tensor | None,
    second_moment: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    groups: int = 0,
) -> Tensor:
    """Evaluation mode of batch, pn-v and power: y = γ (s − μ) / √(d + ε) + β with constant μ and d, differentiable
    by x, γ and β. s is x, or with group scaling the scaled x.

    Args:
        rows: (..., C).
        mean: running μ (C,) of batch; None where nothing is subtracted.
        second_moment: d, the running σ² or ψ² (C,).
        weight: γ (C,), or None for 1.
        bias: β (C,), or None for 0.
        eps: ε > 0.
        groups: G ≥ 0 groups of channels that each token is scaled by first; 0 leaves it out.

    Returns:
        (..., C) in the dtype of ``rows``.
    """
    if torch.compiler.is_compiling():  # so that a graph holds torch's own operators: it is exported, or fused
        return plain.normalize_by_constants(rows, mean, second_moment, weight, bias, eps, groups)
    if torch.is_grad_enabled():
        return NormalizeByConstantsFunction.apply(rows, weight, bias, mean, second_moment, eps, groups)
    return operators.normalize_by_constants(rows, mean, second_moment, weight, bias, eps, groups)
