"""One optimizer update: its micro-batches count as one batch, and as none at all if the optimizer leaves it out."""

import contextlib
from collections.abc import Callable, Hashable, Iterator, Sequence

import torch
from torch import Tensor, nn

from .batch_statistics import BatchStatisticsNorm, own_statistics
from .distributed import mean_over_ranks
from .token_norm import TokenNorm

Move = Callable[..., None]
"""Updates statistics in place: takes the buffers, a batch's values, and the number of tokens they are means over."""


class OneUpdate:
    """What the norms of a model found in the micro-batches of an update that is under way.

    Attributes:
        taken: whether the optimizer made its step. Set it to False where it did not (an overflow under loss scaling):
            the statistics then stay as they were before the update.
        ignored: whether what passes through now is to be left out of all statistics (the dummy batch of a rank that
            has run out of data).
        loss_scale: the factor that the loss is multiplied by before its backward pass; ν is kept for a factor of 1.
        after: what is to be called once the statistics have changed; not at all where the update is left out.
    """

    def __init__(self, loss_scale: float | Tensor = 1.0):
        """Args:
            loss_scale: as above; a number, or a scalar on the model's device, which nobody waits for.

        Raises:
            ValueError: a number that is not finite and above 0.
            TypeError: neither a number nor a tensor.
        """
        if not isinstance(loss_scale, Tensor):
            if isinstance(loss_scale, bool) or not isinstance(loss_scale, int | float):
                raise TypeError(f"expected loss_scale to be a number or a tensor, got {loss_scale!r}")
            if not 0 < loss_scale < float("inf"):
                raise ValueError(f"expected a finite loss_scale > 0, got {loss_scale}")
        self.taken = True
        self.ignored = False
        self.loss_scale = loss_scale
        self.after: list[Callable[[], None]] = []
        self._found: dict[Hashable, tuple[Move, Sequence[Tensor], Sequence[Tensor], Tensor]] = {}

    def add(self, move: Move, buffers: Sequence[Tensor], values: Sequence[Tensor], count: Tensor) -> None:
        """Adds a micro-batch's statistics to those that ``buffers`` will get by ``move``: the mean over the tokens of
        all."""
        key = (move, *map(id, buffers))
        if key in self._found:
            _, _, means, before = self._found[key]
            total = before + count
            share = count / total.clamp(min=1)
            # Not as a sum of products, which would not give back a mean that is the same in all micro-batches.
            values = [torch.lerp(mean, value, share) for mean, value in zip(means, values, strict=True)]
            count = total
        self._found[key] = move, buffers, values, count

    @torch.no_grad()
    def finish(self) -> None:
        """Updates the statistics by what was found, and forgets it."""
        found, self._found = self._found, {}
        for move, buffers, means, count in found.values():
            move(buffers, means, count)
        actions, self.after = self.after, []
        for action in actions:
            action()


@contextlib.contextmanager
def one_update(
    model: nn.Module, loss_scale: float | Tensor = 1.0, num_updates: int | None = None
) -> Iterator[OneUpdate]:
    """Within the block all training passes through ``model``, forward and backward, belong to one optimizer update::

        with one_update(model, loss_scale=scaler.get_scale()) as update:
            for batch in micro_batches:
                scaler.scale(loss_of(model, batch)).backward()
            scaler.step(optimizer)
            scaler.update()
            update.taken = scaler.get_scale() >= update.loss_scale  # False: the scaler left the step out

    All its micro-batches are normalised by the running statistics as they were before it, and at its end these move
    once, by the mean over the real tokens of all micro-batches. So ``alpha`` is the decay per update however many
    micro-batches there are, and after the warm-up ``power`` computes with k micro-batches what it would with their
    union. (batch and pn-v divide by the micro-batch's own statistics; σ² follows the mean of the micro-batches'
    variances.) Where the block ends with an exception, or with ``taken`` False, no statistic moves.

    A block within another one of the same model is an update of its own (fairseq repeats a batch so under ``--amp``).
    The norms of a compiled model (``torch.compile``) run uncompiled in a block: what they note down is no tensor.

    Without such a block a norm updates its statistics in every pass. ``power-released`` does so in any case. fairseq's
    trainer is given one for each update by the plugin.

    Args:
        model: whose norms are meant; others are not affected.
        loss_scale: the factor that the loss is multiplied by before its backward pass, if it is.
        num_updates: the optimizer updates that are done, for norms with a warm-up: the block tells them
            (``set_num_updates``). None where someone else does, or no norm has one.

    Yields:
        The update.

    Raises:
        ValueError, TypeError: no such factor.
    """
    norms = [norm for norm in model.modules() if isinstance(norm, BatchStatisticsNorm) and norm.joins_updates]
    update = OneUpdate(loss_scale)
    if num_updates is not None:
        for module in model.modules():
            if isinstance(module, TokenNorm) and callable(tell := getattr(module, "set_num_updates", None)):
                tell(num_updates)
    before = [norm.update for norm in norms]
    for norm in norms:
        norm.update = update
    try:
        yield update
    except BaseException:
        update.taken = False
        raise
    finally:
        for norm, previous in zip(norms, before, strict=True):
            norm.update = previous
        if update.taken:
            update.finish()


@torch.no_grad()
def average_over_ranks(model: nn.Module) -> None:
    """Gives the norms that keep statistics of their own on every rank (no ``sync``) the mean over the ranks, in one
    collective; a single process keeps its own.

    Every rank has to call it at the same point. Counters are left alone: the ranks have the same.
    """
    norms = [norm for norm in model.modules() if isinstance(norm, BatchStatisticsNorm) and own_statistics(norm)]
    buffers = [
        getattr(norm, name) for norm in norms for name, statistic in norm.statistics.items() if not statistic.counter
    ]
    for buffer, mean in zip(buffers, mean_over_ranks(buffers), strict=True):
        buffer.copy_(mean)
