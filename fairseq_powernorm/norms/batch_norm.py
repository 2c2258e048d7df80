"""BatchNorm over tokens (Ioffe and Szegedy 2015), the baseline that PowerNorm repairs."""

from typing import ClassVar, NamedTuple

from torch import Tensor

from ..distributed import sum_over_ranks
from ..functional.affine import normalize_by_constants
from ..functional.batch_norm import batch_norm
from ..functional.moments import mean_and_variance
from ..functional.reduction import keep_local
from .running_statistics import BatchStatisticsNorm, Statistic


class BatchMoments(NamedTuple):
    """What one training forward pass of BatchNorm uses: μ_B (C,), σ_B² (C,) and the number of real tokens, a scalar."""

    mean: Tensor
    variance: Tensor
    count: Tensor


class BatchNorm(BatchStatisticsNorm):
    """Training: y = γ ⊙ (x − μ_B)/√(σ_B² + ε) + β over the batch's real tokens, exact gradient. Evaluation: running
    μ and σ².

    Unlike ``torch.nn.BatchNorm1d`` the running variance is that of the batch as it is (biased), and ``alpha_fwd`` is
    the weight of the old value (torch's ``momentum`` is 1 − α).

    Attributes:
        running_mean: μ (C,), starts at 0.
        running_var: σ² (C,), starts at 1.
    """

    Observed = BatchMoments
    statistics: ClassVar[dict[str, Statistic]] = {"running_mean": Statistic(0.0), "running_var": Statistic(1.0)}

    def __init__(
        self, channels: int, eps: float = 1e-5, alpha_fwd: float = 0.9, group_scaling: int = 0, sync: bool = False
    ):
        """Args as in :class:`BatchStatisticsNorm`, and ``sync``: statistics over all ranks of the process group."""
        super().__init__(channels, eps, alpha_fwd, group_scaling)
        self.reduce = sum_over_ranks if sync else keep_local

    def observe(self, rows: Tensor, padding: Tensor | None) -> BatchMoments:
        """μ_B, σ_B² and the number of tokens; updates the running ones."""
        mean, variance, count = mean_and_variance(
            rows, padding, self.running_mean, self.reduce, self.group_scaling, self.eps
        )
        self.fold(self.move_averages, self.running_statistics, [mean, variance], count)
        return BatchMoments(mean, variance, count)

    def normalize(self, rows: Tensor, padding: Tensor | None, observed: BatchMoments) -> Tensor:
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
