"""PowerNorm (Shen et al. 2020, Definition 3 and Algorithm 2)."""

import functools
from collections.abc import Sequence
from typing import ClassVar, Unpack

from torch import Tensor

from ..functional import reference
from ..functional.power_norm import power_norm
from ..kernels.operators import move_projection
from ..kernels.plain import times
from .declaration import Declaration, Statistic
from .pn_v import SquareMeanNorm
from .token_norm import ModuleOptions, check_decay, check_warmup


class PowerNorm(SquareMeanNorm):
    """Training: y = γ ⊙ x/√(ψ²_{t−1} + ε) + β, then ψ²_t = α ψ²_{t−1} + (1 − α) ψ_B²; the backward pass is the paper's
    approximate one and updates ν. Evaluation: running ψ².

    During the first ``warmup_updates`` optimizer updates it normalises by the batch, forward and backward (it is PN-V
    then), while ψ² and ν follow. Updates are counted by whoever trains: fairseq calls ``set_num_updates`` before each
    step; a training loop of your own has to do the same, or leave ``warmup_updates`` at 0.

    Attributes:
        running_square_mean: ψ² (C,), starts at 1.
        gradient_projection: ν (C,), starts at 0, of a loss that is not scaled; updated by backward passes, of no use in
            evaluation.
        warming_up: whether the batch's own statistics are used.
    """

    declaration = Declaration(
        name="power",
        short_name="PN",
        color="#0072B2",
        source="Shen et al. 2020, Algorithm 2",
        training="X̂ = x/√(ψ²_{t−1} + ε), then ψ²_t = α ψ²_{t−1} + (1 − α) ψ_B²",
        gradient="(g − ν_{t−1} X̂)/√(ψ²_{t−1} + ε), then ν_t = ν_{t−1}(1 − (1 − α)Γ) + (1 − α)Λ",
        evaluation="running ψ²",
        reference=reference.power_norm,
        exact_gradient=False,
        auto_group_scaling="heads",
    )
    statistics: ClassVar[dict[str, Statistic]] = {
        **SquareMeanNorm.statistics,
        "gradient_projection": Statistic(0.0, in_evaluation=False),
    }
    observed_vectors = 2
    gradient_projection: Tensor

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        alpha_fwd: float = 0.9,
        alpha_bwd: float = 0.9,
        warmup_updates: int = 0,
        group_scaling: int = 0,
        sync: bool = False,
        **options: Unpack[ModuleOptions],
    ):
        """Args and errors as in :class:`BatchStatisticsNorm`, and in addition:

        Args:
            alpha_fwd: decay of ψ² in [0, 1), per update (per training forward pass outside of ``one_update``).
            alpha_bwd: decay of ν in [0, 1), per update (per backward pass outside of ``one_update``).
            warmup_updates: optimizer updates ≥ 0 during which the batch's own ψ_B is used.
        """
        super().__init__(channels, eps, alpha_fwd, group_scaling, sync, **options)
        check_decay("alpha_bwd", alpha_bwd)
        check_warmup(warmup_updates)
        self.alpha_bwd = alpha_bwd
        self.warmup_updates = warmup_updates
        self.set_num_updates(0)

    def set_num_updates(self, num_updates: int) -> None:
        """Tells the norm how many optimizer updates are done; fairseq does so before each training step."""
        # Kept as what follows from it: a compiled graph is valid for one value of each attribute that it reads.
        self.warming_up = num_updates < self.warmup_updates

    def reset_statistics(self) -> None:
        """Puts ψ² at 1, ν at 0 and the number of updates at 0."""
        super().reset_statistics()
        self.set_num_updates(0)

    def observe(self, rows: Tensor, padding: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """ψ² to divide by, ψ_B² and the number of tokens; updates ψ²."""
        before = self.running_square_mean.clone()  # ψ²_{t−1}: the backward pass and a recomputation need it
        batch_square_mean, count = super().observe(rows, padding)
        return batch_square_mean if self.warming_up else before, batch_square_mean, count

    def train_on(
        self, rows: Tensor, padding: Tensor | None, observed: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """As in :class:`BatchStatisticsNorm`; after the warm-up in one pass, which gives ψ_B² as it goes."""
        if observed is None and not self.warming_up:
            before = self.statistic("running_square_mean").clone()
            output, batch_square_mean, count = self.normalize_and_measure(rows, padding, before, None)
            self.update_averages([batch_square_mean], count)
            return output, (before, batch_square_mean, count)
        return super().train_on(rows, padding, observed)

    def normalize(
        self, rows: Tensor, padding: Tensor | None, divisor: Tensor, batch_square_mean: Tensor, count: Tensor
    ) -> Tensor:
        """The training forward pass, differentiable."""
        return self.normalize_and_measure(rows, padding, divisor, (batch_square_mean, count))[0]

    def normalize_and_measure(
        self, rows: Tensor, padding: Tensor | None, divisor: Tensor, measured: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`normalize`, with ψ_B² and the number of tokens, taken in the same pass where not known."""
        scale, projection = self.loss_scale, self.statistic("gradient_projection")
        return power_norm(
            *(rows, self.weight, self.bias, padding, divisor),
            None if self.warming_up else projection if scale is None else projection * scale,
            functools.partial(self._follow_projection, projection),
            *(self.eps, measured, self.group_scaling, self.reduce),
        )

    def _follow_projection(
        self,
        projection: Tensor,
        weight: Tensor | None,
        grad_weight: Tensor,
        square_mean: Tensor,
        batch_square_mean: Tensor,
        count: Tensor,
    ) -> None:
        """Called by the backward pass with ν, γ, dγ of the scaled loss, ψ²_{t−1}, ψ_B² and the number of tokens:
        updates ν, now or at the end of the update."""
        if self.update is None:
            given = weight, grad_weight, square_mean, batch_square_mean, count
            move_projection(projection, *given, self.eps, self.alpha_bwd)
        else:
            correlation = times(weight, grad_weight) / (count.clamp(min=1) * self.update.loss_scale)
            values = [correlation, square_mean, batch_square_mean]
            self.update.add(self._move_projection, [projection], values, count)

    def _move_projection(self, buffers: Sequence[Tensor], values: Sequence[Tensor], count: Tensor) -> None:
        """Updates ν, in place, by Λ, ψ²_{t−1} and ψ_B² of an update (:data:`move_projection`)."""
        correlation, *square_means = values
        move_projection(*buffers, None, correlation * count, *square_means, count, self.eps, self.alpha_bwd)

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        warmup = f", warmup_updates={self.warmup_updates}" if self.warmup_updates else ""
        return f"{super().extra_repr()}, alpha_bwd={self.alpha_bwd}{warmup}"
