"""Second derivatives: by plain torch operators where the gradient is exact, refused where it is not.

The fused passes over the rows give first derivatives only. A backward pass that is to be differentiated itself
(``create_graph=True``) comes here.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import Function

from ..kernels.plain import count_tokens, real_values, times, zero_padding
from .group_scaling import scaled_rows
from .reduction import Reduce


def normalize_by_batch(
    rows: Tensor, padding: Tensor | None, eps: float, groups: int, centred: bool, reduce: Reduce
) -> Tensor:
    """X̂ (N, C) of batch (``centred``) or pn-v, 0 at padding, as plain operators from the rows on."""
    scaled = scaled_rows(rows, padding, groups, eps)
    sums, count = reduce([scaled.sum(dim=0), count_tokens(rows, padding)])
    tokens = count.clamp(min=1)
    if centred:
        scaled = zero_padding(scaled - sums / tokens, padding)
    (square_sums,) = reduce([scaled.square().sum(dim=0)])
    return scaled * (square_sums / tokens + eps).rsqrt()


def differentiable_gradient(
    rows: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    grad: Tensor,
    padding: Tensor | None,
    eps: float,
    groups: int,
    centred: bool,
    reduce: Reduce,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """dX, dγ and dβ of batch (``centred``) or pn-v in training, as functions of x, γ and dY that can be differentiated.

    Args:
        rows: x (..., C).
        weight: γ (C,), or None for 1.
        bias: β (C,), or None for 0.
        grad: dY (..., C).
        padding: a bool for each row, True at padding, or None.
        eps: ε > 0.
        groups: of group scaling; 0 for none.
        centred: whether μ_B is subtracted.
        reduce: sums over ranks; with more than one it refuses.
    """
    with torch.enable_grad():
        x, gamma = with_gradient(rows), None if weight is None else with_gradient(weight)
        output = times(gamma, normalize_by_batch(x, padding, eps, groups, centred, reduce))
        inputs, real = [each for each in (x, gamma) if each is not None], real_values(grad, padding)
        grad_rows, *grad_weight = torch.autograd.grad(output, inputs, real, create_graph=True)
        grad_bias = None if bias is None else real.sum(dim=0).to(bias.dtype)
        return grad_rows, grad_weight[0] if grad_weight else None, grad_bias


def with_gradient(tensor: Tensor) -> Tensor:
    """The tensor, or one of its values that a gradient can be taken by."""
    return tensor if tensor.requires_grad else tensor.detach().requires_grad_()


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


def first_derivative_only(backward: Callable) -> Callable:
    """Decorates the ``backward`` of a Function whose gradient is approximate: differentiating it raises
    ``RuntimeError``, which names the norm, ``ctx.norm``.

    torch's ``once_differentiable`` does so without naming the norm, and not at all where dY is constant.
    """

    @functools.wraps(backward)
    def guarded(ctx, *grads):
        if not torch.is_grad_enabled():
            return backward(ctx, *grads)
        with torch.no_grad():
            found = backward(ctx, *grads)
        gradients = [gradient.detach().requires_grad_() for gradient in found if gradient is not None]
        reason = f"the backward pass of {ctx.norm} is an approximation: it has no second derivative"
        refusing = iter(_NoSecondDerivative.apply(reason, *gradients))
        return tuple(None if gradient is None else next(refusing) for gradient in found)

    return guarded
