"""PN-V: divide by the batch's quadratic mean, no centring (Shen et al. 2020, Definition 1)."""

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..masking import zero_padding
from .affine import scale_and_shift
from .precision import at_least_float32
from .reduction import Reduce, keep_local


def output_gradient_sums(grad: Tensor, real: Tensor, inverse_root: Tensor) -> tuple[Tensor, Tensor]:
    """dγ = Σ dY ⊙ X̂ and dβ = Σ dY, (C,) each, for X̂ = x · ``inverse_root``; rows of padding have to be zero."""
    return (grad * real).sum(dim=0) * inverse_root, grad.sum(dim=0)


def project_gradient(grad: Tensor, real: Tensor, weight: Tensor, inverse_root: Tensor, projection: Tensor) -> Tensor:
    """dX = (g − projection ⊙ X̂) / ψ with g = γ ⊙ dY and X̂ = x / ψ, zero where both rows are (padding).

    Args:
        grad: dY (N, C), zero at padding.
        real: x (N, C), zero at padding.
        weight: γ (C,).
        inverse_root: 1/ψ (C,).
        projection: Λ of PN-V or ν of PowerNorm (C,).
    """
    return torch.addcmul(grad * (weight * inverse_root), real, projection * inverse_root.square(), value=-1)


class PNVFunction(Function):
    """Forward and exact backward; see :func:`pn_v`."""

    @staticmethod
    def forward(ctx, rows, weight, bias, padding, square_mean, count, eps, reduce):
        """Y, (N, C); keeps what the backward pass needs."""
        real = zero_padding(rows, padding)
        inverse_root = (square_mean + eps).rsqrt()
        ctx.save_for_backward(real, weight, padding, inverse_root, count)
        ctx.reduce = reduce
        return scale_and_shift(real, at_least_float32(weight) * inverse_root, at_least_float32(bias))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        """dX, dγ, dβ."""
        real, weight, padding, inverse_root, count = ctx.saved_tensors
        grad, wide, gamma = (at_least_float32(t) for t in (zero_padding(grad_output, padding), real, weight))
        grad_weight, grad_bias = output_gradient_sums(grad, wide, inverse_root)
        (projection_sum,) = ctx.reduce([gamma * grad_weight])
        projection = projection_sum / count.clamp(min=1)
        grad_rows = project_gradient(grad, wide, gamma, inverse_root, projection).to(real.dtype)
        return grad_rows, grad_weight.to(weight.dtype), grad_bias.to(weight.dtype), None, None, None, None, None


def pn_v(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    padding: Tensor | None,
    square_mean: Tensor,
    count: Tensor,
    eps: float,
    reduce: Reduce = keep_local,
) -> Tensor:
    """PN-V in training: Y = γ ⊙ x/√(ψ_B² + ε) + β (Definition 1), with the gradient through ψ_B.

    dX = (g − Λ X̂)/√(ψ_B² + ε), g = γ ⊙ dY, Λ = mean(g ⊙ X̂) over the real tokens (of all ranks).

    Args:
        rows: x (N, C).
        weight: γ (C,).
        bias: β (C,).
        padding: (N, 1), True at padding, or None. Rows of padding come out as β and get a gradient of 0.
        square_mean: ψ_B² (C,), the quadratic mean of these very rows; the backward pass differentiates through it.
        count: the number of real tokens (of all ranks) that ψ_B² was taken over, a scalar.
        eps: ε > 0.
        reduce: sums over ranks.

    Returns:
        (N, C) in the dtype of ``rows``.
    """
    return PNVFunction.apply(rows, weight, bias, padding, square_mean, count, eps, reduce)
