"""Second derivatives: by plain torch operators where the gradient is exact, refused where it is not.

The fused passes over the rows give first derivatives only. A backward pass that is to be differentiated itself
(``create_graph=True``) comes here.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import Function

from ..kernels.plain import at_least_float32, count_tokens, zero_padding
from .group_scaling import group_scaling
from .reduction import Reduce


def normalize_by_batch(
    rows: Tensor, padding: Tensor | None, eps: float, groups: int, centred: bool, reduce: Reduce
) -> Tensor:
    """X̂ (N, C) of batch (``centred``) or pn-v, 0 at padding, as plain operators from the rows on."""
    scaled = at_least_float32(zero_padding(rows, padding))
    if groups:
        scaled = group_scaling(scaled, groups, eps)
    sums, count = reduce([scaled.sum(dim=0), count_tokens(rows, padding)])
    tokens = count.clamp(min=1)
    if centred:
        scaled = zero_padding(scaled - sums / tokens, padding)
    (square_sums,) = reduce([scaled.square().sum(dim=0)])
    return scaled * (square_sums / tokens + eps).rsqrt()


def differentiable(
    function: Callable[[Tensor, Tensor | None], Tensor],
    rows: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    grad: Tensor,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """dX, dγ and dβ as functions of x, γ and dY that can be differentiated.

    Args:
        function: the forward pass by plain operators, from x (N, C) and γ (C,), but for β.
        rows: x (N, C).
        weight: γ (C,), or None.
        bias: β (C,), or None.
        grad: dY (N, C), 0 at padding.
    """
    given = (rows,) if weight is None else (rows, weight)
    with torch.enable_grad():
        inputs = [tensor if tensor.requires_grad else tensor.detach().requires_grad_() for tensor in given]
        output = function(inputs[0], None if weight is None else inputs[1])
        gradients = torch.autograd.grad(output, inputs, grad.to(output.dtype), create_graph=True)
        grad_bias = None if bias is None else like(bias, at_least_float32(grad).flatten(0, -2).sum(dim=0))
    return gradients[0], None if weight is None else gradients[1], grad_bias


def like(parameter: Tensor | None, gradient: Tensor) -> Tensor | None:
    """The gradient in its parameter's dtype; None where there is no parameter."""
    return None if parameter is None else gradient.to(parameter.dtype)


class _NoSecondDerivative(Function):
    """The identity, whose own backward pass is an error."""

    @staticmethod
    def forward(ctx, reason, *gradients):
        """The gradients as they are."""
        ctx.reason = reason
        return tuple(gradient.view_as(gradient) for gradient in gradients)

    @staticmethod
    def backward(ctx, *_):
        """Raises ``RuntimeError``."""
        raise RuntimeError(ctx.reason)


def first_derivative_only(norm: str) -> Callable[[Callable], Callable]:
    """Decorates the ``backward`` of a Function whose gradient is approximate: differentiating it raises
    ``RuntimeError``.

    torch's ``once_differentiable`` does so without naming the norm, and not at all where dY is constant.
    """
    reason = f"the backward pass of {norm} is an approximation: it has no second derivative"

    def decorate(backward: Callable) -> Callable:
        @functools.wraps(backward)
        def guarded(ctx, *grads):
            with torch.no_grad():
                found = backward(ctx, *grads)
            if not torch.is_grad_enabled():
                return found
            gradients = [gradient.detach().requires_grad_() for gradient in found if gradient is not None]
            refusing = iter(_NoSecondDerivative.apply(reason, *gradients))
            return tuple(None if gradient is None else next(refusing) for gradient in found)

        return guarded

    return decorate
