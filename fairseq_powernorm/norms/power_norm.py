"""PowerNorm (Shen et al. 2020, Definition 3 and Algorithm 2)."""

from typing import ClassVar

import torch
from torch import Tensor

from ..distributed import sum_over_ranks
from ..functional.moments import square_mean
from ..functional.power_norm import PowerStatistics, power_norm
from ..functional.reduction import keep_local
from .base import BufferPolicy, check_decay, check_warmup
from .pn_v import SquareMeanNorm


class PowerNorm(SquareMeanNorm):
    """Training: y = γ ⊙ x/√(ψ²_{t−1} + ε) + β, then ψ²_t = α ψ²_{t−1} + (1 − α) ψ_B²; the backward pass is the paper's
    approximate one and moves ν. Evaluation: running ψ².

    During the first ``warmup_updates`` optimizer updates it normalises by the batch, forward and backward (it is PN-V
    then), while ψ² and ν follow. Updates are counted by whoever trains: fairseq calls ``set_num_updates`` before each
    step; a training loop of your own has to do the same, or leave ``warmup_updates`` at 0.

    Attributes:
        running_square_mean: ψ² (C,), starts at 1.
        gradient_projection: ν (C,), starts at 0; moved in the backward pass, of no use in evaluation.
    """

    buffer_policies: ClassVar[dict[str, BufferPolicy]] = {
        **SquareMeanNorm.buffer_policies,
        "gradient_projection": "mean",
    }

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        alpha_fwd: float = 0.9,
        alpha_bwd: float = 0.9,
        warmup_updates: int = 0,
        group_scaling: int = 0,
        sync: bool = False,
    ):
        """Args:
            channels: C ≥ 1.
            eps: ε > 0.
            alpha_fwd: decay of ψ² in [0, 1), per training forward pass.
            alpha_bwd: decay of ν in [0, 1), per backward pass.
            warmup_updates: optimizer updates ≥ 0 during which the batch's own ψ_B is used.
            group_scaling: G ≥ 0 groups of channels, G dividing C, that each token is scaled by first; 0 leaves it out.
            sync: statistics over all ranks of the process group.

        Raises:
            ValueError: a value outside its range.
        """
        super().__init__(channels, eps, alpha_fwd, group_scaling)
        check_decay("alpha_bwd", alpha_bwd)
        check_warmup(warmup_updates)
        self.alpha_bwd = alpha_bwd
        self.warmup_updates = warmup_updates
        self.num_updates = 0
        self.reduce = sum_over_ranks if sync else keep_local
        self.register_buffer("gradient_projection", torch.zeros(channels))

    def set_num_updates(self, num_updates: int) -> None:
        """Tells the norm how many optimizer updates are done; fairseq does so before each training step."""
        self.num_updates = num_updates

    @property
    def warming_up(self) -> bool:
        """Whether the batch's own statistics are used."""
        return self.num_updates < self.warmup_updates

    def reset_statistics(self) -> None:
        """Puts ψ² at 1 and ν at 0."""
        super().reset_statistics()
        self.gradient_projection.zero_()

    def observe(self, rows: Tensor, padding: Tensor | None) -> PowerStatistics:
        """ψ² to divide by, ψ_B² and the number of tokens; moves ψ²."""
        batch_square_mean, count = square_mean(rows, padding, self.reduce)
        # A copy, since the buffer moves on before the backward pass needs ψ²_{t−1}.
        previous = batch_square_mean if self.warming_up else self.running_square_mean.clone()
        self.move_average(self.running_square_mean, batch_square_mean, count)
        return PowerStatistics(previous, batch_square_mean, count)

    def normalize(self, rows: Tensor, padding: Tensor | None, observed: PowerStatistics) -> Tensor:
        """The training forward pass, differentiable."""
        return power_norm(
            rows,
            self.weight,
            self.bias,
            padding,
            observed,
            self.gradient_projection,
            self.warming_up,
            self.alpha_bwd,
            self.eps,
            self.reduce,
        )

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        warmup = f", warmup_updates={self.warmup_updates}" if self.warmup_updates else ""
        return f"{super().extra_repr()}, alpha_bwd={self.alpha_bwd}{warmup}"
