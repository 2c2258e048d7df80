"""Norms that use the batch's statistics in training and running ones in evaluation."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Unpack

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from ..functional.masking import zero_padding
from ..functional.reduction import Reduce, keep_local
from ..kernels.operators import move_average
from .distributed import exclude_from_broadcasts, sum_over_ranks
from .recomputation import backward_running, is_backward_running
from .running_statistics import RunningStatistics
from .token_norm import ModuleOptions, check_decay

if TYPE_CHECKING:  # both know this module
    from .recalibration import GatheredStatistics
    from .update import OneUpdate


class BatchStatisticsNorm(RunningStatistics):
    """A norm that uses statistics of the batch in training and running ones in evaluation.

    A subclass lists its buffers in ``statistics`` and defines :meth:`batch_statistics`, :meth:`normalize` (training)
    and :meth:`normalize_by` (evaluation).

    In a training pass inside ``backward`` (activation checkpointing recomputes there) the norm uses the statistics
    and the padding of its last forward pass and updates nothing. In evaluation mode nothing is updated, ever; the
    running statistics are estimated anew by :func:`~fairseq_powernorm.norms.recalibration.gather_statistics`.

    Attributes:
        joins_updates: whether :func:`~fairseq_powernorm.norms.update.one_update` concerns the norm.
        moved_forward: the statistics that a forward pass updates; those that evaluation uses if it is empty.
        observed_vectors: how many vectors (C,) a training pass uses.
        observed_scalars: how many scalars; the last of them is the number of tokens.
        reduce: sums over ranks.
        update: the update that is under way, or None: then every training pass updates the statistics.
        gathered: what recalibration sums up, or None.
    """

    joins_updates: ClassVar[bool] = True
    moved_forward: ClassVar[tuple[str, ...]] = ()
    observed_vectors: ClassVar[int] = 1
    observed_scalars: ClassVar[int] = 1
    update: "OneUpdate | None" = None
    gathered: "GatheredStatistics | None" = None
    _observed: tuple[Tensor | None, tuple[Tensor, ...] | None] | None
    _observed_in_graph: tuple[Tensor, ...]

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        alpha_fwd: float = 0.9,
        group_scaling: int = 0,
        sync: bool = False,
        **options: Unpack[ModuleOptions],
    ):
        """Args:
            channels: C ≥ 1.
            eps: ε > 0.
            alpha_fwd: decay in [0, 1) of the running statistics, per update or training forward pass.
            group_scaling: G ≥ 0 groups of channels, G dividing C, that each token is scaled by first; 0 leaves it out.
            sync: statistics over all ranks of the process group.
            **options: see :class:`ModuleOptions`.

        Raises:
            ValueError: a value outside its range.
        """
        super().__init__(channels, eps, **options)
        check_decay("alpha_fwd", alpha_fwd)
        if not isinstance(group_scaling, int) or group_scaling < 0 or (group_scaling and channels % group_scaling):
            raise ValueError(
                f"expected group_scaling 0 or a number of groups that divides {channels} channels, got {group_scaling}"
            )
        self.alpha_fwd = alpha_fwd
        self.group_scaling = group_scaling
        self.reduce: Reduce = sum_over_ranks if sync else keep_local
        self._forget_observed()

    def batch_statistics(
        self, rows: Tensor, padding: Tensor | None, reduce: Reduce = keep_local
    ) -> tuple[list[Tensor], Tensor]:
        """The batch's own values of ``running_statistics``, (C,) each, and the number of real tokens, a scalar.

        Args:
            rows: (..., C), before group scaling.
            padding: a bool for each row, True at padding, or None.
            reduce: sums over ranks.
        """
        raise NotImplementedError

    def normalize(self, rows: Tensor, padding: Tensor | None, *observed: Tensor) -> Tensor:
        """The training forward pass, rows (..., C) → (..., C), by what :meth:`observe` gave; differentiable."""
        raise NotImplementedError

    def normalize_by(self, rows: Tensor, *statistics: Tensor) -> Tensor:
        """Rows (..., C) → (..., C) by given ``running_statistics``, a constant scale and shift per channel."""
        raise NotImplementedError

    def as_running(self, statistics: Sequence[Tensor], count: Tensor) -> Sequence[Tensor]:
        """What the running statistics take up of a batch's, which are those that the batch is normalised by."""
        return statistics

    def not_constant(self) -> str | None:
        """Why evaluation is more than a fixed scale and shift per channel; None if it is no more."""
        return "group scaling looks at each token" if self.group_scaling else None

    def observe(self, rows: Tensor, padding: Tensor | None) -> tuple[Tensor, ...]:
        """Takes the statistics of a training batch and updates the running ones; called without grad.

        Returns:
            What :meth:`normalize` uses, here the batch's statistics and the number of tokens; a recomputation is given
            the same again.
        """
        statistics, count = self.batch_statistics(rows, padding, self.reduce)
        self.update_averages(statistics, count)
        return *statistics, count

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """See :class:`TokenNorm`."""
        self.check_input(x)
        if not self.training and self.gathered is None:  # padding has no part in it
            return self.normalize_by(x, *[getattr(self, name) for name in self.running_statistics])
        padding = self.padding_of(x, padding_mask)
        return self._train(x, padding) if self.gathered is None else self._gather(x, padding)

    @torch.no_grad()  # so that no backward pass follows, which could update ν
    def _gather(self, rows: Tensor, padding: Tensor | None) -> Tensor:
        """Recalibration: by the batch's own statistics, which are added to the gathered ones; those of this rank alone,
        as ranks may gather unequal numbers of batches."""
        assert self.gathered is not None
        statistics, count = self.batch_statistics(rows, padding)
        if not is_backward_running():  # a recomputation is no second batch
            self.gathered.add(self.as_running(statistics, count), count)
        return self.normalize_by(zero_padding(rows, padding), *statistics)

    def _train(self, rows: Tensor, padding: Tensor | None) -> Tensor:
        """The training forward pass by whoever can do it: the compiler, or Python."""
        if self.update is not None and self.update.ignored:
            padding = torch.ones(rows.shape[:-1], dtype=torch.bool, device=rows.device)
        if torch.compiler.is_compiling():
            return self._train_compiled(rows, padding) if self.update is None else self._train_eager(rows, padding)
        self.check_statistics()
        if self.reduce is keep_local:
            exclude_from_broadcasts(own_statistics)
        known = None
        if self._observed is not None and is_backward_running():
            padding, known = self._observed  # the block that handed the mask may be over by now
        output, observed = self.train_on(rows, padding, known)
        self.__dict__["_observed"] = padding, observed  # nn.Module.__setattr__ takes as long as an operator
        return output

    @_disable_dynamo  # an update notes things down outside the graph, and a backward pass in it does so too
    def _train_eager(self, rows: Tensor, padding: Tensor | None) -> Tensor:
        """:meth:`_train`, which ``torch.compile`` leaves alone."""
        return self._train(rows, padding)

    def train_on(
        self, rows: Tensor, padding: Tensor | None, observed: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """The training forward pass: rows (..., C) → (..., C), and :meth:`observe`'s result that it used.

        Args:
            rows: (..., C).
            padding: a bool for each row, True at padding, or None.
            observed: what the pass used that this one repeats (a recomputation, which updates nothing), or None.
        """
        if observed is None:
            with torch.no_grad():
                observed = self.observe(rows, padding)
        return self.normalize(rows, padding, *observed), observed

    def _train_compiled(self, rows: Tensor, padding: Tensor | None) -> Tensor:
        """The training forward pass in a compiled graph, which finds out as it runs whether it is a recomputation."""
        with torch.no_grad():
            again, found = backward_running(rows), self.observe(rows, padding)
            observed = tuple(torch.where(again, *pair) for pair in zip(self._observed_in_graph, found, strict=True))
            self._observed_in_graph = observed
        return self.normalize(rows, padding, *observed)

    def update_averages(self, statistics: Sequence[Tensor], count: Tensor) -> None:
        """Updates ``moved_forward`` by the statistics of a training batch, unless this pass is a recomputation in a
        compiled graph."""
        if torch.compiler.is_compiling():
            count = torch.where(backward_running(count), 0, count)  # without a token nothing is updated
        names = self.moved_forward or self.running_statistics
        self.update_statistics(self._move_averages, list(map(self.statistic, names)), statistics, count)

    def update_statistics(
        self, move: Callable[..., None], buffers: Sequence[Tensor], values: Sequence[Tensor], count: Tensor
    ) -> None:
        """Updates statistics by those of a batch: now, or at the end of the update that is under way
        (:func:`~fairseq_powernorm.norms.update.one_update`).

        Args:
            move: takes the other three, and changes the buffers in place.
            buffers: those that the norm had in the forward pass: by the time of the backward pass
                ``torch.func.functional_call`` has taken back those that it lent.
            values: means over the batch's real tokens.
            count: their number, a scalar.
        """
        if self.update is None:
            move(buffers, values, count)
        else:
            self.update.add(move, buffers, values, count)

    def _move_averages(self, buffers: Sequence[Tensor], values: Sequence[Tensor], count: Tensor) -> None:
        """running ← α running + (1 − α) batch, in place, for each buffer, with α = ``alpha_fwd``; left out where the
        batch held no token or a statistic is not finite (:func:`move_average`)."""
        for running, batch in zip(buffers, self.as_running(values, count), strict=True):
            move_average(running, batch, count, self.alpha_fwd)

    @property
    def loss_scale(self) -> float | Tensor | None:
        """The factor that the loss is multiplied by before its backward pass (:class:`OneUpdate`); None for 1."""
        scale = 1.0 if self.update is None else self.update.loss_scale
        return scale if isinstance(scale, Tensor) or scale != 1 else None  # a tensor is not looked at

    def _forget_observed(self) -> None:
        """Forgets what the last training pass used: padding and statistics. For compiled graphs there are zeros in its
        place, so that they do not have to be compiled once for the first pass and once more for all others."""
        self._observed = None
        like = getattr(self, self.running_statistics[0])
        vectors = [torch.zeros_like(like) for _ in range(self.observed_vectors)]
        self._observed_in_graph = *vectors, *(torch.zeros_like(like[0]) for _ in range(self.observed_scalars))

    def _apply(self, fn, recurse=True):
        """As :class:`RunningStatistics`."""
        super()._apply(fn, recurse)
        self._forget_observed()
        return self

    def __getstate__(self) -> dict:
        """A copy of the module takes no part in the update that is under way for this one."""
        passing = ("update", "penalty", "penalty_leaf", "_observed", "_observed_in_graph", "_handed_masks")
        return {key: value for key, value in self.__dict__.items() if key not in passing}

    def __setstate__(self, state: dict) -> None:
        """As ``nn.Module``, with what :meth:`__getstate__` leaves out."""
        super().__setstate__({"_handed_masks": [], **state})
        self._forget_observed()

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        scaling = f", group_scaling={self.group_scaling}" if self.group_scaling else ""
        sync = "" if self.reduce is keep_local else ", sync=True"
        return f"{super().extra_repr()}, alpha_fwd={self.alpha_fwd}{scaling}{sync}"


def own_statistics(module: nn.Module) -> tuple[str, ...]:
    """The names of the statistics that every rank keeps for itself in this module; none if it has no such ones."""
    if isinstance(module, BatchStatisticsNorm) and module.reduce is keep_local:
        return tuple(module.statistics)
    return ()
