"""BatchNorm over tokens (Ioffe and Szegedy 2015), the baseline that PowerNorm repairs."""

from typing import ClassVar

from torch import Tensor

from ..functional import reference
from ..functional.affine import normalize_by_constants
from ..functional.batch_norm import batch_norm
from ..functional.moments import mean_and_variance
from ..functional.reduction import Reduce, keep_local
from .batch_statistics import BatchStatisticsNorm
from .declaration import Declaration, Statistic


class BatchNorm(BatchStatisticsNorm):
    """Training: y = γ ⊙ (x − μ_B)/√(σ_B² + ε) + β over the batch's real tokens, exact gradient. Evaluation: running
    μ and σ².

    Unlike ``torch.nn.BatchNorm1d`` the running variance is that of the batch as it is (biased), and ``alpha_fwd`` is
    the weight of the old value (torch's ``momentum`` is 1 − α).

    Attributes:
        running_mean: μ (C,), starts at 0.
        running_var: σ² (C,), starts at 1.
    """

    declaration = Declaration(
        name="batch",
        short_name="BN",
        color="#E69F00",
        source="Ioffe, Szegedy 2015",
        training="(x − μ_B)/√(σ_B² + ε)",
        evaluation="running μ, σ²",
        reference=reference.batch_norm,
        auto_group_scaling="1",
        normalizes="channel",
    )
    statistics: ClassVar[dict[str, Statistic]] = {"running_mean": Statistic(0.0), "running_var": Statistic(1.0)}
    observed_vectors = 2
    running_mean: Tensor
    running_var: Tensor

    def batch_statistics(
        self, rows: Tensor, padding: Tensor | None, reduce: Reduce = keep_local
    ) -> tuple[list[Tensor], Tensor]:
        """μ_B and σ_B², and the number of tokens."""
        mean, variance, count = mean_and_variance(
            rows, padding, self.running_mean, reduce, self.group_scaling, self.eps
        )
        return [mean, variance], count

    def normalize(self, rows: Tensor, padding: Tensor | None, mean: Tensor, variance: Tensor, count: Tensor) -> Tensor:
        """The training forward pass, differentiable."""
        return batch_norm(
            *(rows, self.weight, self.bias, padding, mean, variance, count, self.eps),
            groups=self.group_scaling,
            reduce=self.reduce,
        )

    def normalize_by(self, rows: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Evaluation: y = γ ⊙ (x − μ)/√(σ² + ε) + β."""
        return normalize_by_constants(rows, mean, variance, self.weight, self.bias, self.eps, self.group_scaling)
