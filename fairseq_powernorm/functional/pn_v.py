"""PN-V: divide by the batch's quadratic mean, no centring (Shen et al. 2020, Definition 1)."""

import torch
from torch import Tensor
from torch.autograd import Function

from .precision import at_least_float32
from .reduction import Reduce, keep_local
from .rows import gradient, gradient_sums, normalize
from .second_derivative import differentiable_gradient


class PNVFunction(Function):
    """Forward and exact backward; see :func:`pn_v`."""

    @staticmethod
    def forward(ctx, rows, weight, bias, padding, square_mean, count, eps, groups, reduce):
        """Y, (N, C); keeps what the backward pass needs."""
        ctx.save_for_backward(rows, weight, padding, square_mean, count)
        ctx.reduce, ctx.settings = reduce, (eps, groups)
        return normalize(rows, padding, None, square_mean, weight, bias, eps, groups)[0]

    @staticmethod
    def backward(ctx, grad_output):
        """dX, dγ, dβ."""
        rows, weight, padding, square_mean, count = ctx.saved_tensors
        if torch.is_grad_enabled():
            given = rows, weight, grad_output, padding, *ctx.settings
            return *differentiable_gradient(*given, centred=False, reduce=ctx.reduce), *[None] * 6
        grad_weight, grad_bias = gradient_sums(rows, grad_output, padding, None, square_mean, *ctx.settings)
        (projection_sum,) = ctx.reduce([at_least_float32(weight) * grad_weight])
        projection = projection_sum / count.clamp(min=1)
        grad_rows, *_ = gradient(rows, grad_output, padding, None, square_mean, weight, projection, None, *ctx.settings)
        return grad_rows, grad_weight.to(weight.dtype), grad_bias.to(weight.dtype), *[None] * 6


def pn_v(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    padding: Tensor | None,
    square_mean: Tensor,
    count: Tensor,
    eps: float,
    groups: int = 0,
    reduce: Reduce = keep_local,
) -> Tensor:
    """PN-V in training: Y = γ ⊙ s/√(ψ_B² + ε) + β (Definition 1), with the gradient through ψ_B.

    ds = (g − Λ X̂)/√(ψ_B² + ε), g = γ ⊙ dY, Λ = mean(g ⊙ X̂) over the real tokens (of all ranks). s is x, or with
    group scaling the scaled x, whose gradient follows.

    Args:
        rows: x (N, C).
        weight: γ (C,).
        bias: β (C,).
        padding: (N, 1), True at padding, or None. Rows of padding come out as β and get a gradient of 0.
        square_mean: ψ_B² (C,), the quadratic mean of these very rows; the backward pass differentiates through it.
        count: the number of real tokens (of all ranks) that ψ_B² was taken over, a scalar.
        eps: ε > 0.
        groups: G ≥ 0 groups of channels that each token is scaled by first; 0 leaves it out.
        reduce: sums over ranks.

    Returns:
        (N, C) in the dtype of ``rows``.
    """
    return PNVFunction.apply(rows, weight, bias, padding, square_mean, count, eps, groups, reduce)
