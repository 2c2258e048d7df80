"""The CUDA backend's work on vectors of a value per channel, each a single kernel: operator by operator it would take
longer to launch than the passes over the activations take to run. α and ε are constants of the kernels: as arguments
they would be float32 for float64 vectors too.

Imports Triton; see :mod:`.triton_rows`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

CHANNELS = 128  # of a program, where channels are independent


@triton.jit
def _move(running_ptr, running, updated, count_ptr, columns, inside):
    """running ← updated, unless the batch held no token or an entry is not finite."""
    spoilt = tl.sum(tl.where(inside & ~(tl.abs(updated) < float("inf")), 1.0, 0.0), 0)  # NaN is below nothing
    moves = (spoilt == 0) & (tl.load(count_ptr) > 0)
    tl.store(running_ptr + columns, tl.where(moves, updated, running), inside)


@triton.jit
def _move_average_kernel(
    running_ptr, batch_ptr, count_ptr, channels, ALPHA: tl.constexpr, BLOCK_CHANNELS: tl.constexpr
):
    """One program for all channels, since one bad entry keeps all of them."""
    columns = tl.arange(0, BLOCK_CHANNELS)
    inside = columns < channels
    running = tl.load(running_ptr + columns, inside, 0.0)
    batch = tl.load(batch_ptr + columns, inside, 0.0).to(running.dtype)
    _move(running_ptr, running, running * ALPHA + batch * (1 - ALPHA), count_ptr, columns, inside)


@triton.jit
def _move_projection_kernel(
    projection_ptr,
    ratio_ptr,
    correlation_ptr,
    count_ptr,
    channels,
    ALPHA: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """One program for all channels, as above."""
    columns = tl.arange(0, BLOCK_CHANNELS)
    inside = columns < channels
    projection = tl.load(projection_ptr + columns, inside, 0.0)
    ratio = tl.load(ratio_ptr + columns, inside, 0.0).to(projection.dtype)
    correlation = tl.load(correlation_ptr + columns, inside, 0.0).to(projection.dtype)
    excess = tl.maximum(ratio * (1 - ALPHA), 1.0)
    updated = projection + (correlation - projection * ratio) / excess * (1 - ALPHA)
    _move(projection_ptr, projection, updated, count_ptr, columns, inside)


@triton.jit
def _ratio_and_correlation_kernel(
    weight_ptr,
    grad_weight_ptr,
    deviation_ptr,
    mean_square_ptr,
    count_ptr,
    ratio_ptr,
    correlation_ptr,
    channels,
    EPS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Γ = mean s²/(d + ε), Λ = γ dγ/N."""
    columns = tl.program_id(0) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    inside = columns < channels
    grad_weight = tl.load(grad_weight_ptr + columns, inside, 0.0)
    weight = tl.load(weight_ptr + columns, inside, 0.0).to(grad_weight.dtype)
    deviation = tl.load(deviation_ptr + columns, inside, 1.0).to(grad_weight.dtype)
    mean_square = tl.load(mean_square_ptr + columns, inside, 0.0).to(grad_weight.dtype)
    tl.store(ratio_ptr + columns, mean_square / (deviation + EPS), inside)
    tl.store(correlation_ptr + columns, weight * grad_weight / tl.maximum(tl.load(count_ptr), 1.0), inside)


def move_average(running: Tensor, batch: Tensor, count: Tensor, alpha: float) -> None:
    """See :func:`fairseq_powernorm.functional.running.move_average`."""
    _move_average_kernel[(1,)](
        running, batch.contiguous(), count, running.numel(), ALPHA=alpha, BLOCK_CHANNELS=_block(running)
    )


def ratio_and_correlation(
    weight: Tensor, grad_weight: Tensor, deviation: Tensor, mean_square: Tensor, count: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.running.ratio_and_correlation`."""
    ratio, correlation = torch.empty_like(grad_weight), torch.empty_like(grad_weight)
    channels = grad_weight.numel()
    vectors = (vector.contiguous() for vector in (weight, grad_weight, deviation, mean_square))
    _ratio_and_correlation_kernel[(max(1, triton.cdiv(channels, CHANNELS)),)](
        *vectors, count, ratio, correlation, channels, EPS=eps, BLOCK_CHANNELS=CHANNELS
    )
    return ratio, correlation


def move_projection(
    projection: Tensor, square_mean_ratio: Tensor, correlation: Tensor, count: Tensor, alpha: float
) -> None:
    """See :func:`fairseq_powernorm.functional.running.move_projection`."""
    vectors = square_mean_ratio.contiguous(), correlation.contiguous()
    _move_projection_kernel[(1,)](
        projection, *vectors, count, projection.numel(), ALPHA=alpha, BLOCK_CHANNELS=_block(projection)
    )


def _block(vector: Tensor) -> int:
    """A block that holds a whole vector."""
    return triton.next_power_of_2(max(1, vector.numel()))
