"""PN-V, BatchNorm without centring (Shen et al. 2020, section 4.1)."""

from typing import ClassVar

from torch import Tensor

from ..functional import reference
from ..functional.affine import normalize_by_constants
from ..functional.batch_norm import batch_norm
from ..functional.moments import square_mean
from ..functional.reduction import Reduce, keep_local
from .batch_statistics import BatchStatisticsNorm
from .declaration import Declaration, Statistic


class SquareMeanNorm(BatchStatisticsNorm):
    """A norm that divides by the root of a quadratic mean ψ² and keeps its running value: pn-v, power, power-released.

    Attributes:
        running_square_mean: ψ² (C,), starts at 1.
    """

    statistics: ClassVar[dict[str, Statistic]] = {"running_square_mean": Statistic(1.0)}
    running_square_mean: Tensor

    def batch_statistics(
        self, rows: Tensor, padding: Tensor | None, reduce: Reduce = keep_local
    ) -> tuple[list[Tensor], Tensor]:
        """ψ_B², and the number of tokens."""
        batch_square_mean, count = square_mean(rows, padding, reduce, self.group_scaling, self.eps)
        return [batch_square_mean], count

    def normalize_by(self, rows: Tensor, running_square_mean: Tensor) -> Tensor:
        """Evaluation: y = γ ⊙ s/√(ψ² + ε) + β."""
        return normalize_by_constants(
            rows, None, running_square_mean, self.weight, self.bias, self.eps, self.group_scaling
        )


class PNV(SquareMeanNorm):
    """Training: y = γ ⊙ x/√(ψ_B² + ε) + β over the batch's real tokens, exact gradient (Definition 1). Evaluation:
    running ψ²."""

    declaration = Declaration(
        name="pn-v",
        short_name="PN-V",
        color="#56B4E9",
        source="Shen et al. 2020, Definition 1",
        training="X̂ = x/√(ψ_B² + ε)",
        evaluation="running ψ²",
        reference=reference.pn_v,
        auto_group_scaling="heads",
    )

    def normalize(self, rows: Tensor, padding: Tensor | None, batch_square_mean: Tensor, count: Tensor) -> Tensor:
        """The training forward pass, differentiable."""
        return batch_norm(
            *(rows, self.weight, self.bias, padding, None, batch_square_mean, count, self.eps),
            groups=self.group_scaling,
            reduce=self.reduce,
        )
