"""The passes over rows in plain torch: the definition of what the kernels compute, and the way without them.

Each function does what the one of its name in :mod:`~fairseq_powernorm.functional.rows` or
:mod:`~fairseq_powernorm.functional.running` says, on contiguous rows.
"""

import torch
from torch import Tensor

from ..masking import count_tokens, zero_padding
from .precision import at_least_float32


def move_average(running: Tensor, batch: Tensor, count: Tensor, alpha: float) -> None:
    """See :func:`fairseq_powernorm.functional.running.move_average`."""
    _move(running, torch.lerp(batch.to(running.dtype), running, alpha), count)


def ratio_and_correlation(
    weight: Tensor, grad_weight: Tensor, deviation: Tensor, mean_square: Tensor, count: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.running.ratio_and_correlation`."""
    return mean_square / (deviation + eps), at_least_float32(weight) * grad_weight / count.clamp(min=1)


def move_projection(
    projection: Tensor, square_mean_ratio: Tensor, correlation: Tensor, count: Tensor, alpha: float
) -> None:
    """See :func:`fairseq_powernorm.functional.running.move_projection`."""
    towards = torch.addcmul(correlation, projection, square_mean_ratio, value=-1)
    excess = (square_mean_ratio * (1 - alpha)).clamp(min=1)  # 1 exactly where Theorem 4's assumption holds
    _move(projection, torch.add(projection, towards / excess, alpha=1 - alpha), count)


def _move(running: Tensor, updated: Tensor, count: Tensor) -> None:
    """running ← updated, in place, unless the batch held no token or an entry is not finite."""
    # The sum of zeros that anything not finite turns into NaN; NaN is above nothing. No host looks at it.
    moves = (updated * 0).sum() + count > 0
    torch.where(moves, updated, running, out=running)


def normalize(
    rows: Tensor,
    padding: Tensor | None,
    centre: Tensor | None,
    deviation: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    groups: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.rows.normalize`."""
    values = _centred(_scaled(rows, padding, groups, eps)[0], padding, centre)
    scale = at_least_float32(weight) * (deviation + eps).rsqrt()
    count = count_tokens(rows, padding)
    mean_square = values.square().sum(dim=0) / count.clamp(min=1)
    return torch.addcmul(at_least_float32(bias), values, scale).to(rows.dtype), mean_square, count


def moments(
    rows: Tensor, padding: Tensor | None, centre: Tensor | None, eps: float, groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.rows.moments`."""
    values = _centred(_scaled(rows, padding, groups, eps)[0], padding, centre)
    return values.square().sum(dim=0), values.sum(dim=0), count_tokens(rows, padding)


def gradient_sums(
    rows: Tensor,
    grad: Tensor,
    padding: Tensor | None,
    centre: Tensor | None,
    deviation: Tensor,
    eps: float,
    groups: int,
) -> tuple[Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.rows.gradient_sums`."""
    values = _centred(_scaled(rows, padding, groups, eps)[0], padding, centre)
    wide = at_least_float32(zero_padding(grad, padding))
    return (wide * values).sum(dim=0) * (deviation + eps).rsqrt(), wide.sum(dim=0)


def gradient(
    rows: Tensor,
    grad: Tensor,
    padding: Tensor | None,
    centre: Tensor | None,
    deviation: Tensor,
    weight: Tensor,
    projection: Tensor,
    mean: Tensor | None,
    eps: float,
    groups: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.rows.gradient`."""
    scaled, inverse_roots = _scaled(rows, padding, groups, eps)
    values = _centred(scaled, padding, centre)
    wide = at_least_float32(zero_padding(grad, padding))
    inverse_root = (deviation + eps).rsqrt()
    grad_scale, grad_product = at_least_float32(weight) * inverse_root, projection * inverse_root.square()
    grad_scaled = torch.addcmul(wide * grad_scale, values, grad_product, value=-1)
    if mean is not None:
        grad_scaled = zero_padding(grad_scaled - mean * inverse_root, padding)
    grad_rows = _unscaled(grad_scaled, scaled, inverse_roots, groups).to(rows.dtype)
    return grad_rows, (wide * values).sum(dim=0) * inverse_root, wide.sum(dim=0)


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
