"""PN-V, BatchNorm without centring (Shen et al. 2020, section 4.1)."""

from typing import ClassVar, NamedTuple

from torch import Tensor

from ..distributed import sum_over_ranks
from ..functional.affine import normalize_by_constants
from ..functional.moments import square_mean
from ..functional.pn_v import pn_v
from ..functional.reduction import keep_local
from .running_statistics import BatchStatisticsNorm, Statistic


class BatchSquareMean(NamedTuple):
    """What one training forward pass of PN-V uses: ψ_B² (C,) and the number of real tokens, a scalar."""

    square_mean: Tensor
    count: Tensor


class SquareMeanNorm(BatchStatisticsNorm):
    """A norm that divides by the root of a quadratic mean ψ² and keeps its running value: pn-v, power, power-released.

    Attributes:
        running_square_mean: ψ² (C,), starts at 1.
    """

    statistics: ClassVar[dict[str, Statistic]] = {"running_square_mean": Statistic(1.0)}

    def batch_statistics(self, rows: Tensor, padding: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """ψ_B² of this rank's batch, and the number of tokens."""
        batch_square_mean, count = square_mean(rows, padding, groups=self.group_scaling, eps=self.eps)
        return [batch_square_mean], count

    def normalize_by(self, rows: Tensor, running_square_mean: Tensor) -> Tensor:
        """Evaluation: y = γ ⊙ s/√(ψ² + ε) + β."""
        return normalize_by_constants(
            rows, None, running_square_mean, self.weight, self.bias, self.eps, self.group_scaling
        )


class PNV(SquareMeanNorm):
    """Training: y = γ ⊙ x/√(ψ_B² + ε) + β over the batch's real tokens, exact gradient (Definition 1). Evaluation:
    running ψ²."""

    Observed = BatchSquareMean

    def __init__(
        self, channels: int, eps: float = 1e-5, alpha_fwd: float = 0.9, group_scaling: int = 0, sync: bool = False
    ):
        """Args as in :class:`BatchStatisticsNorm`, and ``sync``: statistics over all ranks of the process group."""
        super().__init__(channels, eps, alpha_fwd, group_scaling)
        self.reduce = sum_over_ranks if sync else keep_local

    def observe(self, rows: Tensor, padding: Tensor | None) -> BatchSquareMean:
        """ψ_B² and the number of tokens; updates ψ²."""
        batch_square_mean, count = square_mean(rows, padding, self.reduce, self.group_scaling, self.eps)
        self.fold(self.move_averages, self.running_statistics, [batch_square_mean], count)
        return BatchSquareMean(batch_square_mean, count)

    def normalize(self, rows: Tensor, padding: Tensor | None, observed: BatchSquareMean) -> Tensor:
        """The training forward pass, differentiable."""
        batch_square_mean, count = observed
        return pn_v(
            *(rows, self.weight, self.bias, padding, batch_square_mean, count, self.eps),
            groups=self.group_scaling,
            reduce=self.reduce,
        )
