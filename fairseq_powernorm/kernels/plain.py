"""The operators in plain torch: the definition of what the kernels compute, and the way without them.

Each function does what :mod:`.operators` says of the operator of its name.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor itself if it is float32 or float64, else (half, bfloat16) as float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def times(weight: Tensor | None, vector: Tensor) -> Tensor:
    """γ ⊙ vector, (C,), in the vector's dtype, float32 or wider; the vector itself where there is no γ."""
    return vector if weight is None else weight * vector


def zero_padding(rows: Tensor, padding: Tensor | None) -> Tensor:
    """Rows (..., C) with zeros where ``padding``, a bool for each, is True; NaN and inf at padding go too, which a
    product with 0 would keep."""
    return rows if padding is None else rows.masked_fill(padding.reshape(*rows.shape[:-1], 1), 0)


def real_values(rows: Tensor, padding: Tensor | None) -> Tensor:
    """Rows (..., C) as (N, C) in the arithmetic's type, zero at padding."""
    return at_least_float32(zero_padding(rows.reshape(-1, rows.size(-1)), padding))


def count_tokens(rows: Tensor, padding: Tensor | None) -> Tensor:
    """The number of real tokens among the rows (..., C), as a scalar float tensor on their device: no host
    synchronisation."""
    dtype, count = torch.promote_types(rows.dtype, torch.float32), rows.shape[:-1].numel()
    if padding is None:
        return torch.full((), count, dtype=dtype, device=rows.device)
    return count - padding.sum(dtype=dtype)


def normalize_by_constants(rows, mean, second_moment, weight, bias, eps, groups):
    """Without scaling by torch's own fused operator."""
    x = at_least_float32(rows.reshape(-1, rows.size(-1)))
    x = _scaled(x, groups, eps)[0]
    mean = torch.zeros_like(second_moment) if mean is None else mean
    vectors = (None if vector is None else vector.to(x.dtype) for vector in (mean, second_moment, weight, bias))
    return F.batch_norm(x, *vectors, training=False, momentum=0.0, eps=eps).to(rows.dtype).view(rows.shape)


def normalize(rows, padding, mean, second_moment, weight, bias, eps, groups):
    """Three results from a handful of passes."""
    real = real_values(rows, padding)
    values = _centred(_scaled(real, groups, eps)[0], padding, mean)
    output = values * times(weight, (second_moment + eps).rsqrt())
    output = output if bias is None else output + bias
    count = count_tokens(rows, padding)
    return output.to(rows.dtype).view(rows.shape), values.square().sum(dim=0) / count.clamp(min=1), count


def moments(rows, padding, mean, eps, groups):
    """Sums of squares and values."""
    values = _centred(_scaled(real_values(rows, padding), groups, eps)[0], padding, mean)
    return values.square().sum(dim=0), values.sum(dim=0), count_tokens(rows, padding)


def gradient_sums(rows, grad, padding, mean, second_moment, eps, groups):
    """Sums of products and gradients."""
    values = _centred(_scaled(real_values(rows, padding), groups, eps)[0], padding, mean)
    wide = real_values(grad, padding)
    return (wide * values).sum(dim=0) * (second_moment + eps).rsqrt(), wide.sum(dim=0)


def gradient(rows, grad, padding, mean, second_moment, weight, projection, grad_mean, eps, groups):
    """The gradient by s, and from it that by x."""
    scaled, factors = _scaled(real_values(rows, padding), groups, eps)
    values, wide = _centred(scaled, padding, mean), real_values(grad, padding)
    inverse_root = (second_moment + eps).rsqrt()
    product = projection * inverse_root.square()
    grad_scaled = torch.addcmul(wide * times(weight, inverse_root), values, product, value=-1)
    if grad_mean is not None:
        grad_scaled = zero_padding(grad_scaled - grad_mean * inverse_root, padding)
    grad_rows = _unscaled(grad_scaled, scaled, factors).to(rows.dtype).view(rows.shape)
    return grad_rows, (wide * values).sum(dim=0) * inverse_root, wide.sum(dim=0)


def move_average(running, batch, count, alpha):
    """In place."""
    _update(running, torch.lerp(batch.to(running.dtype), running, alpha), count)


def move_projection(projection, weight, grad_weight, second_moment, mean_square, count, eps, alpha):
    """In place."""
    ratio = (mean_square / (second_moment + eps)).to(projection.dtype)
    correlation = (times(weight, grad_weight) / count.clamp(min=1)).to(projection.dtype)
    towards = torch.addcmul(correlation, projection, ratio, value=-1)
    excess = (ratio * (1 - alpha)).clamp(min=1)  # 1 exactly where Theorem 4's assumption holds
    _update(projection, torch.addcdiv(projection, towards, excess, value=1 - alpha), count)


def _update(running: Tensor, updated: Tensor, count: Tensor) -> None:
    """running ← updated, in place, unless the batch held no token or an entry is not finite."""
    # The sum of zeros that anything not finite turns into NaN; NaN is above nothing. No host looks at it.
    running.copy_(torch.where((updated * 0).sum() + count > 0, updated, running))


def _scaled(real: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor | None]:
    """s (N, C), and the factors 1/√(mean of x² over the group + ε), (N, G, 1)."""
    if not groups:
        return real, None
    grouped = real.reshape(-1, groups, real.size(1) // groups)
    factors = (grouped.square().mean(dim=-1, keepdim=True) + eps).rsqrt()
    return (grouped * factors).view_as(real), factors


def _unscaled(grad_scaled: Tensor, scaled: Tensor, factors: Tensor | None) -> Tensor:
    """The gradient by x, from that by s, (N, C) both."""
    if factors is None:
        return grad_scaled
    groups = factors.size(1)
    grad, values = (tensor.reshape(-1, groups, tensor.size(1) // groups) for tensor in (grad_scaled, scaled))
    return ((grad - values * (grad * values).mean(dim=-1, keepdim=True)) * factors).view_as(scaled)


def _centred(scaled: Tensor, padding: Tensor | None, mean: Tensor | None) -> Tensor:
    """s − μ (N, C), zero at padding."""
    return scaled if mean is None else zero_padding(scaled - mean, padding)
