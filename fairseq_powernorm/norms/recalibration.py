"""Estimating the running statistics anew, on given batches, with the weights as they are."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from .batch_statistics import BatchStatisticsNorm
from .distributed import sum_over_ranks


class GatheredStatistics:
    """Sums over batches, in float64, of a norm's statistics weighted by their tokens.

    Attributes:
        sums: Σ n_b · statistic_b for each of the norm's ``running_statistics`` (C,), and last Σ n_b, a scalar.
    """

    def __init__(self, norm: BatchStatisticsNorm):
        """Starts at 0 on the norm's device."""
        buffers = [getattr(norm, name) for name in norm.running_statistics]
        self.sums = [torch.zeros_like(buffer, dtype=torch.float64) for buffer in buffers]
        self.sums.append(torch.zeros((), dtype=torch.float64, device=buffers[0].device))

    def add(self, statistics: Sequence[Tensor], count: Tensor) -> None:
        """Adds one batch: its statistics (C,) and its number of real tokens, a scalar."""
        tokens = count.double()
        for total, statistic in zip(self.sums, [*statistics, tokens.new_ones(())], strict=True):
            total.add_(statistic.double() * tokens)


def norms_with_statistics(model: nn.Module) -> dict[str, BatchStatisticsNorm]:
    """The norms under ``model`` that keep running statistics, by their names in it."""
    return {name: module for name, module in model.named_modules() if isinstance(module, BatchStatisticsNorm)}


@contextlib.contextmanager
def gather_statistics(model: nn.Module) -> Iterator[None]:
    """Within the block every norm under ``model`` gathers statistics; at its end they replace the running ones.

    Put forward passes of training batches into the block, in evaluation mode, so that dropout is off. Each norm
    normalises by the batch's own statistics there, as ``torch.optim.swa_utils.update_bn`` has BatchNorm do. Going by
    the running ones instead would feed every norm after the first with activations that depend on the very values
    that are to be replaced, and the estimate would carry their error on; so it is a function of weights and data.

    The new value is the mean over all real tokens, of all ranks: ψ² ← Σ_b n_b ψ_b² / Σ_b n_b, n_b the tokens of batch
    b, which is the quadratic mean of the batches' union; likewise μ. For σ² it is, as in ``update_bn``, the mean of
    the batches' σ_b² around their own μ_b (there unweighted), what normalisation in training uses on average: the
    variance of the batches' means is left out. ν and counters play no part in evaluation and stay as they are.

    With a process group each rank runs its own batches, any number of them, and one collective at the end of the
    block, which every rank has to reach, gives all of them the same statistics. If the block raises, nothing changes.

    Raises:
        ValueError: a norm got no token or statistics that are not finite (nothing is changed then), or the model is
            gathering already.
    """
    norms = norms_with_statistics(model)
    if any(norm.gathered is not None for norm in norms.values()):
        raise ValueError("the norms of this model are gathering statistics already")
    try:
        for norm in norms.values():
            norm.gathered = GatheredStatistics(norm)
        yield
        write_gathered(norms)
    finally:
        for norm in norms.values():
            norm.gathered = None


def write_gathered(norms: dict[str, BatchStatisticsNorm]) -> None:
    """Sums over ranks and writes the running statistics of all norms, or of none.

    Raises:
        ValueError: a norm got no token, or its statistics are not finite; the message names it.
    """
    gathered = [norm.gathered for norm in norms.values() if norm.gathered is not None]
    totals = iter(sum_over_ranks([total for each in gathered for total in each.sums]))
    estimates = []
    for name, norm in norms.items():
        site = name or type(norm).__name__
        sums = [next(totals) for _ in norm.running_statistics]
        count = next(totals)
        if count == 0:
            raise ValueError(f"no statistics to gather: no token reached the norm {site}")
        if not all(total.isfinite().all() for total in sums):
            raise ValueError(f"the statistics of the norm {site} are not finite on these batches")
        buffers = [getattr(norm, buffer) for buffer in norm.running_statistics]
        estimates += [(buffer, total / count) for buffer, total in zip(buffers, sums, strict=True)]
    for buffer, estimate in estimates:  # all were checked: from here on nothing fails halfway
        buffer.copy_(estimate)
