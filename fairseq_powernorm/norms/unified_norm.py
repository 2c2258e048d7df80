"""Unified Normalization (Yang et al. 2022), the closest relative of PowerNorm."""

import functools
from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
from torch import Tensor

from ..functional import reference_rivals
from ..functional.masking import count_tokens
from ..functional.unified_norm import Schedule, backward_step, forward_step, unified_norm
from .declaration import Declaration, Setting, Statistic, switch, whole_number
from .pn_v import SquareMeanNorm
from .token_norm import ModuleOptions, check_decay
from .update_counter import NUM_UPDATES, UpdateCounter


class UnifiedNorm(UpdateCounter, SquareMeanNorm):
    """Training: y = γ ⊙ x/√(d + ε) + β, d the geometric mean of ψ_B² over the last ``window`` updates, this one
    included; the backward pass is approximate, by ν. Then φ ← α φ + (1 − α) d. Evaluation: φ.

    In update t = 1, 2, … d is ψ_B² itself while t ≤ window or t < ``warmup_updates``.

    Attributes:
        running_square_mean: φ (C,), starts at 1.
        gradient_projection: ν (C,), starts at 0, of a loss that is not scaled.
        square_mean_window: the last updates' ψ_B² (window, C), each in slot t mod window.
        gradient_window: the last updates' Λ, likewise.
        num_updates: t, a scalar int64.
        num_outliers: updates that ``outlier_filtration`` has found to stand out.
    """

    declaration = Declaration(
        name="unified",
        short_name="UN",
        color="#CC79A7",
        source="Yang et al. 2022",
        training="Z = x/√(d + ε), d the geometric mean of ψ_B² over the last W updates",
        gradient="(r g − ν_t Z)/√(d + ε), ν_t by the mean of Λ over the last W updates",
        evaluation="running φ of d",
        reference=reference_rivals.unified_norm,
        exact_gradient=False,
    )
    statistics: ClassVar[dict[str, Statistic]] = {
        **SquareMeanNorm.statistics,
        "gradient_projection": Statistic(0.0, in_evaluation=False),
        "square_mean_window": Statistic(0.0, "newest", in_evaluation=False, slots="window"),
        "gradient_window": Statistic(0.0, "newest", in_evaluation=False, slots="backward_window"),
        "num_updates": NUM_UPDATES,
        "num_outliers": Statistic(0, "newest", in_evaluation=False, counter=True),
    }
    own_settings: ClassVar[dict[str, Setting]] = {
        "window": whole_number("updates whose quadratic means are averaged; 1: PN-V with an approximate ν", minimum=1),
        "backward_window": whole_number("the same for the backward pass; 0: as many"),
        "warmup_updates": whole_number(
            "use the batch's own statistics in updates before this one (-released: forward calls)",
            share_of_training=0.04,
            otherwise=4000,
        ),
        "outlier_filtration": switch("normalise a batch by itself that stands out from the window"),
    }
    moved_forward = ("running_square_mean", "square_mean_window", "num_updates", "num_outliers")
    observed_vectors = 2
    observed_scalars = 3
    gradient_projection: Tensor
    square_mean_window: Tensor
    gradient_window: Tensor
    correction_start = 0  # if later than the warm-up: the call after which the gradient is corrected by r

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        alpha_fwd: float = 0.9,
        alpha_bwd: float = 0.9,
        group_scaling: int = 0,
        sync: bool = False,
        window: int = 4,
        backward_window: int = 0,
        warmup_updates: int = 0,
        outlier_filtration: bool = False,
        **options: Unpack[ModuleOptions],
    ):
        """Args and errors as in :class:`BatchStatisticsNorm`, and in addition:

        Args:
            alpha_fwd: decay of φ in [0, 1), per update.
            alpha_bwd: decay of ν in [0, 1), per update.
            window: W ≥ 1 updates; with 1 every update goes by its batch.
            backward_window: the same for Λ; 0 for as many.
            warmup_updates: updates before this one go by their batch.
            outlier_filtration: whether an update that stands out from the window goes by its batch.
        """
        self.window, self.backward_window = window, backward_window or window  # before super, which makes the buffers
        own = {"window": window, "backward_window": backward_window, "warmup_updates": warmup_updates}
        self.take_settings(**own, outlier_filtration=outlier_filtration)
        super().__init__(channels, eps, alpha_fwd, group_scaling, sync, **options)
        check_decay("alpha_bwd", alpha_bwd)
        self.alpha_bwd, self.warmup_updates = alpha_bwd, warmup_updates
        self.schedule = Schedule(warmup_updates, max(self.correction_start, warmup_updates), outlier_filtration, eps)

    def observe(self, rows: Tensor, padding: Tensor | None) -> tuple[Tensor, ...]:
        """d, r, t, whether the batch goes by itself, and the number of tokens; updates φ and the window."""
        (batch_square_mean,), count = self.batch_statistics(rows, padding, self.reduce)
        call = (self.num_updates + 1).to(batch_square_mean.dtype)
        given = self.running_square_mean, self.square_mean_window, call, self.schedule
        step = forward_step(batch_square_mean, *given)
        self.update_averages([batch_square_mean], count)
        return step.divisor, step.ratio, call, step.skipped.to(call.dtype), count

    def normalize(self, rows: Tensor, padding: Tensor | None, *observed: Tensor) -> Tensor:
        """The training forward pass, differentiable."""
        divisor, ratio, call, skipped, count = observed
        buffers = self.gradient_projection, self.gradient_window
        follow = functools.partial(self._follow_projection, buffers, call, skipped, count)
        return unified_norm(
            *(rows, self.weight, self.bias, padding, divisor, ratio, count, self.declaration.name, follow, self.eps),
            groups=self.group_scaling,
            reduce=self.reduce,
        )

    def _follow_projection(
        self, buffers: tuple[Tensor, Tensor], call: Tensor, skipped: Tensor, count: Tensor, correlation: Tensor
    ) -> Tensor:
        """Called by the backward pass with Λ of the scaled loss: updates ν and its window, now or at the end of the
        update, and gives what the gradient is projected by."""
        scale = 1.0 if self.loss_scale is None else self.loss_scale
        values = [correlation / scale, call, skipped]
        _, moved, mean = self._backward_step(buffers, values)
        self.update_statistics(self._move_projection, buffers, values, count)
        return torch.where(skipped > 0, mean, moved) * scale

    def _backward_step(self, buffers: Sequence[Tensor], values: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        (projection, window), (correlation, call, skipped) = buffers, values
        return backward_step(correlation, projection, window, call, skipped > 0, self.warmup_updates, self.alpha_bwd)

    def _move_averages(self, buffers: Sequence[Tensor], values: Sequence[Tensor], count: Tensor) -> None:
        """Updates φ, the window and the counters by ψ_B²."""
        (running, window, updates, outliers), (batch_square_mean,) = buffers, values
        step = forward_step(batch_square_mean, running, window, (updates + 1).to(running.dtype), self.schedule)
        average = self.alpha_fwd * running + (1 - self.alpha_fwd) * step.divisor
        found = average, step.window, updates + 1, outliers + step.outlying
        put_if_finite(buffers, found, batch_square_mean, count)

    def _move_projection(self, buffers: Sequence[Tensor], values: Sequence[Tensor], count: Tensor) -> None:
        """Updates ν and its window by Λ."""
        window, moved, _ = self._backward_step(buffers, values)
        put_if_finite(buffers, (moved, window), values[0], count)


class UnifiedNormReleased(UnifiedNorm):
    """The released module's numbers: as :class:`UnifiedNorm`, but t counts training forward calls, the backward means
    are over padding too, and the correction r starts after 1000 calls however short the training is."""

    declaration = Declaration(
        name="unified-released",
        short_name="unified-released",
        color="#AA4499",
        source="the code of Yang et al. 2022",
        training="the same, by forward calls instead of updates",
        gradient="the same with means over padding too, r = 1 for 1000 calls",
        evaluation="running φ of d",
        reference=None,  # recorded runs of that code
        exact_gradient=False,
        ignores_padding=False,
    )
    joins_updates = False
    correction_start = 1000

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        alpha_fwd: float = 0.9,
        alpha_bwd: float = 0.9,
        group_scaling: int = 0,
        window: int = 4,
        backward_window: int = 0,
        warmup_updates: int = 0,
        outlier_filtration: bool = False,
        **options: Unpack[ModuleOptions],
    ):
        """Args and errors as in :class:`UnifiedNorm`, without ``sync``."""
        own = window, backward_window, warmup_updates, outlier_filtration
        super().__init__(channels, eps, alpha_fwd, alpha_bwd, group_scaling, False, *own, **options)

    def normalize(self, rows: Tensor, padding: Tensor | None, *observed: Tensor) -> Tensor:
        """The training forward pass, whose backward pass knows no padding."""
        return super().normalize(rows, None, *observed[:-1], count_tokens(rows, None))


def put_if_finite(buffers: Sequence[Tensor], values: Sequence[Tensor], batch: Tensor, count: Tensor) -> None:
    """Writes each value into its buffer, or none where the batch's statistic is not finite or it held no token."""
    valid = (batch * 0).sum() + count > 0
    for buffer, value in zip(buffers, values, strict=True):
        buffer.copy_(torch.where(valid, value, buffer))
