"""What all norms share: affine parameters, running statistics and their dtype, padding masks, recomputation."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Optional

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from ..functional.reduction import Reduce, keep_local
from ..functional.running import move_average
from ..masking import to_rows, zero_padding

if TYPE_CHECKING:
    from .update import OneUpdate

BufferPolicy = Literal["mean", "newest"]
"""How the average of several checkpoints gets a buffer: the float64 mean, or the newest checkpoint's value."""


def check_decay(name: str, value: float) -> None:
    """Raises ``ValueError`` unless ``value`` is in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"expected {name} in [0, 1), got {value}")


def check_warmup(warmup_updates: int) -> None:
    """Raises ``ValueError`` if ``warmup_updates`` is below 0."""
    if warmup_updates < 0:
        raise ValueError(f"expected warmup_updates >= 0, got {warmup_updates}")


def is_backward_running() -> bool:
    """Whether this forward pass is a recomputation inside a backward pass (activation checkpointing)."""
    # -1 stands for "no backward pass is running"; torch.utils.checkpoint asks in the same way.
    return torch._C._current_graph_task_id() != -1


class TokenNorm(nn.Module):
    """A norm of tokens with one scale γ and one shift β per channel.

    ``norm(x, padding_mask)`` takes (T, B, C) with a (B, T) mask, True at padding, or rows (N, C) with an (N,) mask or
    None, and returns the shape and dtype of ``x``. Changing what stands at padding changes no output at a real token,
    no statistic and no gradient; what comes out *at* padding is not specified. Arithmetic and statistics are float32
    or wider whatever the dtype of ``x`` and of the parameters.

    Attributes:
        weight: γ (C,), starts at 1.
        bias: β (C,), starts at 0.
        buffer_policies: how checkpoint averaging treats each buffer of the class.
    """

    _version = 1
    buffer_policies: ClassVar[dict[str, BufferPolicy]] = {}

    def __init__(self, channels: int, eps: float = 1e-5):
        """Args:
            channels: C ≥ 1.
            eps: ε > 0.

        Raises:
            ValueError: a value outside its range.
        """
        super().__init__()
        if channels < 1:
            raise ValueError(f"expected channels >= 1, got {channels}")
        if not eps > 0:
            raise ValueError(f"expected eps > 0, got {eps}")
        self.channels = channels
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self._handed_mask: Tensor | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Puts γ at 1 and β at 0."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        return f"{self.channels}, eps={self.eps}"

    def check_channels(self, x: Tensor) -> None:
        """Raises ``ValueError`` if the last dimension of ``x`` is not the norm's."""
        if x.size(-1) != self.channels:
            raise ValueError(f"expected {self.channels} channels in the last dimension, got shape {tuple(x.shape)}")


@contextlib.contextmanager
def hand_padding_mask(padding_mask: Tensor | None, *norms: nn.Module | None) -> Iterator[None]:
    """Within the block the norms use ``padding_mask`` (B, T) where a caller gives them none.

    fairseq's layers call ``norm(x)``; a layer of ours puts this around ``super().forward``. Entries that are None or
    no :class:`TokenNorm` are passed over.
    """
    receivers = [norm for norm in norms if isinstance(norm, TokenNorm)]
    for norm in receivers:
        norm._handed_mask = padding_mask
    try:
        yield
    finally:
        for norm in receivers:
            norm._handed_mask = None


