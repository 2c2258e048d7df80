"""Second derivatives: by plain torch operators where the gradient is exact, refused where it is not.

The fused passes over the rows give first derivatives only. A backward pass that is to be differentiated itself
(``create_graph=True``) comes here.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import Function

from ..masking import count_tokens, zero_padding
from .group_scaling import group_scaling
from .precision import at_least_float32
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


def differentiable_gradient(
    rows: Tensor,
    weight: Tensor,
    grad: Tensor,
    padding: Tensor | None,
    eps: float,
    groups: int,
    centred: bool,
    reduce: Reduce,
) -> tuple[Tensor, Tensor, Tensor]:
    """dX, dγ and dβ of batch (``centred``) or pn-v in training, as functions of x, γ and dY that can be differentiated.

    Args:
        rows: x (N, C).
        weight: γ (C,).
        grad: dY (N, C).
        padding: (N, 1), True at padding, or None.
        eps: ε > 0.
        groups: of group scaling; 0 for none.
        centred: whether μ_B is subtracted.
        reduce: sums over ranks; with more than one it refuses.
    """
    with torch.enable_grad():
        x, gamma = (tensor if tensor.requires_grad else tensor.detach().requires_grad_() for tensor in (rows, weight))
        normalized = normalize_by_batch(x, padding, eps, groups, centred, reduce)
        real = at_least_float32(zero_padding(grad, padding))
        grad_rows, grad_weight = torch.autograd.grad(normalized * gamma, (x, gamma), real, create_graph=True)
        return grad_rows, grad_weight, real.sum(dim=0).to(weight.dtype)


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
