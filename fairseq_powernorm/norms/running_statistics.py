"""Norms that use the batch's statistics in training and running ones in evaluation."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Optional

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from ..distributed import exclude_from_broadcasts
from ..functional.reduction import Reduce, keep_local
from ..functional.running import move_average
from ..masking import rows_of_padding, zero_padding
from .recomputation import backward_running, is_backward_running
from .token_norm import TokenNorm, check_decay

if TYPE_CHECKING:
    from .update import OneUpdate

BufferPolicy = Literal["mean", "newest"]
"""How the average of several checkpoints gets a buffer: the float64 mean, or the newest checkpoint's value."""


@dataclasses.dataclass(frozen=True)
class Statistic:
    """A buffer that training passes change.

    Attributes:
        start: the value that it starts at and is reset to.
        average: how checkpoint averaging treats it.
        in_evaluation: whether evaluation uses it.
        counter: whether it is an int64 scalar rather than a floating-point value per channel.
    """

    start: float
    average: BufferPolicy = "mean"
    in_evaluation: bool = True
    counter: bool = False

    def dtype_for(self, dtype: torch.dtype) -> torch.dtype:
        """``dtype`` where the statistic may have it; otherwise the nearest one that it may: float32 or wider."""
        if self.counter:
            return torch.int64
        return torch.promote_types(dtype, torch.float32) if dtype.is_floating_point else torch.float32


