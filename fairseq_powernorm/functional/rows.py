"""The four passes over rows of tokens that every batch norm is made of, by a fused kernel or in plain torch.

s is x, or with ``groups`` G > 0 the group-scaled x: each token's groups of C/G channels at quadratic mean 1
(:mod:`~fairseq_powernorm.functional.group_scaling`). Sums are over the real tokens. c, the centre, is μ of batch; None,
that is 0, elsewhere. Vectors are (C,), ``padding`` is (N, 1), True at padding, or None. What stands at padding, NaN
included, has no influence. Arithmetic is float32 or wider, sums come in that type, rows in their own.
"""

import torch
from torch import Tensor

from ..kernels.backend import backend_for
from ..masking import zero_padding
from .precision import at_least_float32


def normalize(
    rows: Tensor,
    padding: Tensor | None,
    centre: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    groups: int = 0,
    eps: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """y = scale ⊙ (s − c) + shift, (N, C), which is shift at padding; and Σ (s − c)², (C,)."""
    rows = rows.contiguous()
    if (backend := backend_for(rows)) is not None:
        return backend.normalize(rows, padding, centre, scale, shift, groups, eps)
    values = _centred(_scaled(rows, padding, groups, eps)[0], padding, centre)
    return torch.addcmul(shift, values, scale).to(rows.dtype), values.square().sum(dim=0)


def moments(
    rows: Tensor, padding: Tensor | None, centre: Tensor | None, groups: int = 0, eps: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Σ (s − c)² and Σ (s − c), (C,) each."""
    rows = rows.contiguous()
    if (backend := backend_for(rows)) is not None:
        return backend.moments(rows, padding, centre, groups, eps)
    values = _centred(_scaled(rows, padding, groups, eps)[0], padding, centre)
    return values.square().sum(dim=0), values.sum(dim=0)


def gradient_sums(
    rows: Tensor, grad: Tensor, padding: Tensor | None, centre: Tensor | None, groups: int = 0, eps: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Σ dY ⊙ (s − c) and Σ dY, (C,) each, for the gradient dY (N, C) of what was computed from ``rows``."""
    rows, grad = rows.contiguous(), grad.contiguous()
    if (backend := backend_for(rows)) is not None:
        return backend.gradient_sums(rows, grad, padding, centre, groups, eps)
    values = _centred(_scaled(rows, padding, groups, eps)[0], padding, centre)
    wide = at_least_float32(zero_padding(grad, padding))
    return (wide * values).sum(dim=0), wide.sum(dim=0)


def gradient(
    rows: Tensor,
    grad: Tensor,
    padding: Tensor | None,
    centre: Tensor | None,
    grad_scale: Tensor,
    grad_product: Tensor,
    grad_shift: Tensor | None,
    groups: int = 0,
    eps: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """dX, (N, C), 0 at padding, from ds = grad_scale ⊙ dY − grad_product ⊙ (s − c) − grad_shift; and the two sums of
    :func:`gradient_sums`, in the same pass. ``grad_shift`` goes with ``centre``: both or neither.

    dX = ds, or with group scaling (ds − s · mean of ds ⊙ s over the group) / √(mean of x² over the group + ε).
    """
    rows, grad = rows.contiguous(), grad.contiguous()
    if (backend := backend_for(rows)) is not None:
        return backend.gradient(rows, grad, padding, centre, grad_scale, grad_product, grad_shift, groups, eps)
    scaled, inverse_roots = _scaled(rows, padding, groups, eps)
    values = _centred(scaled, padding, centre)
    wide = at_least_float32(zero_padding(grad, padding))
    grad_scaled = torch.addcmul(wide * grad_scale, values, grad_product, value=-1)
    if grad_shift is not None:
        grad_scaled = zero_padding(grad_scaled - grad_shift, padding)
    grad_rows = _unscaled(grad_scaled, scaled, inverse_roots, groups).to(rows.dtype)
    return grad_rows, (wide * values).sum(dim=0), wide.sum(dim=0)


def _scaled(rows: Tensor, padding: Tensor | None, groups: int, eps: float) -> tuple[Tensor, Tensor | None]:
    """s (N, C), zero at padding, and 1/√(mean of x² over the group + ε), (N, G, 1)."""
    real = at_least_float32(zero_padding(rows, padding))
    if not groups:
        return real, None
    grouped = real.view(-1, groups, rows.size(1) // groups)
    inverse_roots = (grouped.square().mean(dim=-1, keepdim=True) + eps).rsqrt()
    return (grouped * inverse_roots).view_as(real), inverse_roots


def _unscaled(grad_scaled: Tensor, scaled: Tensor, inverse_roots: Tensor | None, groups: int) -> Tensor:
    """The gradient (N, C) by x, from that by s."""
    if inverse_roots is None:
        return grad_scaled
    grad, values = (tensor.view(-1, groups, scaled.size(1) // groups) for tensor in (grad_scaled, scaled))
    return ((grad - values * (grad * values).mean(dim=-1, keepdim=True)) * inverse_roots).view_as(scaled)


def _centred(scaled: Tensor, padding: Tensor | None, centre: Tensor | None) -> Tensor:
    """s − c (N, C), zero at padding."""
    return scaled if centre is None else zero_padding(scaled - centre, padding)
