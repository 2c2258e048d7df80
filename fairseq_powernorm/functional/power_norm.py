"""PowerNorm: running quadratic mean forward, approximate backward (Shen et al. 2020, Definition 3, Algorithm 2)."""

from collections.abc import Callable

from torch import Tensor
from torch.autograd import Function

from ..kernels.operators import gradient, gradient_sums, normalize
from ..kernels.plain import times
from .affine import like
from .reduction import Reduce, keep_local
from .second_derivative import first_derivative_only

Follow = Callable[[Tensor | None, Tensor, Tensor, Tensor, Tensor], None]
"""Takes γ, dγ of all ranks, ψ²_{t−1} and ψ_B², (C,) each, and the number of tokens, and moves ν by them, now or
later."""


class PowerNormFunction(Function):
    """Forward and approximate backward; see :func:`power_norm`. ``measured`` is a list that gets what was measured:
    more outputs of a Function would cost more than the pass on a small batch."""

    @staticmethod
    def forward(ctx, rows, weight, bias, padding, square_mean, measured, projection, follow, eps, groups, reduce):
        """Y (N, C); keeps what the backward pass needs."""
        output, batch_square_mean, count = normalize(rows, padding, None, square_mean, weight, bias, eps, groups)
        if not measured:
            if reduce is not keep_local:
                square_sum, count = reduce([batch_square_mean * count, count])
                batch_square_mean = square_sum / count.clamp(min=1)
            measured += batch_square_mean, count
        ctx.save_for_backward(rows, weight, bias, padding, square_mean, *measured)
        ctx.projection, ctx.follow, ctx.settings, ctx.reduce = projection, follow, (eps, groups), reduce
        ctx.norm = "power"
        return output

    @staticmethod
    @first_derivative_only
    def backward(ctx, grad_output):
        """dX, dγ, dβ; hands on what ν is moved by."""
        rows, weight, bias, padding, square_mean, batch_square_mean, count = ctx.saved_tensors  # once: it may recompute
        given, settings, projection = (rows, grad_output, padding, None, square_mean), ctx.settings, ctx.projection
        if projection is None:  # the warm-up: Λ is PN-V's, and has to be known before the pass over the rows
            (total,) = ctx.reduce([gradient_sums(*given, *settings)[0]])
            projection = times(weight, total) / count.clamp(min=1)
            grad_rows, grad_weight, grad_bias = gradient(*given, weight, projection, None, *settings)
        else:
            grad_rows, grad_weight, grad_bias = gradient(*given, weight, projection, None, *settings)
            (total,) = ctx.reduce([grad_weight])
        ctx.follow(weight, total, square_mean, batch_square_mean, count)
        return grad_rows, like(weight, grad_weight), like(bias, grad_bias), *[None] * 8


def power_norm(
    rows: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    padding: Tensor | None,
    square_mean: Tensor,
    projection: Tensor | None,
    follow: Follow,
    eps: float,
    measured: tuple[Tensor, Tensor] | None = None,
    groups: int = 0,
    reduce: Reduce = keep_local,
) -> tuple[Tensor, Tensor, Tensor]:
    """PowerNorm in training: Y = γ ⊙ s/√(ψ²_{t−1} + ε) + β with Algorithm 2's backward pass.

    X̃' = g − ν_{t−1} ⊙ X̂ and ds = X̃'/√(ψ²_{t−1} + ε), with g = γ ⊙ dY; s is x, or with group scaling the scaled x,
    whose gradient follows. **The backward pass** hands dγ and ψ_B² to ``follow``, for ν_t
    (:data:`~fairseq_powernorm.kernels.operators.move_projection`). The gradient is not that of the forward pass, by
    design: ψ²_{t−1} is treated neither as a constant (ν = 0) nor as this batch's own statistic (ν = Λ), see the paper's
    section 4.2.

    During warm-up the rows are divided by their own ψ_B, so the function is PN-V and its gradient is PN-V's exact one
    (Λ in place of ν_{t−1}); dγ and ψ_B² are handed on all the same.

    Neither direction has to know a statistic of the batch beforehand, so each is one pass over the rows, as
    LayerNorm's are; only the warm-up's backward pass reads them twice.

    Args:
        rows, weight, bias, padding, eps, groups, reduce: as in :func:`~.batch_norm.batch_norm`.
        square_mean: ψ² (C,) to divide by: ψ²_{t−1}, or ψ_B² during warm-up. Must not be moved before the backward pass.
        projection: ν_{t−1} (C,), read by the backward pass, before ``follow`` is called; None during warm-up, when
            ``square_mean`` is the batch's own ψ_B².
        follow: what moves ν.
        measured: ψ_B² and the number of real tokens where they are known already (warm-up, recomputation); None to
            take them in this pass.

    Returns:
        Y (N, C) in the dtype of ``rows``, ψ_B² (C,) and the number of real tokens that it is over, a scalar.
    """
    known = list(measured or ())
    output = PowerNormFunction.apply(
        rows, weight, bias, padding, square_mean, known, projection, follow, eps, groups, reduce
    )
    return output, *known