class BatchStatisticsNorm(TokenNorm):
    """A norm that uses statistics of the batch in training and running ones in evaluation.

    A subclass defines :meth:`observe` (take the batch's statistics, update the running ones), :meth:`normalize`
    (training), :meth:`batch_statistics` and :meth:`normalize_by` (evaluation, recalibration), and lists its buffers in
    ``statistics``.

    Statistics are float32 or wider, in whatever way the module comes by its dtype: ``torch.set_default_dtype``, casts,
    ``load_state_dict`` with or without ``assign``. ``double()`` takes them along.

    In a training pass inside ``backward`` (activation checkpointing recomputes there) the norm uses the statistics
    of its last forward pass and updates nothing. In evaluation mode nothing is updated, ever; the running statistics
    are estimated anew by :func:`~fairseq_powernorm.norms.recalibration.gather_statistics`.

    Attributes:
        statistics: the buffers, by name.
        running_statistics: those that evaluation uses, in the order that :meth:`normalize_by` takes them.
        buffer_policies: how checkpoint averaging treats each buffer.
        Observed: the named tuple of what a training pass uses; the last entry is the number of tokens.
        joins_updates: whether :func:`~fairseq_powernorm.norms.update.one_update` concerns the norm.
        reduce: sums over ranks.
        update: the update that is under way, or None: then every training pass updates the statistics.
        gathered: what recalibration sums up, or None.
    """

    statistics: ClassVar[dict[str, Statistic]] = {}
    running_statistics: ClassVar[tuple[str, ...]] = ()
    buffer_policies: ClassVar[dict[str, BufferPolicy]] = {}
    Observed: ClassVar[type[tuple]] = tuple
    joins_updates: ClassVar[bool] = True
    reduce: Reduce = staticmethod(keep_local)
    update: Optional["OneUpdate"] = None

    def __init_subclass__(cls, **keywords) -> None:
        super().__init_subclass__(**keywords)
        cls.running_statistics = tuple(name for name, statistic in cls.statistics.items() if statistic.in_evaluation)
        cls.buffer_policies = {name: statistic.average for name, statistic in cls.statistics.items()}

    def __init__(self, channels: int, eps: float = 1e-5, alpha_fwd: float = 0.9, group_scaling: int = 0):
        """Args:
            channels: C ≥ 1.
            eps: ε > 0.
            alpha_fwd: decay in [0, 1) of the running statistics, per update or training forward pass.
            group_scaling: G ≥ 0 groups of channels, G dividing C, that each token is scaled by first; 0 leaves it out.

        Raises:
            ValueError: a value outside its range.
        """
        super().__init__(channels, eps)
        check_decay("alpha_fwd", alpha_fwd)
        if not isinstance(group_scaling, int) or group_scaling < 0 or (group_scaling and channels % group_scaling):
            raise ValueError(
                f"expected group_scaling 0 or a number of groups that divides {channels} channels, got {group_scaling}"
            )
        self.alpha_fwd = alpha_fwd
        self.group_scaling = group_scaling
        self.gathered = None
        for name, statistic in self.statistics.items():
            shape = () if statistic.counter else (channels,)
            self.register_buffer(name, torch.empty(shape, dtype=statistic.dtype_for(self.weight.dtype)))
        self.reset_statistics()
        self.forget_observed()

    def reset_parameters(self) -> None:
        """Puts γ at 1, β at 0 and every statistic at its start, as torch's norms do."""
        super().reset_parameters()
        if self._buffers:  # the base class resets its parameters before there are statistics
            self.reset_statistics()

    def reset_statistics(self) -> None:
        """Puts every statistic at its start."""
        with torch.no_grad():
            for name, statistic in self.statistics.items():
                getattr(self, name).fill_(statistic.start)

    def observe(self, rows: Tensor, padding: Tensor | None) -> tuple:
        """Takes the statistics of a training batch and updates the running ones; called without grad.

        Args:
            rows: (N, C), before group scaling.
            padding: (N, 1), True at padding, or None.

        Returns:
            What :meth:`normalize` uses, an ``Observed``; a recomputation is given the same object again.
        """
        raise NotImplementedError

    def normalize(self, rows: Tensor, padding: Tensor | None, observed: tuple) -> Tensor:
        """The training forward pass: rows (N, C) → (N, C)."""
        raise NotImplementedError

    def batch_statistics(self, rows: Tensor, padding: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """The batch's own values of ``running_statistics``, and the number of real tokens; updates nothing.

        Of this rank's batch alone, whatever ``sync`` says: ranks may gather unequal numbers of batches.
        """
        raise NotImplementedError

    def normalize_by(self, rows: Tensor, *statistics: Tensor) -> Tensor:
        """Rows (N, C) → (N, C) by given ``running_statistics``, a constant scale and shift per channel."""
        raise NotImplementedError

    def normalize_running(self, rows: Tensor) -> Tensor:
        """The evaluation forward pass: rows (N, C) → (N, C) by the running statistics."""
        return self.normalize_by(rows, *[getattr(self, name) for name in self.running_statistics])

    @torch.no_grad()  # so that no backward pass follows, which could update ν
    def gather(self, rows: Tensor, padding: Tensor | None) -> Tensor:
        """The forward pass of recalibration: rows (N, C) → (N, C) by the batch's own statistics, which are added to
        the gathered ones."""
        statistics, count = self.batch_statistics(rows, padding)
        if not is_backward_running():  # a recomputation is no second batch
            self.gathered.add(statistics, count)
        return self.normalize_by(zero_padding(rows, padding), *statistics)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """See :class:`TokenNorm`."""
        self.check_input(x)
        if not self.training and self.gathered is None:  # padding has no part in it
            return self.normalize_running(x)
        padding = rows_of_padding(x, self._handed_mask if padding_mask is None else padding_mask)
        if self.gathered is not None:
            return self.gather(x, padding)
        if self.update is not None and self.update.ignored:
            padding = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device)
        if torch.compiler.is_compiling():
            train_on = self.train_on_compiled if self.update is None else self.train_on_uncompiled
        else:
            train_on = self.train_on
            self.check_statistics()
            if self.reduce is keep_local:
                exclude_from_broadcasts(own_statistics)
        output, self._observed = train_on(x, padding, self._observed if is_backward_running() else None)
        return output

    def train_on(self, rows: Tensor, padding: Tensor | None, observed: tuple | None) -> tuple[Tensor, tuple]:
        """The training forward pass: rows (N, C) → (N, C), and :meth:`observe`'s result that it used.

        Args:
            rows: (N, C).
            padding: (N, 1), True at padding, or None.
            observed: what the pass used that this one repeats (a recomputation, which updates nothing), or None.
        """
        if observed is None:
            with torch.no_grad():
                observed = self.observe(rows, padding)
        return self.normalize(rows, padding, observed), observed

    def train_on_compiled(self, rows: Tensor, padding: Tensor | None, _: None) -> tuple[Tensor, None]:
        """:meth:`train_on` in a compiled graph, which finds out as it runs whether it is a recomputation."""
        with torch.no_grad():
            observed = self.observe(rows, padding)
            again = backward_running(self.weight)
            last = self._observed_in_graph
            observed = self.Observed(*(torch.where(again, *pair) for pair in zip(last, observed, strict=True)))
            self._observed_in_graph = observed
        return self.normalize(rows, padding, observed), None

    @_disable_dynamo  # an update notes things down outside the graph, and a backward pass in it does so too
    def train_on_uncompiled(self, rows: Tensor, padding: Tensor | None, _: None) -> tuple[Tensor, tuple]:
        """:meth:`train_on`, which ``torch.compile`` leaves alone."""
        return self.train_on(rows, padding, self._observed if is_backward_running() else None)

    def fold(self, move: Callable[..., None], names: Sequence[str], values: Sequence[Tensor], count: Tensor) -> None:
        """Updates statistics by those of a batch: now, or at the end of the update that is under way
        (:func:`~fairseq_powernorm.norms.update.one_update`).

        Args:
            move: takes the buffers, ``values`` and ``count``, and changes the buffers in place.
            names: of the buffers.
            values: means over the batch's real tokens.
            count: their number, a scalar.
        """
        self.fold_into(move, [getattr(self, name) for name in names], values, self.count_once(count))

    def fold_into(
        self, move: Callable[..., None], buffers: Sequence[Tensor], values: Sequence[Tensor], count: Tensor
    ) -> None:
        """:meth:`fold`, into buffers that were those of the norm in the forward pass: by the time of the backward pass
        ``torch.func.functional_call`` has taken back those that it lent."""
        if self.update is None:
            move(buffers, values, count)
        else:
            self.update.fold(move, buffers, values, count)

    @staticmethod
    def count_once(count: Tensor) -> Tensor:
        """``count``, but 0 in a recomputation that only a compiled graph can notice: no token updates nothing."""
        return torch.where(backward_running(count), 0, count) if torch.compiler.is_compiling() else count

    def move_averages(self, buffers: Sequence[Tensor], values: Sequence[Tensor], count: Tensor) -> None:
        """running ← α running + (1 − α) batch, in place, for each buffer, with α = ``alpha_fwd``.

        Left out where the batch held no token or a statistic is not finite (:func:`move_average`).
        """
        for running, batch in zip(buffers, values, strict=True):
            move_average(running, batch, count, self.alpha_fwd)

    def forget_observed(self) -> None:
        """Forgets what the last training pass used. For compiled graphs there are zeros in its place, so that they do
        not have to be compiled once for the first pass and once more for all others."""
        self._observed = None
        like = getattr(self, next(iter(self.statistics)))
        vectors = (torch.zeros_like(like) for _ in self.Observed._fields[:-1])
        self._observed_in_graph = self.Observed(*vectors, torch.zeros_like(like[0]))

    def check_statistics(self) -> None:
        """Raises ``ValueError`` if a training pass was lent a statistic that it cannot keep."""
        for name, statistic in self.statistics.items():
            dtype = self._buffers[name].dtype
            if dtype != statistic.dtype_for(dtype):
                raise ValueError(f"{name} is {dtype}; training keeps it in {statistic.dtype_for(dtype)} or wider")

    def _apply(self, fn, recurse=True):
        """Casts and moves the module, but keeps statistics in dtypes that they may have."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, statistic in self.statistics.items():
            cast = self._buffers[name]
            if cast.dtype != statistic.dtype_for(cast.dtype):
                self._buffers[name] = before[name].to(cast.device)  # not widened again: nothing was rounded
        self.forget_observed()
        return self

    def _load_from_state_dict(self, *args, **keywords) -> None:
        """Loads, and widens what ``assign`` has put in place of a statistic."""
        super()._load_from_state_dict(*args, **keywords)
        for name, statistic in self.statistics.items():
            loaded = self._buffers[name]
            self._buffers[name] = loaded.to(statistic.dtype_for(loaded.dtype))

    def __getstate__(self) -> dict:
        """A copy of the module takes no part in the update that is under way for this one."""
        passing = ("update", "_observed", "_observed_in_graph", "_handed_mask")
        return {key: value for key, value in self.__dict__.items() if key not in passing}

    def __setstate__(self, state: dict) -> None:
        """As ``nn.Module``, with what :meth:`__getstate__` leaves out."""
        super().__setstate__({"_handed_mask": None, **state})
        self.forget_observed()

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        scaling = f", group_scaling={self.group_scaling}" if self.group_scaling else ""
        return f"{super().extra_repr()}, alpha_fwd={self.alpha_fwd}{scaling}"


def own_statistics(module: nn.Module) -> tuple[str, ...]:
    """The names of the statistics that every rank keeps for itself in this module; none if it has no such ones."""
    if isinstance(module, BatchStatisticsNorm) and module.reduce is keep_local:
        return tuple(module.statistics)
    return ()
