"""The operators on CUDA devices: how the work is cut up for the kernels of :mod:`.triton_kernels`.

A program takes a stretch of rows of one tile of channels, with group scaling of one group. It writes its rows, and the
sums over them as one row of partial sums; a second kernel adds those up. So there are no atomics, the result is the
same in every run, and nothing waits for the device. Arithmetic is float32 (float64 for float64), cast once on store.
Rows of padding are not read.

Imports Triton: :mod:`.operators` imports this when the first tensor on a CUDA device comes. Under
``TRITON_INTERPRET=1`` the functions take CPU tensors, which is how the tests run them without a device.
"""

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import plain
from .triton_kernels import backward_kernel, finish_kernel, forward_kernel

# How the work is cut up; benchmarks/tune_triton.py measures others.
ELEMENTS = 2048  # of a block of rows and channels
WARPS = 8  # of a program: with these elements a thread holds 8, of bfloat16 a load of 16 bytes
CHANNELS = 128  # of a tile without group scaling
PROGRAMS_PER_MULTIPROCESSOR = 8
STAGES = 3  # blocks whose loads are under way
FINISHED_CHANNELS = 16  # of a program that adds up stretches: few, so that many programs read side by side
FINISHED_STRETCHES = 256


@functools.cache
def _programs(device: torch.device) -> int:
    """How many programs keep a device busy; asking for its properties waits for nothing."""
    if device.type != "cuda":  # the interpreter runs one after the other
        return 4
    return PROGRAMS_PER_MULTIPROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count


class _Launch:
    """Grid, partial sums and the arguments that both kernels share."""

    def __init__(self, rows: Tensor, padding: Tensor | None, mean: Tensor | None, groups: int, eps: float):
        channels = rows.size(-1)
        count = rows.numel() // max(channels, 1)
        width = channels // groups if groups else min(CHANNELS, channels)
        tiles = triton.cdiv(channels, width) if channels else 0
        block_channels = triton.next_power_of_2(max(width, 1))
        block_rows = max(1, min(ELEMENTS // block_channels, triton.next_power_of_2(max(count, 1))))
        stretches = max(1, min(triton.cdiv(count, block_rows), triton.cdiv(_programs(rows.device), max(tiles, 1))))
        wide = torch.promote_types(rows.dtype, torch.float32)
        self.wide = wide
        self.partial = torch.empty((stretches, 2, channels), dtype=wide, device=rows.device)
        self.counts = torch.empty((stretches,), dtype=wide, device=rows.device)
        self.grid = (stretches, tiles)
        # A pointer is needed in any case.
        self.padding = rows if padding is None else padding.contiguous().view(torch.uint8)
        rows_per_program = triton.cdiv(triton.cdiv(count, stretches), block_rows) * block_rows
        self.numbers = count, channels, width, rows_per_program
        self.constants = {
            "EPS": eps,
            "HAS_PADDING": padding is not None,
            "CENTRED": mean is not None,
            "GROUPED": groups > 0,
            "WIDE": tl.float64 if wide == torch.float64 else tl.float32,
            "BLOCK_ROWS": block_rows,
            "BLOCK_CHANNELS": block_channels,
            "STAGES": STAGES,
            "num_warps": WARPS,
        }

    def vector(self, vector: Tensor | None, missing: int | None = None) -> Tensor:
        """A vector (C,) as the kernels read it. For None it is full of ``missing``, or, without, one that is not
        read."""
        if vector is None:
            return self.partial if missing is None else self.partial.new_full((self.partial.size(-1),), missing)
        return vector.contiguous()

    def finish(self, count: bool, mean: bool = False, second_moment: Tensor | None = None) -> tuple[Tensor, ...]:
        """The two sums over all rows, (C,) each, and with ``count`` the number of real rows; see the kernel. With
        ``mean`` the second one is not there."""
        stretches, _, channels = self.partial.shape
        first, second = (torch.empty((channels,), dtype=self.wide, device=self.partial.device) for _ in range(2))
        total = torch.empty((), dtype=self.wide, device=self.partial.device)
        finish_kernel[(max(1, triton.cdiv(channels, FINISHED_CHANNELS)),)](
            *(self.partial, self.counts, self.vector(second_moment), first, second, total),
            *(stretches, channels),
            EPS=self.constants["EPS"],
            COUNT=count,
            MEAN=mean,
            DIVIDE=second_moment is not None,
            BLOCK_STRETCHES=min(FINISHED_STRETCHES, triton.next_power_of_2(stretches)),
            BLOCK_CHANNELS=FINISHED_CHANNELS,
            WIDE=self.constants["WIDE"],
            num_warps=WARPS,
        )
        return (first, second, total) if count else (first, second)


def _forward(rows, padding, mean, second_moment, weight, bias, eps, groups) -> tuple[Tensor, _Launch]:
    rows = rows.contiguous()
    launch = _Launch(rows, padding, mean, groups, eps)
    output = rows if second_moment is None else torch.empty_like(rows)
    vectors = launch.vector(mean), launch.vector(second_moment), launch.vector(weight, 1), launch.vector(bias, 0)
    forward_kernel[launch.grid](
        *(rows, launch.padding, *vectors, output, launch.partial, launch.counts, *launch.numbers),
        STORE=second_moment is not None,
        **launch.constants,
    )
    return output, launch


def _backward(
    rows, grad, padding, mean, second_moment, weight, projection, grad_mean, eps, groups
) -> tuple[Tensor, ...]:
    rows = rows.contiguous()
    launch = _Launch(rows, padding, mean, groups, eps)
    vectors = launch.vector(second_moment), launch.vector(weight, 1), launch.vector(projection)
    grad_rows = rows if projection is None else torch.empty_like(rows)
    backward_kernel[launch.grid](
        *(rows, grad.contiguous(), launch.padding, launch.vector(mean), *vectors, launch.vector(grad_mean)),
        *(grad_rows, launch.partial, *launch.numbers),
        STORE=projection is not None,
        **launch.constants,
    )
    return grad_rows, *launch.finish(count=False, second_moment=second_moment)


def normalize_by_constants(rows, mean, second_moment, weight, bias, eps, groups):
    """Without scaling torch's own kernel does it, and Python starts it sooner."""
    if not groups:
        return plain.normalize_by_constants(rows, mean, second_moment, weight, bias, eps, groups)
    return _forward(rows, None, mean, second_moment, weight, bias, eps, groups)[0]


def normalize(rows, padding, mean, second_moment, weight, bias, eps, groups):
    """Two kernels."""
    output, launch = _forward(rows, padding, mean, second_moment, weight, bias, eps, groups)
    mean_square, _, count = launch.finish(count=True, mean=True)
    return output, mean_square, count


def moments(rows, padding, mean, eps, groups):
    """Two kernels; no row is written."""
    return _forward(rows, padding, mean, None, None, None, eps, groups)[1].finish(count=True)


def gradient_sums(rows, grad, padding, mean, second_moment, eps, groups):
    """Two kernels; no row is written."""
    return _backward(rows, grad, padding, mean, second_moment, None, None, None, eps, groups)[1:]


def gradient(rows, grad, padding, mean, second_moment, weight, projection, grad_mean, eps, groups):
    """Two kernels."""
    return _backward(rows, grad, padding, mean, second_moment, weight, projection, grad_mean, eps, groups)
