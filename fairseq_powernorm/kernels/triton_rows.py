"""The CUDA backend: the four passes of :mod:`fairseq_powernorm.functional.rows` as Triton kernels.

A program takes a stretch of rows of one tile of channels, with group scaling of one group. It writes its rows, and the
sums over them as one row of partial sums; adding those up is torch's. So there are no atomics, the result is the same
in every run, and nothing waits for the device. Arithmetic is float32 (float64 for float64), cast once on store. Rows
of padding are not read.

Imports Triton: only :mod:`.backend` imports this, for the first tensor on a CUDA device. Under ``TRITON_INTERPRET=1``
the functions take CPU tensors, which is how the tests run them without a device.
"""

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

ELEMENTS = 4096  # of a block of rows and channels, in registers
CHANNELS = 128  # of a tile without group scaling
PROGRAMS_PER_MULTIPROCESSOR = 8


@triton.jit
def _forward_kernel(
    x_ptr,  # (N, C)
    padding_ptr,  # (N,) uint8, 1 at padding; not read without HAS_PADDING
    centre_ptr,  # (C,); not read without CENTRED
    scale_ptr,  # (C,); not read without STORE
    shift_ptr,  # (C,); not read without STORE
    y_ptr,  # (N, C); not written without STORE
    partial_ptr,  # (stretches, 2, C): Σ (s − c)², Σ (s − c)
    count,
    channels,
    width,
    eps,
    rows_per_program,
    HAS_PADDING: tl.constexpr,
    CENTRED: tl.constexpr,
    GROUPED: tl.constexpr,
    STORE: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """y = scale (s − c) + shift, and the sums."""
    stretch, tile = tl.program_id(0), tl.program_id(1)
    columns = tile * width + tl.arange(0, BLOCK_CHANNELS)
    inside = (tl.arange(0, BLOCK_CHANNELS) < width) & (columns < channels)
    squares = tl.zeros((BLOCK_CHANNELS,), WIDE)
    sums = tl.zeros((BLOCK_CHANNELS,), WIDE)
    centre = tl.load(centre_ptr + columns, inside, 0.0) if CENTRED else squares
    scale = tl.load(scale_ptr + columns, inside, 0.0) if STORE else squares
    shift = tl.load(shift_ptr + columns, inside, 0.0) if STORE else squares
    for start in range(stretch * rows_per_program, (stretch + 1) * rows_per_program, BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        there = row < count
        real = there
        if HAS_PADDING:
            real = there & (tl.load(padding_ptr + row, there, 1) == 0)
        at = row.to(tl.int64)[:, None] * channels + columns[None, :]
        values = tl.load(x_ptr + at, real[:, None] & inside[None, :], 0.0).to(WIDE)
        if GROUPED:
            values *= (1 / tl.sqrt(tl.sum(values * values, 1) / width + eps))[:, None]
        if CENTRED:
            values = tl.where(real[:, None], values - centre[None, :], 0.0)
        squares += tl.sum(values * values, 0)
        sums += tl.sum(values, 0)
        if STORE:
            y = values * scale[None, :] + shift[None, :]
            tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), there[:, None] & inside[None, :])
    partial = partial_ptr + stretch * 2 * channels + columns
    tl.store(partial, squares, inside)
    tl.store(partial + channels, sums, inside)


