"""The CUDA backend: the four passes of :mod:`fairseq_powernorm.functional.rows` as Triton kernels.

A program takes a stretch of rows of one tile of channels, with group scaling of one group. It writes its rows, and the
sums over them as one row of partial sums; a second kernel adds those up. So there are no atomics, the result is the
same in every run, and nothing waits for the device. Arithmetic is float32 (float64 for float64), cast once on store.
Rows of padding are not read.

Imports Triton: only :mod:`.backend` imports this, for the first tensor on a CUDA device. Under ``TRITON_INTERPRET=1``
the functions take CPU tensors, which is how the tests run them without a device.
"""

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_passes import backward_kernel, finish_kernel, forward_kernel
from .triton_vectors import move_average, move_projection, ratio_and_correlation

__all__ = [
    "gradient",
    "gradient_sums",
    "moments",
    "move_average",
    "move_projection",
    "normalize",
    "ratio_and_correlation",
]

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
        self.counts = torch.empty((stretches,), dtype=wide, device=rows.device)
        self.grid = (stretches, tiles)
        self.padding = rows if padding is None else padding.view(torch.uint8)  # a pointer is needed in any case
        rows_per_program = triton.cdiv(triton.cdiv(count, stretches), block_rows) * block_rows
        self.numbers = count, channels, width, rows_per_program
        self.constants = {
            "EPS": eps,
            "HAS_PADDING": padding is not None,
            "CENTRED": centre is not None,
            "GROUPED": groups > 0,
            "WIDE": tl.float64 if wide == torch.float64 else tl.float32,
            "BLOCK_ROWS": block_rows,
            "BLOCK_CHANNELS": block_channels,
            "STAGES": STAGES,
            "num_warps": WARPS,
        }

    def vector(self, vector: Tensor | None) -> Tensor:
        """A vector (C,) as the kernels read it; what stands in for None is not read."""
        return self.partial if vector is None else vector.contiguous()

    def finish(self, count: bool, mean: bool = False, deviation: Tensor | None = None) -> tuple[Tensor, ...]:
        """The two sums over all rows, (C,) each, and with ``count`` the number of real rows; see the kernel. With
        ``mean`` the second one is not there."""
        stretches, _, channels = self.partial.shape
        sums = torch.empty((2, channels), dtype=self.wide, device=self.partial.device)
        total = torch.empty((), dtype=self.wide, device=self.partial.device)
        finish_kernel[(max(1, triton.cdiv(channels, FINISHED_CHANNELS)),)](
            *(self.partial, self.counts, self.vector(deviation), sums, total),
            *(stretches, channels),
            EPS=self.constants["EPS"],
            COUNT=count,
            MEAN=mean,
            DIVIDE=deviation is not None,
            BLOCK_STRETCHES=min(FINISHED_STRETCHES, triton.next_power_of_2(stretches)),
            BLOCK_CHANNELS=FINISHED_CHANNELS,
            WIDE=self.constants["WIDE"],
            num_warps=WARPS,
        )
        return (*sums.unbind(), total) if count else sums.unbind()


def _forward(rows, padding, centre, deviation, weight, bias, eps, groups) -> tuple[Tensor, _Launch]:
    launch = _Launch(rows, padding, centre, groups, eps)
    output = rows if weight is None else torch.empty_like(rows)
    vectors = map(launch.vector, (centre, deviation, weight, bias))
    forward_kernel[launch.grid](
        *(rows, launch.padding, *vectors, output, launch.partial, launch.counts, *launch.numbers),
        STORE=weight is not None,
        **launch.constants,
    )
    return output, launch


def _backward(rows, grad, padding, centre, deviation, weight, projection, mean, eps, groups) -> tuple[Tensor, ...]:
    launch = _Launch(rows, padding, centre, groups, eps)
    vectors = map(launch.vector, (centre, deviation, weight, projection, mean))
    grad_rows = rows if weight is None else torch.empty_like(rows)
    backward_kernel[launch.grid](
        *(rows, grad, launch.padding, *vectors, grad_rows, launch.partial, *launch.numbers),
        STORE=weight is not None,
        **launch.constants,
    )
    return grad_rows, *launch.finish(count=False, deviation=deviation)


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
    output, launch = _forward(rows, padding, centre, deviation, weight, bias, eps, groups)
    mean_square, _, count = launch.finish(count=True, mean=True)
    return output, mean_square, count


def moments(
    rows: Tensor, padding: Tensor | None, centre: Tensor | None, eps: float, groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.rows.moments`."""
    return _forward(rows, padding, centre, None, None, None, eps, groups)[1].finish(count=True)


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
    return _backward(rows, grad, padding, centre, deviation, None, None, None, eps, groups)[1:]


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
    return _backward(rows, grad, padding, centre, deviation, weight, projection, mean, eps, groups)
