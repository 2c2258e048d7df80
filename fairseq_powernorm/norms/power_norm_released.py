"""PowerNorm with the behaviour of the authors' released code, for those who compare with it."""

from typing import ClassVar, Unpack

import torch
from torch import Tensor

from ..functional.group_scaling import group_scaling
from ..functional.moments import square_mean
from ..functional.power_norm_released import power_norm_released
from .declaration import Declaration, Statistic
from .pn_v import SquareMeanNorm
from .recomputation import backward_running
from .token_norm import ModuleOptions, check_decay, check_warmup


class PowerNormReleased(SquareMeanNorm):
    """The released module's numbers, quirks and all.

    Forward call t of training: while t < W, φ ← φ (t − 1)/t + ψ_B²/t; then, in every call, φ ← α φ + (1 − α) ψ_B².
    While t ≤ W the rows are divided by ψ_B, later by φ as it was before the call. The backward pass is
    :func:`~fairseq_powernorm.functional.power_norm_released.power_norm_released`. Evaluation: φ.

    So ``warmup_updates`` counts *forward calls* here (gradient accumulation shortens the warm-up), every call updates φ
    and E whatever becomes of the update, padding gets a gradient, and one inf in a gradient makes E NaN for good. Only
    one trait of the release is left out: its statistics fall to half precision with the model, ours stay float32.

    Attributes:
        running_square_mean: φ (C,), starts at 1.
        accumulated_projection: E (C,), starts at 0; (1 − α) E is Algorithm 2's ν.
        num_forward_calls: t, a scalar int64.
    """

    declaration = Declaration(
        name="power-released",
        short_name="power-released",
        color="#009E73",
        source="the code of Shen et al. 2020",
        training="what the authors' code does, warm-up and all",
        gradient="the same",
        evaluation="running φ",
        reference=None,  # recorded runs of that code
        exact_gradient=False,
        ignores_padding=False,
        auto_group_scaling="heads",
    )
    statistics: ClassVar[dict[str, Statistic]] = {
        **SquareMeanNorm.statistics,
        "accumulated_projection": Statistic(0.0, in_evaluation=False),
        "num_forward_calls": Statistic(0, "newest", in_evaluation=False, counter=True),
    }
    joins_updates = False
    observed_vectors = 2
    accumulated_projection: Tensor
    num_forward_calls: Tensor

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        alpha_fwd: float = 0.9,
        alpha_bwd: float = 0.9,
        warmup_updates: int = 0,
        group_scaling: int = 0,
        **options: Unpack[ModuleOptions],
    ):
        """Args and errors as in :class:`BatchStatisticsNorm`, but for ``sync``, and in addition:

        Args:
            alpha_fwd: decay of φ in [0, 1), per training forward pass.
            alpha_bwd: decay of the backward pass in [0, 1).
            warmup_updates: W ≥ 0, in training forward calls of this module.
        """
        super().__init__(channels, eps, alpha_fwd, group_scaling, **options)
        check_decay("alpha_bwd", alpha_bwd)
        check_warmup(warmup_updates)
        self.alpha_bwd = alpha_bwd
        self.warmup_updates = warmup_updates

    def _train(self, rows: Tensor, padding: Tensor | None) -> Tensor:
        """As in :class:`BatchStatisticsNorm`, on scaled rows: the release scales padding too, and its gradient passes
        through. A batch without rows, which the release cannot take, changes nothing."""
        if not rows.numel():
            return self.normalize_by(rows, self.running_square_mean)
        scaled = rows.reshape(-1, self.channels)
        if self.group_scaling:
            scaled = group_scaling(scaled, self.group_scaling, self.eps)
        return super()._train(scaled, padding).view_as(rows)

    def observe(self, rows: Tensor, padding: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """ψ² to divide by, ψ_B² and the number of tokens; updates φ and counts the call."""
        batch_square_mean, count = square_mean(rows, padding)
        counted = torch.ones_like(self.num_forward_calls)
        if torch.compiler.is_compiling():
            counted = torch.where(backward_running(rows), 0, counted)  # a recomputation is no call
        self.num_forward_calls.add_(counted)
        call = self.num_forward_calls.to(batch_square_mean.dtype)
        previous = torch.where(call <= self.warmup_updates, batch_square_mean, self.running_square_mean)
        cumulative = self.running_square_mean * ((call - 1) / call) + batch_square_mean / call
        start = torch.where(call < self.warmup_updates, cumulative, self.running_square_mean)
        updated = start * self.alpha_fwd + batch_square_mean * (1 - self.alpha_fwd)
        self.running_square_mean.copy_(torch.where(counted > 0, updated, self.running_square_mean))
        return previous, batch_square_mean, count

    def normalize(
        self, rows: Tensor, padding: Tensor | None, divisor: Tensor, batch_square_mean: Tensor, count: Tensor
    ) -> Tensor:
        """The training forward pass, differentiable."""
        return power_norm_released(
            *(rows, self.weight, self.bias, divisor, batch_square_mean),
            *(self.accumulated_projection, self.alpha_bwd, self.eps),
        )

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        return f"{super().extra_repr()}, alpha_bwd={self.alpha_bwd}, warmup_updates={self.warmup_updates}"
