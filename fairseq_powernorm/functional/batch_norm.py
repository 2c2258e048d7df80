"""BatchNorm over tokens (Ioffe and Szegedy 2015) with padding left out."""

import torch
from torch import Tensor
from torch.autograd import Function

from .precision import at_least_float32
from .reduction import Reduce, keep_local
from .rows import gradient, gradient_sums, normalize
from .second_derivative import differentiable_gradient


class BatchNormFunction(Function):
    """Forward and exact backward; see :func:`batch_norm`."""

    @staticmethod
    def forward(ctx, rows, weight, bias, padding, mean, variance, count, eps, groups, reduce):
        """Y, (N, C); keeps what the backward pass needs."""
        ctx.save_for_backward(rows, weight, padding, mean, variance, count)
        ctx.reduce, ctx.settings = reduce, (eps, groups)
        return normalize(rows, padding, mean, variance, weight, bias, eps, groups)[0]

    @staticmethod
    def backward(ctx, grad_output):
        """dX, dγ, dβ."""
        rows, weight, padding, mean, variance, count = ctx.saved_tensors
        if torch.is_grad_enabled():
            given = rows, weight, grad_output, padding, *ctx.settings
            return *differentiable_gradient(*given, centred=True, reduce=ctx.reduce), *[None] * 7
        gamma, tokens = at_least_float32(weight), count.clamp(min=1)
        grad_weight, grad_bias = gradient_sums(rows, grad_output, padding, mean, variance, *ctx.settings)
        projection_sum, mean_sum = ctx.reduce([gamma * grad_weight, gamma * grad_bias])
        means = projection_sum / tokens, mean_sum / tokens
        grad_rows, *_ = gradient(rows, grad_output, padding, mean, variance, weight, *means, *ctx.settings)
        return grad_rows, grad_weight.to(weight.dtype), grad_bias.to(weight.dtype), *[None] * 7


def batch_norm(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    padding: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    count: Tensor,
    eps: float,
    groups: int = 0,
    reduce: Reduce = keep_local,
) -> Tensor:
    """BatchNorm in training: Y = γ ⊙ (s − μ_B)/√(σ_B² + ε) + β, with the gradient through μ_B and σ_B.

    ds = (g − mean g − X̂ ⊙ mean(g ⊙ X̂))/√(σ_B² + ε), g = γ ⊙ dY, means over the real tokens (of all ranks). s is x, or
    with group scaling the scaled x, whose gradient follows.

    Args:
        rows: x (N, C).
        weight: γ (C,).
        bias: β (C,).
        padding: (N, 1), True at padding, or None. Rows of padding come out as β and get a gradient of 0.
        mean: μ_B (C,) of these very rows.
        variance: σ_B² (C,), biased, of these very rows.
        count: the number of real tokens (of all ranks) that the statistics were taken over, a scalar.
        eps: ε > 0.
        groups: G ≥ 0 groups of channels that each token is scaled by first; 0 leaves it out.
        reduce: sums over ranks.

    Returns:
        (N, C) in the dtype of ``rows``.
    """
    return BatchNormFunction.apply(rows, weight, bias, padding, mean, variance, count, eps, groups, reduce)
