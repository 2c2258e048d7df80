"""PowerNorm with the behaviour of the authors' released code, for those who compare with it."""

from typing import ClassVar

import torch
from torch import Tensor

from ..functional.group_scaling import group_scaling
from ..functional.moments import square_mean
from ..functional.power_norm_released import ReleasedStatistics, power_norm_released
from .base import BufferPolicy, check_decay, check_warmup
from .pn_v import SquareMeanNorm


class PowerNormReleased(SquareMeanNorm):
    """The released module's numbers, quirks and all.

    Forward call t of training: while t < W, φ ← φ (t − 1)/t + ψ_B²/t; then, in every call, φ ← α φ + (1 − α) ψ_B².
    While t ≤ W the rows are divided by ψ_B, later by φ as it was before the call. The backward pass is
    :func:`~fairseq_powernorm.functional.power_norm_released.power_norm_released`. Evaluation: φ.

    So ``warmup_updates`` counts *forward calls* here (gradient accumulation shortens the warm-up), every call moves φ
    and E whatever becomes of the update, padding gets a gradient, and one inf in a gradient makes E NaN for good. Only
    one trait of the release is left out: its statistics fall to half precision with the model, ours stay float32.

    Attributes:
        running_square_mean: φ (C,), starts at 1.
        accumulated_projection: E (C,), starts at 0; (1 − α) E is Algorithm 2's ν.
        num_forward_calls: t, a scalar int64.
    """

    buffer_policies: ClassVar[dict[str, BufferPolicy]] = {
        **SquareMeanNorm.buffer_policies,
        "accumulated_projection": "mean",
        "num_forward_calls": "newest",
    }
    joins_updates: ClassVar[bool] = False

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        alpha_fwd: float = 0.9,
        alpha_bwd: float = 0.9,
        warmup_updates: int = 0,
        group_scaling: int = 0,
    ):
        """Args:
            channels: C ≥ 1.
            eps: ε > 0.
            alpha_fwd: decay of φ in [0, 1), per training forward pass.
            alpha_bwd: decay of the backward pass in [0, 1).
            warmup_updates: W ≥ 0, in training forward calls of this module.
            group_scaling: G ≥ 0 groups of channels, G dividing C, that each token is scaled by first; 0 leaves it out.

        Raises:
            ValueError: a value outside its range.
        """
        super().__init__(channels, eps, alpha_fwd, group_scaling)
        check_decay("alpha_bwd", alpha_bwd)
        check_warmup(warmup_updates)
        self.alpha_bwd = alpha_bwd
        self.warmup_updates = warmup_updates
        self.register_buffer("accumulated_projection", torch.zeros(channels))
        self.register_buffer("num_forward_calls", torch.zeros((), dtype=torch.int64))

    def reset_statistics(self) -> None:
        """Puts φ at 1, E at 0 and t at 0."""
        super().reset_statistics()
        self.accumulated_projection.zero_()
        self.num_forward_calls.zero_()

    def train_on(
        self, rows: Tensor, padding: Tensor | None, observed: ReleasedStatistics | None
    ) -> tuple[Tensor, ReleasedStatistics]:
        """As in :class:`BatchStatisticsNorm`, on scaled rows: the release scales padding too, and its gradient passes
        through."""
        if self.group_scaling:
            rows = group_scaling(rows, self.group_scaling, self.eps)
        return super().train_on(rows, padding, observed)

    def observe(self, rows: Tensor, padding: Tensor | None) -> ReleasedStatistics:
        """ψ² to divide by, ψ_B² and the number of tokens; moves φ and counts the call."""
        batch_square_mean, count = square_mean(rows, padding)
        self.num_forward_calls.add_(1)
        call = self.num_forward_calls.to(batch_square_mean.dtype)
        previous = torch.where(call <= self.warmup_updates, batch_square_mean, self.running_square_mean)
        cumulative = self.running_square_mean * ((call - 1) / call) + batch_square_mean / call
        start = torch.where(call < self.warmup_updates, cumulative, self.running_square_mean)
        self.running_square_mean.copy_(start * self.alpha_fwd + batch_square_mean * (1 - self.alpha_fwd))
        return ReleasedStatistics(previous, batch_square_mean, count)

    def normalize(self, rows: Tensor, padding: Tensor | None, observed: ReleasedStatistics) -> Tensor:
        """The training forward pass, differentiable."""
        return power_norm_released(
            rows, self.weight, self.bias, observed, self.accumulated_projection, self.alpha_bwd, self.eps
        )

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        return f"{super().extra_repr()}, alpha_bwd={self.alpha_bwd}, warmup_updates={self.warmup_updates}"
