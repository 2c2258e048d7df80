"""BatchNorm over tokens (Ioffe and Szegedy 2015) with padding left out."""

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..masking import zero_padding
from .precision import at_least_float32
from .reduction import Reduce, keep_local


class BatchNormFunction(Function):
    """Forward and exact backward; see :func:`batch_norm`."""

    @staticmethod
    def forward(ctx, rows, weight, bias, padding, mean, variance, count, eps, reduce):
        """Y, (N, C); keeps what the backward pass needs."""
        real = zero_padding(rows, padding)
        inverse_root = (variance + eps).rsqrt()
        ctx.save_for_backward(real, weight, padding, mean, inverse_root, count)
        ctx.reduce = reduce
        normalized = (at_least_float32(real) - mean).mul_(inverse_root)
        return normalized.mul_(at_least_float32(weight)).add_(at_least_float32(bias)).to(rows.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        """dX, dγ, dβ."""
        real, weight, padding, mean, inverse_root, count = ctx.saved_tensors
        grad = at_least_float32(zero_padding(grad_output, padding))
        gamma = at_least_float32(weight)
        normalized = (at_least_float32(real) - mean).mul_(inverse_root)
        grad_weight, grad_bias = (grad * normalized).sum(dim=0), grad.sum(dim=0)
        product_sum, grad_sum = ctx.reduce([gamma * grad_weight, gamma * grad_bias])
        tokens = count.clamp(min=1)
        centred = torch.addcmul(grad * gamma - grad_sum / tokens, normalized, product_sum / tokens, value=-1)
        grad_rows = zero_padding(centred.mul_(inverse_root), padding).to(real.dtype)
        return grad_rows, grad_weight.to(weight.dtype), grad_bias.to(weight.dtype), *[None] * 6


def batch_norm(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    padding: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    count: Tensor,
    eps: float,
    reduce: Reduce = keep_local,
) -> Tensor:
    """BatchNorm in training: Y = γ ⊙ (x − μ_B)/√(σ_B² + ε) + β, with the gradient through μ_B and σ_B.

    dX = (g − mean g − X̂ ⊙ mean(g ⊙ X̂))/√(σ_B² + ε), g = γ ⊙ dY, means over the real tokens (of all ranks).

    Args:
        rows: x (N, C).
        weight: γ (C,).
        bias: β (C,).
        padding: (N, 1), True at padding, or None. Rows of padding come out as if they held zeros and get a gradient
            of 0.
        mean: μ_B (C,) of these very rows.
        variance: σ_B² (C,), biased, of these very rows.
        count: the number of real tokens (of all ranks) that the statistics were taken over, a scalar.
        eps: ε > 0.
        reduce: sums over ranks.

    Returns:
        (N, C) in the dtype of ``rows``.
    """
    return BatchNormFunction.apply(rows, weight, bias, padding, mean, variance, count, eps, reduce)
