"""PowerNorm: running quadratic mean forward, approximate backward (Shen et al. 2020, Definition 3, Algorithm 2)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..masking import zero_padding
from .affine import scale_and_shift
from .pn_v import output_gradient_sums, project_gradient
from .precision import at_least_float32
from .reduction import Reduce, keep_local


class PowerStatistics(NamedTuple):
    """What one training forward pass of PowerNorm goes by.

    Attributes:
        square_mean: ψ² (C,) that the rows are divided by: ψ²_{t−1}, or ψ_B² during warm-up.
        batch_square_mean: ψ_B² (C,) of these very rows.
        count: the number of real tokens that ψ_B² was taken over, a scalar.
    """

    square_mean: Tensor
    batch_square_mean: Tensor
    count: Tensor


def next_projection(projection: Tensor, square_mean_ratio: Tensor, correlation: Tensor, alpha: float) -> Tensor:
    """ν_t = ν_{t−1} (1 − (1 − α) Γ) + (1 − α) Λ (Algorithm 2, last line).

    Args:
        projection: ν_{t−1} (C,).
        square_mean_ratio: Γ = mean X̂² (C,).
        correlation: Λ = mean g ⊙ X̂ (C,).
        alpha: decay in [0, 1).

    Returns:
        ν_t (C,); ν_{t−1} if any entry of ν_t is not finite, as the optimizer leaves out such a step.
    """
    updated = projection * (1 - (1 - alpha) * square_mean_ratio) + (1 - alpha) * correlation
    return torch.where(updated.isfinite().all(), updated, projection)


class PowerNormFunction(Function):
    """Forward and approximate backward; see :func:`power_norm`."""

    @staticmethod
    def forward(ctx, rows, weight, bias, padding, statistics, projection, warming_up, alpha, eps, reduce):
        """Y, (N, C); keeps what the backward pass needs."""
        real = zero_padding(rows, padding)
        inverse_root = (statistics.square_mean + eps).rsqrt()
        ctx.save_for_backward(real, weight, padding, inverse_root)
        ctx.statistics, ctx.projection, ctx.reduce = statistics, projection, reduce
        ctx.warming_up, ctx.alpha = warming_up, alpha
        return scale_and_shift(real, at_least_float32(weight) * inverse_root, at_least_float32(bias))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        """dX, dγ, dβ; moves ν."""
        real, weight, padding, inverse_root = ctx.saved_tensors
        count = ctx.statistics.count.clamp(min=1)
        grad, wide, gamma = (at_least_float32(t) for t in (zero_padding(grad_output, padding), real, weight))
        grad_weight, grad_bias = output_gradient_sums(grad, wide, inverse_root)
        (correlation_sum,) = ctx.reduce([gamma * grad_weight])
        correlation = correlation_sum / count
        # Γ needs no pass of its own: X̂ is x times a constant, so mean X̂² follows from the forward pass's mean x².
        square_mean_ratio = ctx.statistics.batch_square_mean * inverse_root.square()
        projection = correlation if ctx.warming_up else ctx.projection
        grad_rows = project_gradient(grad, wide, gamma, inverse_root, projection).to(real.dtype)
        updated = next_projection(ctx.projection, square_mean_ratio, correlation, ctx.alpha)
        ctx.projection.copy_(torch.where(ctx.statistics.count > 0, updated, ctx.projection))
        return grad_rows, grad_weight.to(weight.dtype), grad_bias.to(weight.dtype), *[None] * 7


def power_norm(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    padding: Tensor | None,
    statistics: PowerStatistics,
    projection: Tensor,
    warming_up: bool,
    alpha: float,
    eps: float,
    reduce: Reduce = keep_local,
) -> Tensor:
    """PowerNorm in training: Y = γ ⊙ x/√(ψ²_{t−1} + ε) + β with Algorithm 2's backward pass.

    X̃' = g − ν_{t−1} ⊙ X̂ and dX = X̃'/√(ψ²_{t−1} + ε), with g = γ ⊙ dY. ν is moved to ν_t **by the backward pass**,
    in place (:func:`next_projection`). The gradient is not that of the forward pass, by design: ψ²_{t−1} is treated
    neither as a constant (ν = 0) nor as this batch's own statistic (ν = Λ), see the paper's section 4.2.

    During warm-up the rows are divided by their own ψ_B, so the function is PN-V and its gradient is PN-V's exact one
    (Λ in place of ν_{t−1}); ν follows along.

    Args:
        rows: x (N, C).
        weight: γ (C,).
        bias: β (C,).
        padding: (N, 1), True at padding, or None. Rows of padding come out as β and get a gradient of 0.
        statistics: ψ² to divide by, ψ_B² and the number of real tokens.
        projection: ν (C,), read and then updated in place by the backward pass.
        warming_up: whether ``statistics.square_mean`` is the batch's own ψ_B².
        alpha: decay of ν in [0, 1), per backward pass.
        eps: ε > 0.
        reduce: sums over ranks.

    Returns:
        (N, C) in the dtype of ``rows``.
    """
    return PowerNormFunction.apply(rows, weight, bias, padding, statistics, projection, warming_up, alpha, eps, reduce)