@triton.jit
def _backward_kernel(
    x_ptr,  # (N, C)
    grad_ptr,  # (N, C): dY
    padding_ptr,  # (N,) uint8, 1 at padding; not read without HAS_PADDING
    centre_ptr,  # (C,); not read without CENTRED
    grad_scale_ptr,  # (C,); not read without STORE
    grad_product_ptr,  # (C,); not read without STORE
    grad_shift_ptr,  # (C,); not read without STORE and CENTRED
    grad_x_ptr,  # (N, C): dX; not written without STORE
    partial_ptr,  # (stretches, 2, C): Σ dY (s − c), Σ dY
    count,
    channels,
    width,
    eps,
    rows_per_program,
    HAS_PADDING: tl.constexpr,
    CENTRED: tl.constexpr,
    GROUPED: tl.constexpr,
    STORE: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """ds = grad_scale dY − grad_product (s − c) − grad_shift, dX from it, and the sums."""
    stretch, tile = tl.program_id(0), tl.program_id(1)
    columns = tile * width + tl.arange(0, BLOCK_CHANNELS)
    inside = (tl.arange(0, BLOCK_CHANNELS) < width) & (columns < channels)
    products = tl.zeros((BLOCK_CHANNELS,), WIDE)
    sums = tl.zeros((BLOCK_CHANNELS,), WIDE)
    centre = tl.load(centre_ptr + columns, inside, 0.0) if CENTRED else products
    grad_scale = tl.load(grad_scale_ptr + columns, inside, 0.0) if STORE else products
    grad_product = tl.load(grad_product_ptr + columns, inside, 0.0) if STORE else products
    grad_shift = tl.load(grad_shift_ptr + columns, inside, 0.0) if STORE and CENTRED else products
    for start in range(stretch * rows_per_program, (stretch + 1) * rows_per_program, BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        there = row < count
        real = there
        if HAS_PADDING:
            real = there & (tl.load(padding_ptr + row, there, 1) == 0)
        at = row.to(tl.int64)[:, None] * channels + columns[None, :]
        scaled = tl.load(x_ptr + at, real[:, None] & inside[None, :], 0.0).to(WIDE)
        grad = tl.load(grad_ptr + at, real[:, None] & inside[None, :], 0.0).to(WIDE)
        inverse_root = 1.0
        if GROUPED:
            inverse_root = (1 / tl.sqrt(tl.sum(scaled * scaled, 1) / width + eps))[:, None]
            scaled *= inverse_root
        values = scaled
        if CENTRED:
            values = tl.where(real[:, None], scaled - centre[None, :], 0.0)
        products += tl.sum(grad * values, 0)
        sums += tl.sum(grad, 0)
        if STORE:
            grad_scaled = grad * grad_scale[None, :] - values * grad_product[None, :]
            if CENTRED:
                grad_scaled = tl.where(real[:, None] & inside[None, :], grad_scaled - grad_shift[None, :], 0.0)
            if GROUPED:
                mean = tl.sum(grad_scaled * scaled, 1) / width
                grad_scaled = (grad_scaled - scaled * mean[:, None]) * inverse_root
            tl.store(grad_x_ptr + at, grad_scaled.to(grad_x_ptr.dtype.element_ty), there[:, None] & inside[None, :])
    partial = partial_ptr + stretch * 2 * channels + columns
    tl.store(partial, products, inside)
    tl.store(partial + channels, sums, inside)


@triton.jit
def _move_running_kernel(
    running_ptr,  # (C,)
    updated_ptr,  # (C,)
    count_ptr,  # ()
    channels,
    BLOCK_CHANNELS: tl.constexpr,
):
    """running ← updated, unless the batch held no token or an entry is not finite; one program for all channels."""
    columns = tl.arange(0, BLOCK_CHANNELS)
    inside = columns < channels
    running = tl.load(running_ptr + columns, inside, 0.0)
    updated = tl.load(updated_ptr + columns, inside, 0.0)
    spoilt = tl.sum(tl.where(tl.abs(updated) < float("inf"), 0.0, 1.0), 0)  # NaN is below nothing
    updated = tl.where(spoilt > 0, running, updated)
    tl.store(running_ptr + columns, tl.where(tl.load(count_ptr) > 0, updated, running), inside)


def move_running(running: Tensor, updated: Tensor, count: Tensor) -> None:
    """See :func:`fairseq_powernorm.functional.running.move_running`."""
    block_channels = triton.next_power_of_2(running.numel())
    _move_running_kernel[(1,)](running, updated.contiguous(), count, running.numel(), BLOCK_CHANNELS=block_channels)


@functools.cache
def _programs(device: torch.device) -> int:
    """How many programs keep a device busy; asking for its properties waits for nothing."""
    if device.type != "cuda":  # the interpreter runs one after the other
        return 4
    return PROGRAMS_PER_MULTIPROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count


class _Launch:
    """Grid, partial sums and the arguments that both kernels share."""

    def __init__(self, rows: Tensor, padding: Tensor | None, centre: Tensor | None, groups: int, eps: float):
        count, channels = rows.shape
        width = channels // groups if groups else min(CHANNELS, channels)
        tiles = triton.cdiv(channels, width) if channels else 0
        block_channels = triton.next_power_of_2(max(width, 1))
        block_rows = max(1, min(ELEMENTS // block_channels, triton.next_power_of_2(max(count, 1))))
        stretches = max(1, min(triton.cdiv(count, block_rows), triton.cdiv(_programs(rows.device), max(tiles, 1))))
        wide = torch.promote_types(rows.dtype, torch.float32)
        self.wide = wide
        self.partial = torch.empty((stretches, 2, channels), dtype=wide, device=rows.device)
        self.grid = (stretches, tiles)
        self.padding = rows if padding is None else padding.view(torch.uint8)  # a pointer is needed in any case
        rows_per_program = triton.cdiv(triton.cdiv(count, stretches), block_rows) * block_rows
        self.numbers = count, channels, width, eps, rows_per_program
        self.constants = {
            "HAS_PADDING": padding is not None,
            "CENTRED": centre is not None,
            "GROUPED": groups > 0,
            "WIDE": tl.float64 if wide == torch.float64 else tl.float32,
            "BLOCK_ROWS": block_rows,
            "BLOCK_CHANNELS": block_channels,
            "num_warps": 8 if block_rows * block_channels >= 4096 else 4,
        }

    def vector(self, vector: Tensor | None) -> Tensor:
        """A vector (C,) as the kernels read it; what stands in for None is not read."""
        return self.partial if vector is None else vector.to(self.wide).contiguous()

    def sums(self) -> tuple[Tensor, Tensor]:
        """The two sums over all rows, (C,) each."""
        return self.partial.sum(dim=0).unbind()


def _forward(rows, padding, centre, scale, shift, groups, eps) -> tuple[Tensor, Tensor, Tensor]:
    launch = _Launch(rows, padding, centre, groups, eps)
    output = rows if scale is None else torch.empty_like(rows)
    _forward_kernel[launch.grid](
        *(rows, launch.padding, *map(launch.vector, (centre, scale, shift)), output, launch.partial, *launch.numbers),
        STORE=scale is not None,
        **launch.constants,
    )
    return output, *launch.sums()


def _backward(rows, grad, padding, centre, grad_scale, grad_product, grad_shift, groups, eps):
    launch = _Launch(rows, padding, centre, groups, eps)
    vectors = map(launch.vector, (centre, grad_scale, grad_product, grad_shift))
    grad_rows = rows if grad_scale is None else torch.empty_like(rows)
    _backward_kernel[launch.grid](
        *(rows, grad, launch.padding, *vectors, grad_rows, launch.partial, *launch.numbers),
        STORE=grad_scale is not None,
        **launch.constants,
    )
    return grad_rows, *launch.sums()


def normalize(
    rows: Tensor, padding: Tensor | None, centre: Tensor | None, scale: Tensor, shift: Tensor, groups: int, eps: float
) -> tuple[Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.rows.normalize`."""
    output, squares, _ = _forward(rows, padding, centre, scale, shift, groups, eps)
    return output, squares


def moments(
    rows: Tensor, padding: Tensor | None, centre: Tensor | None, groups: int, eps: float
) -> tuple[Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.rows.moments`."""
    _, squares, sums = _forward(rows, padding, centre, None, None, groups, eps)
    return squares, sums


def gradient_sums(
    rows: Tensor, grad: Tensor, padding: Tensor | None, centre: Tensor | None, groups: int, eps: float
) -> tuple[Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.rows.gradient_sums`."""
    _, products, sums = _backward(rows, grad, padding, centre, None, None, None, groups, eps)
    return products, sums


def gradient(
    rows: Tensor,
    grad: Tensor,
    padding: Tensor | None,
    centre: Tensor | None,
    grad_scale: Tensor,
    grad_product: Tensor,
    grad_shift: Tensor | None,
    groups: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.rows.gradient`."""
    return _backward(rows, grad, padding, centre, grad_scale, grad_product, grad_shift, groups, eps)
