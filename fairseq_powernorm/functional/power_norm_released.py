"""PowerNorm as the authors' released code computes it, which is not Algorithm 2.

Re-implemented from a description of what that code does, not from the code. The differences from
:mod:`~fairseq_powernorm.functional.power_norm`: the gradient is divided by the root of the current batch's ψ_B²
whatever the forward pass divided by; padding is left out of ψ_B² but not out of the backward means, so
padding gets a gradient; during warm-up ν enters the backward pass too; nothing protects ν from a gradient that is not
finite.
"""

import torch
from torch import Tensor
from torch.autograd import Function

from ..kernels.plain import at_least_float32, times
from .affine import like
from .second_derivative import first_derivative_only


class PowerNormReleasedFunction(Function):
    """Forward and the release's backward; see :func:`power_norm_released`."""

    @staticmethod
    def forward(ctx, rows, weight, bias, square_mean, batch_square_mean, accumulated, alpha, eps):
        """Y, (N, C); keeps what the backward pass needs."""
        forward_inverse_root, batch_inverse_root = (square_mean + eps).rsqrt(), (batch_square_mean + eps).rsqrt()
        ctx.save_for_backward(rows, weight, bias, forward_inverse_root, batch_inverse_root)
        ctx.accumulated, ctx.alpha, ctx.norm = accumulated, alpha, "power-released"
        wide, scale = at_least_float32(rows), times(weight, forward_inverse_root)
        return (wide * scale if bias is None else torch.addcmul(at_least_float32(bias), wide, scale)).to(rows.dtype)

    @staticmethod
    @first_derivative_only
    def backward(ctx, grad_output):
        """dX, dγ, dβ; moves E."""
        rows, weight, bias, forward_inverse_root, batch_inverse_root = ctx.saved_tensors
        grad = at_least_float32(grad_output)
        normalized = at_least_float32(rows) * forward_inverse_root
        projected = times(weight, grad) - (1 - ctx.alpha) * ctx.accumulated * normalized
        grad_rows = (projected * batch_inverse_root).to(rows.dtype)
        ctx.accumulated.add_((projected * normalized).mean(dim=0))
        grad_weight, grad_bias = (grad * normalized).sum(dim=0), grad.sum(dim=0)
        return grad_rows, like(weight, grad_weight), like(bias, grad_bias), *[None] * 5


def power_norm_released(
    rows: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    square_mean: Tensor,
    batch_square_mean: Tensor,
    accumulated: Tensor,
    alpha: float,
    eps: float,
) -> Tensor:
    """The released PowerNorm in training: Z = x/√(d + ε), Y = γ ⊙ Z + β.

    Backward: dX = (g − (1 − α) E ⊙ Z)/√(ψ_B² + ε), then E ← E + mean of (g − (1 − α) E ⊙ Z) ⊙ Z over **all** rows,
    padding included. (1 − α) E plays the part of Algorithm 2's ν.

    Args:
        rows: x (N, C), after group scaling.
        weight: γ (C,), or None for 1.
        bias: β (C,), or None for 0.
        square_mean: d (C,) that the rows are divided by: ψ_B² in warm-up, later φ as it was before the call.
        batch_square_mean: ψ_B² (C,) of these very rows.
        accumulated: E (C,), read and then updated in place by the backward pass.
        alpha: decay of the backward pass, in [0, 1).
        eps: ε > 0.

    Returns:
        (N, C) in the dtype of ``rows``.
    """
    return PowerNormReleasedFunction.apply(rows, weight, bias, square_mean, batch_square_mean, accumulated, alpha, eps)
