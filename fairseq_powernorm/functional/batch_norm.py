"""BatchNorm over tokens (Ioffe and Szegedy 2015) and PN-V (Shen et al. 2020, Definition 1), with padding left out."""

import torch
from torch import Tensor
from torch.autograd import Function

from ..kernels.operators import gradient, gradient_sums, normalize
from ..kernels.plain import times
from .affine import like
from .reduction import Reduce, keep_local
from .second_derivative import differentiable_gradient


class BatchNormFunction(Function):
    """Forward and exact backward; see :func:`batch_norm`."""

    @staticmethod
    def forward(ctx, rows, weight, bias, padding, mean, second_moment, count, eps, groups, reduce):
        """Y, (N, C); keeps what the backward pass needs."""
        ctx.save_for_backward(rows, weight, bias, padding, mean, second_moment, count)
        ctx.reduce, ctx.settings = reduce, (eps, groups)
        return normalize(rows, padding, mean, second_moment, weight, bias, eps, groups)[0]

    @staticmethod
    def backward(ctx, grad_output):
        """dX, dγ, dβ."""
        rows, weight, bias, padding, mean, second_moment, count = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated itself
            given = rows, weight, bias, grad_output, padding, *ctx.settings
            return *differentiable_gradient(*given, centred=mean is not None, reduce=ctx.reduce), *[None] * 7
        given = rows, grad_output, padding, mean, second_moment
        grad_weight, grad_bias = gradient_sums(*given, *ctx.settings)
        sums = [times(weight, grad_weight)] if mean is None else [times(weight, grad_weight), times(weight, grad_bias)]
        means = [total / count.clamp(min=1) for total in ctx.reduce(sums)]
        projection, grad_mean = (*means, None)[:2]
        grad_rows, *_ = gradient(*given, weight, projection, grad_mean, *ctx.settings)
        return grad_rows, like(weight, grad_weight), like(bias, grad_bias), *[None] * 7


def batch_norm(
    rows: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    padding: Tensor | None,
    mean: Tensor | None,
    second_moment: Tensor,
    count: Tensor,
    eps: float,
    groups: int = 0,
    reduce: Reduce = keep_local,
) -> Tensor:
    """BatchNorm in training: Y = γ ⊙ (s − μ_B)/√(σ_B² + ε) + β, with the gradient through μ_B and σ_B.

    ds = (g − mean g − X̂ ⊙ mean(g ⊙ X̂))/√(σ_B² + ε), g = γ ⊙ dY, means over the real tokens (of all ranks). s is x, or
    with group scaling the scaled x, whose gradient follows.

    Without a mean it is PN-V: Y = γ ⊙ s/√(ψ_B² + ε) + β (Definition 1), with the gradient through ψ_B,
    ds = (g − Λ X̂)/√(ψ_B² + ε), Λ = mean(g ⊙ X̂).

    Args:
        rows: x (N, C).
        weight: γ (C,), or None for 1.
        bias: β (C,), or None for 0.
        padding: (N, 1), True at padding, or None. Rows of padding come out as β and get a gradient of 0.
        mean: μ_B (C,) of these very rows; None for PN-V.
        second_moment: of these very rows σ_B² (C,), biased, or ψ_B² for PN-V.
        count: the number of real tokens (of all ranks) that the statistics were taken over, a scalar.
        eps: ε > 0.
        groups: G ≥ 0 groups of channels that each token is scaled by first; 0 leaves it out.
        reduce: sums over ranks.

    Returns:
        (N, C) in the dtype of ``rows``.
    """
    return BatchNormFunction.apply(rows, weight, bias, padding, mean, second_moment, count, eps, groups, reduce)
