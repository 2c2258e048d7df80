"""Unified Normalization (Yang et al. 2022): divided by the geometric mean of the last batches' quadratic means.

Its forward and backward statistics are smoothed by windows over the last updates. Call t counts from 1.
"""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import Function

from ..kernels.operators import gradient, gradient_sums, normalize
from ..kernels.plain import times
from .affine import like
from .reduction import Reduce, keep_local
from .second_derivative import first_derivative_only

Follow = Callable[[Tensor], Tensor]
"""Takes Λ (C,), moves ν by it, now or later, and gives what the gradient is projected by, (C,)."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """What changes with the call.

    Attributes:
        warmup: calls before this one go by the batch alone.
        correction_start: the gradient is corrected by r after this call.
        outlier_filtration: whether a batch that stands out from the window is normalised by itself.
        eps: ε > 0.
    """

    warmup: int
    correction_start: int
    outlier_filtration: bool
    eps: float


@dataclasses.dataclass(frozen=True)
class ForwardStep:
    """What a call finds.

    Attributes:
        window: the window (W, C) after it.
        divisor: d (C,) that the rows are divided by the root of.
        ratio: r (C,), by which the gradient is corrected.
        skipped: whether it goes by its batch alone, a bool scalar.
        outlying: whether that is because the batch stands out.
    """

    window: Tensor
    divisor: Tensor
    ratio: Tensor
    skipped: Tensor
    outlying: Tensor


def with_slot(window: Tensor, call: Tensor, value: Tensor) -> Tensor:
    """The window (W, C) with ``value`` (C,) in slot t mod W."""
    slots = torch.arange(len(window), device=window.device)[:, None]
    return torch.where(slots == call % len(window), value, window)


def geometric_mean(window: Tensor) -> Tensor:
    """exp(mean log) over the slots, (C,); 0 where one of them is 0."""
    return window.log().mean(dim=0).exp()


def forward_step(
    batch_square_mean: Tensor, running: Tensor, window: Tensor, call: Tensor, schedule: Schedule
) -> ForwardStep:
    """The statistics of call t, from the batch's ψ_B² (C,), the running φ (C,) and the window (W, C) before it."""
    slots, inserted = len(window), with_slot(window, call, batch_square_mean)
    outlying = torch.zeros_like(call, dtype=torch.bool)
    if schedule.outlier_filtration:
        spread = window.sqrt().var() * slots  # before the batch enters
        apart = inserted.mean(dim=0) - geometric_mean(inserted) > spread
        outlying = apart.any() & (call >= schedule.warmup)
        inserted = torch.where(outlying, with_slot(window, call, running), inserted)
    skipped = outlying | (slots <= 1)
    by_batch = skipped | (call <= slots) | (call < schedule.warmup)
    divisor = torch.where(by_batch, batch_square_mean, geometric_mean(inserted))
    ratio = ((divisor + schedule.eps) / (running + schedule.eps)).sqrt().clamp(1 / 5, 5)
    ratio = torch.where(skipped | (call <= schedule.correction_start), 1, ratio)
    return ForwardStep(inserted, divisor, ratio, skipped, outlying)


def backward_step(
    correlation: Tensor, projection: Tensor, window: Tensor, call: Tensor, skipped: Tensor, warmup: int, alpha: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The window (W_b, C) and ν (C,) after call t, and m (C,), the mean that ν has moved towards, from the batch's Λ
    (C,) and ν and the window before it."""
    inserted = with_slot(window, call, torch.where(skipped, projection, correlation))
    by_batch = skipped | (call <= len(window)) | (call < warmup)
    mean = torch.where(by_batch, correlation, inserted.mean(dim=0))
    return inserted, alpha * projection + (1 - alpha) * mean, mean


class UnifiedNormFunction(Function):
    """Forward and approximate backward; see :func:`unified_norm`."""

    @staticmethod
    def forward(ctx, rows, weight, bias, padding, divisor, ratio, count, norm, follow, eps, groups, reduce):
        """Y (N, C); keeps what the backward pass needs."""
        ctx.save_for_backward(rows, weight, bias, padding, divisor, ratio, count)
        ctx.norm, ctx.follow, ctx.reduce, ctx.settings = norm, follow, reduce, (eps, groups)
        return normalize(rows, padding, None, divisor, weight, bias, eps, groups)[0]

    @staticmethod
    @first_derivative_only
    def backward(ctx, grad_output):
        """dX, dγ, dβ; hands on what ν is moved by."""
        rows, weight, bias, padding, divisor, ratio, count = ctx.saved_tensors
        given = rows, grad_output, padding, None, divisor
        grad_weight, grad_bias = gradient_sums(*given, *ctx.settings)
        grad_weight = grad_weight * ratio
        (correlation,) = ctx.reduce([times(weight, grad_weight) / count.clamp(min=1)])
        projection = ctx.follow(correlation)
        grad_rows, *_ = gradient(*given, times(weight, ratio), projection, None, *ctx.settings)
        return grad_rows, like(weight, grad_weight), like(bias, grad_bias), *[None] * 9


def unified_norm(
    rows: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    padding: Tensor | None,
    divisor: Tensor,
    ratio: Tensor,
    count: Tensor,
    norm: str,
    follow: Follow,
    eps: float,
    groups: int = 0,
    reduce: Reduce = keep_local,
) -> Tensor:
    """Unified Normalization in training: Z = s/√(d + ε), Y = γ ⊙ Z + β.

    Backward: g = γ ⊙ dY ⊙ r, Λ = mean(g ⊙ Z), ds = (g − p Z)/√(d + ε) with p by ``follow``, ν after it has moved by Λ;
    dγ = Σ dY ⊙ r ⊙ Z. s is x, or with group scaling the scaled x, whose gradient follows.

    Args:
        rows, weight, bias, padding, eps, groups, reduce: as in :func:`~.batch_norm.batch_norm`.
        divisor: d (C,).
        ratio: r (C,).
        count: the number of tokens (of all ranks) that Λ is a mean over, a scalar.
        norm: the norm's name, for an error.
        follow: what moves ν, and gives p.

    Returns:
        (..., C) in the dtype of ``rows``.
    """
    return UnifiedNormFunction.apply(
        rows, weight, bias, padding, divisor, ratio, count, norm, follow, eps, groups, reduce
    )
