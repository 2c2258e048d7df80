"""BatchNorm over tokens (Ioffe and Szegedy 2015), the baseline that PowerNorm repairs."""

from typing import ClassVar

import torch
from torch import Tensor

from ..distributed import sum_over_ranks
from ..functional.affine import normalize_by_constants
from ..functional.batch_norm import batch_norm
from ..functional.moments import mean_and_variance
from ..functional.reduction import keep_local
from .base import BatchStatisticsNorm, BufferPolicy


class BatchNorm(BatchStatisticsNorm):
    """Training: y = γ ⊙ (x − μ_B)/√(σ_B² + ε) + β over the batch's real tokens, exact gradient. Evaluation: running
    μ and σ².

    Unlike ``torch.nn.BatchNorm1d`` the running variance is that of the batch as it is (biased), and ``alpha_fwd`` is
    the weight of the old value (torch's ``momentum`` is 1 − α).

    Attributes:
        running_mean: μ (C,), starts at 0.
        running_var: σ² (C,), starts at 1.
    """

    buffer_policies: ClassVar[dict[str, BufferPolicy]] = {"running_mean": "mean", "running_var": "mean"}
    running_statistics: ClassVar[tuple[str, ...]] = ("running_mean", "running_var")

    def __init__(
        self, channels: int, eps: float = 1e-5, alpha_fwd: float = 0.9, group_scaling: int = 0, sync: bool = False
    ):
        """Args as in :class:`BatchStatisticsNorm`, and ``sync``: statistics over all ranks of the process group."""
        super().__init__(channels, eps, alpha_fwd, group_scaling)
        self.reduce = sum_over_ranks if sync else keep_local
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def reset_statistics(self) -> None:
        """Puts μ at 0 and σ² at 1."""
        self.running_mean.zero_()
        self.running_var.fill_(1)

    def observe(self, rows: Tensor, padding: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """μ_B, σ_B² and the number of tokens; moves the running ones."""
        mean, variance, count = mean_and_variance(
            rows, padding, self.running_mean, self.reduce, self.group_scaling, self.eps
        )
        self.fold(self.move_averages, [mean, variance], count)
        return mean, variance, count

    def normalize(self, rows: Tensor, padding: Tensor | None, observed: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The training forward pass, differentiable."""
        mean, variance, count = observed
        return batch_norm(
            *(rows, self.weight, self.bias, padding, mean, variance, count, self.eps),
            groups=self.group_scaling,
            reduce=self.reduce,
        )

    def batch_statistics(self, rows: Tensor, padding: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """μ_B and σ_B² of this rank's batch, and the number of tokens."""
        mean, variance, count = mean_and_variance(
            rows, padding, self.running_mean, groups=self.group_scaling, eps=self.eps
        )
        return [mean, variance], count

    def normalize_by(self, rows: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Evaluation: y = γ ⊙ (x − μ)/√(σ² + ε) + β."""
        return normalize_by_constants(rows, mean, variance, self.weight, self.bias, self.eps, self.group_scaling)