class BatchStatisticsNorm(TokenNorm):
    """A norm that goes by statistics of the batch in training and by running ones in evaluation.

    A subclass defines :meth:`observe` (take the batch's statistics, update the running ones), :meth:`normalize`
    (training), :meth:`batch_statistics` and :meth:`normalize_by` (evaluation, recalibration), and names its buffers in
    ``buffer_policies`` and ``running_statistics``.

    In a training pass inside ``backward`` (activation checkpointing recomputes there) the norm goes by the statistics
    of its last forward pass and updates nothing. In evaluation mode nothing is updated, ever; the running statistics
    are estimated anew by :func:`~fairseq_powernorm.norms.recalibration.gather_statistics`.

    Attributes:
        running_statistics: the buffers that evaluation goes by, in the order that :meth:`normalize_by` takes them.
        joins_updates: whether :func:`~fairseq_powernorm.norms.update.one_update` concerns the norm.
        reduce: sums over ranks.
        update: the update that is under way, or None: then every training pass moves the statistics.
        gathered: what recalibration sums up, or None.
    """

    running_statistics: ClassVar[tuple[str, ...]] = ()
    joins_updates: ClassVar[bool] = True
    reduce: Reduce = staticmethod(keep_local)
    update: Optional["OneUpdate"] = None

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        alpha_fwd: float = 0.9,
        group_scaling: int = 0,
    ):
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
        self._observed = None

    def observe(self, rows: Tensor, padding: Tensor | None):
        """Takes the statistics of a training batch and moves the running ones; called without grad.

        Args:
            rows: (N, C), before group scaling.
            padding: (N, 1), True at padding, or None.

        Returns:
            What :meth:`normalize` goes by; a recomputation is given the same object again.
        """
        raise NotImplementedError

    def normalize(self, rows: Tensor, padding: Tensor | None, observed) -> Tensor:
        """The training forward pass: rows (N, C) → (N, C)."""
        raise NotImplementedError

    def batch_statistics(self, rows: Tensor, padding: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """The batch's own values of ``running_statistics``, and the number of real tokens; moves nothing.

        Of this rank's batch alone, whatever ``sync`` says: ranks may gather unequal numbers of batches.
        """
        raise NotImplementedError

    def normalize_by(self, rows: Tensor, *statistics: Tensor) -> Tensor:
        """Rows (N, C) → (N, C) by given ``running_statistics``, a constant scale and shift per channel."""
        raise NotImplementedError

    def normalize_running(self, rows: Tensor) -> Tensor:
        """The evaluation forward pass: rows (N, C) → (N, C) by the running statistics."""
        return self.normalize_by(rows, *(getattr(self, name) for name in self.running_statistics))

    @torch.no_grad()  # so that no backward pass follows, which could move ν
    def gather(self, rows: Tensor, padding: Tensor | None) -> Tensor:
        """The forward pass of recalibration: rows (N, C) → (N, C) by the batch's own statistics, which are added to
        the gathered ones."""
        statistics, count = self.batch_statistics(rows, padding)
        if not is_backward_running():  # a recomputation is no second batch
            self.gathered.add(statistics, count)
        return self.normalize_by(zero_padding(rows, padding), *statistics)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """See :class:`TokenNorm`."""
        self.check_channels(x)
        if not self.training and self.gathered is None:
            return self.normalize_running(x)
        rows, padding = to_rows(x, self._handed_mask if padding_mask is None else padding_mask)
        if self.gathered is not None:
            return self.gather(rows, padding).view_as(x)
        if self.update is not None and self.update.ignored:
            padding = torch.ones(rows.size(0), 1, dtype=torch.bool, device=rows.device)
        known = self._observed if is_backward_running() else None
        compiling = self.update is not None and torch.compiler.is_compiling()
        train_on = self.train_on_uncompiled if compiling else self.train_on
        output, self._observed = train_on(rows, padding, known)
        return output.view_as(x)

    @_disable_dynamo  # an update notes things down outside the graph, and a backward pass in it does so too
    def train_on_uncompiled(self, rows: Tensor, padding: Tensor | None, observed) -> tuple[Tensor, object]:
        """:meth:`train_on`, which ``torch.compile`` leaves alone."""
        return self.train_on(rows, padding, observed)

    def __getstate__(self) -> dict:
        """A copy of the module takes no part in the update that is under way for this one."""
        passing = ("update", "_observed", "_handed_mask")
        return {key: value for key, value in self.__dict__.items() if key not in passing}

    def __setstate__(self, state: dict) -> None:
        """As ``nn.Module``, with what :meth:`__getstate__` leaves out."""
        super().__setstate__({"_observed": None, "_handed_mask": None, **state})

    def train_on(self, rows: Tensor, padding: Tensor | None, observed) -> tuple[Tensor, object]:
        """The training forward pass: rows (N, C) → (N, C), and what it went by, :meth:`observe`'s result.

        Args:
            rows: (N, C).
            padding: (N, 1), True at padding, or None.
            observed: what the pass went by that this one repeats (a recomputation, which moves nothing), or None.
        """
        if observed is None:
            with torch.no_grad():
                observed = self.observe(rows, padding)
        return self.normalize(rows, padding, observed), observed

    def reset_statistics(self) -> None:
        """Puts every buffer back to its start."""
        raise NotImplementedError

    def fold(self, move: Callable[..., None], values: Sequence[Tensor], count: Tensor) -> None:
        """Moves statistics by those of a batch: now, or at the end of the update that is under way
        (:func:`~fairseq_powernorm.norms.update.one_update`).

        Args:
            move: a method that takes ``values`` and ``count``.
            values: means over the batch's real tokens.
            count: their number, a scalar.
        """
        if self.update is None:
            move(*values, count)
        else:
            self.update.fold(move, values, count)

    def move_averages(self, *values_and_count: Tensor) -> None:
        """running ← α running + (1 − α) batch, in place, for each of ``running_statistics``, with α = ``alpha_fwd``.

        Left out where the batch held no token or a statistic is not finite (:func:`move_average`).

        Args:
            values_and_count: the batch's statistics (C,), then the number of tokens that they are means over, a scalar.
        """
        *values, count = values_and_count
        for name, batch in zip(self.running_statistics, values, strict=True):
            move_average(getattr(self, name), batch, count, self.alpha_fwd)

    def _apply(self, fn, recurse=True):
        """Casts and moves the module, but leaves floating-point buffers at float32 or wider."""
        before = {name: buffer for name, buffer in self._buffers.items() if buffer.is_floating_point()}
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            cast = self._buffers[name]
            if torch.finfo(cast.dtype).bits < 32:
                self._buffers[name] = buffer.to(cast.device)
        self._observed = None
        return self

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        scaling = f", group_scaling={self.group_scaling}" if self.group_scaling else ""
        return f"{super().extra_repr()}, alpha_fwd={self.alpha_fwd}{scaling}"
