"""PowerNorm: running quadratic mean forward, approximate backward (Shen et al. 2020, Definition 3, Algorithm 2)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..masking import count_tokens
from .precision import at_least_float32
from .reduction import Reduce, keep_local
from .rows import gradient, gradient_sums, normalize


def next_projection(projection: Tensor, square_mean_ratio: Tensor, correlation: Tensor, alpha: float) -> Tensor:
    """ν_t = ν_{t−1} (1 − w Γ) + w Λ with w = min(1 − α, 1/Γ).

    With w = 1 − α it is Algorithm 2's last line, and that is so wherever (1 − α) Γ ≤ 1, as the proof of Theorem 4
    assumes: ν_t is then a mean of ν_{t−1} and Λ/Γ, and |ν| stays below the largest |Λ|/Γ so far. A channel whose
    quadratic mean jumps breaks the assumption: by the line as printed a single batch with activations 100 times as
    large multiplies ν by −1000, and ν comes back only after ψ² has. Here such a batch puts ν at its own Λ/Γ.

    Args:
        projection: ν_{t−1} (C,).
        square_mean_ratio: Γ = mean X̂² (C,).
        correlation: Λ = mean g ⊙ X̂ (C,).
        alpha: decay in [0, 1).

    Returns:
        ν_t (C,).
    """
    towards = torch.addcmul(correlation, projection, square_mean_ratio, value=-1)
    excess = (square_mean_ratio * (1 - alpha)).clamp(min=1)  # 1 exactly where the assumption holds
    return torch.add(projection, towards / excess, alpha=1 - alpha)


Follow = Callable[[Tensor, Tensor, Tensor], None]
"""Takes Γ (C,), Λ (C,) and the number of tokens that they are means over, and moves ν by them, now or later."""


class PowerNormFunction(Function):
    """Forward and approximate backward; see :func:`power_norm`. ``measured`` is a list that gets what was measured:
    more outputs of a Function would cost more than the pass on a small batch."""

    @staticmethod
    def forward(
        ctx, rows, weight, bias, padding, square_mean, measured, projection, warming_up, follow, eps, groups, reduce
    ):
        """Y (N, C); keeps what the backward pass needs."""
        inverse_root = (square_mean + eps).rsqrt()
        scale = at_least_float32(weight) * inverse_root
        output, squares = normalize(rows, padding, None, scale, at_least_float32(bias), groups, eps)
        if not measured:
            sums, count = reduce([squares, count_tokens(rows, padding)])
            measured += sums / count.clamp(min=1), count
        batch_square_mean, count = measured
        ctx.save_for_backward(rows, weight, padding, inverse_root, batch_square_mean, count)
        ctx.projection, ctx.reduce, ctx.warming_up, ctx.follow = projection, reduce, warming_up, follow
        ctx.group_scaling = groups, eps
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        """dX, dγ, dβ; hands on what ν is moved by."""
        rows, weight, padding, inverse_root, batch_square_mean, count = ctx.saved_tensors
        gamma, tokens = at_least_float32(weight), count.clamp(min=1)
        projection = ctx.projection
        if ctx.warming_up:  # PN-V's own, which has to be known before the pass over the rows
            product_sum, _ = gradient_sums(rows, grad_output, padding, None, *ctx.group_scaling)
            (correlation_sum,) = ctx.reduce([gamma * product_sum * inverse_root])
            projection = correlation_sum / tokens
        grad_scale, grad_product = gamma * inverse_root, projection * inverse_root.square()
        grad_rows, product_sum, grad_bias = gradient(
            rows, grad_output, padding, None, grad_scale, grad_product, None, *ctx.group_scaling
        )
        grad_weight = product_sum * inverse_root
        if not ctx.warming_up:
            (correlation_sum,) = ctx.reduce([gamma * grad_weight])
        # Γ needs no pass of its own: X̂ is s times a constant, so mean X̂² follows from the forward pass's mean s².
        square_mean_ratio = batch_square_mean * inverse_root.square()
        ctx.follow(square_mean_ratio, correlation_sum / tokens, count)
        return grad_rows, grad_weight.to(weight.dtype), grad_bias.to(weight.dtype), *[None] * 9


def power_norm(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    padding: Tensor | None,
    square_mean: Tensor,
    projection: Tensor,
    follow: Follow,
    eps: float,
    measured: tuple[Tensor, Tensor] | None = None,
    warming_up: bool = False,
    groups: int = 0,
    reduce: Reduce = keep_local,
) -> tuple[Tensor, Tensor, Tensor]:
    """PowerNorm in training: Y = γ ⊙ s/√(ψ²_{t−1} + ε) + β with Algorithm 2's backward pass.

    X̃' = g − ν_{t−1} ⊙ X̂ and ds = X̃'/√(ψ²_{t−1} + ε), with g = γ ⊙ dY; s is x, or with group scaling the scaled x,
    whose gradient follows. **The backward pass** hands Γ and Λ to ``follow``, for ν_t (:func:`next_projection`). The
    gradient is not that of the forward pass, by design: ψ²_{t−1} is treated neither as a constant (ν = 0) nor as this
    batch's own statistic (ν = Λ), see the paper's section 4.2.

    During warm-up the rows are divided by their own ψ_B, so the function is PN-V and its gradient is PN-V's exact one
    (Λ in place of ν_{t−1}); Γ and Λ are handed on all the same.

    Neither direction has to know a statistic of the batch beforehand, so each is one pass over the rows, as
    LayerNorm's are; only the warm-up's backward pass reads them twice.

    Args:
        rows: x (N, C).
        weight: γ (C,).
        bias: β (C,).
        padding: (N, 1), True at padding, or None. Rows of padding come out as β and get a gradient of 0.
        square_mean: ψ² (C,) to divide by: ψ²_{t−1}, or ψ_B² during warm-up. Must not be moved before the backward pass.
        projection: ν_{t−1} (C,), read by the backward pass, before ``follow`` is called.
        follow: what moves ν.
        eps: ε > 0.
        measured: ψ_B² and the number of real tokens where they are known already (warm-up, recomputation); None to
            take them in this pass.
        warming_up: whether ``square_mean`` is the batch's own ψ_B².
        groups: G ≥ 0 groups of channels that each token is scaled by first; 0 leaves it out.
        reduce: sums over ranks.

    Returns:
        Y (N, C) in the dtype of ``rows``, ψ_B² (C,) and the number of real tokens that it is over, a scalar.
    """
    known = list(measured or ())
    output = PowerNormFunction.apply(
        rows, weight, bias, padding, square_mean, known, projection, warming_up, follow, eps, groups, reduce
    )
    return output, *known
