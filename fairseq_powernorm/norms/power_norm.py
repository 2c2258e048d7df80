"""PowerNorm (Shen et al. 2020, Definition 3 and Algorithm 2)."""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ..distributed import sum_over_ranks
from ..functional.moments import square_mean
from ..functional.power_norm import power_norm
from ..functional.reduction import keep_local
from ..functional.running import move_projection
from .base import BufferPolicy, check_decay, check_warmup
from .pn_v import SquareMeanNorm


class PowerStatistics(NamedTuple):
    """What one training forward pass of PowerNorm goes by.

    Attributes:
        square_mean: ψ² (C,) that the rows are divided by: ψ²_{t−1}, or ψ_B² during warm-up.
        measured: ψ_B² (C,) of these very rows and the number of real tokens, a scalar; None until the pass gave them.
        warming_up: whether ``square_mean`` is ψ_B².
    """

    square_mean: Tensor
    measured: tuple[Tensor, Tensor] | None
    warming_up: bool


class PowerNorm(SquareMeanNorm):
    """Training: y = γ ⊙ x/√(ψ²_{t−1} + ε) + β, then ψ²_t = α ψ²_{t−1} + (1 − α) ψ_B²; the backward pass is the paper's
    approximate one and moves ν. Evaluation: running ψ².

    During the first ``warmup_updates`` optimizer updates it normalises by the batch, forward and backward (it is PN-V
    then), while ψ² and ν follow. Updates are counted by whoever trains: fairseq calls ``set_num_updates`` before each
    step; a training loop of your own has to do the same, or leave ``warmup_updates`` at 0.

    Attributes:
        running_square_mean: ψ² (C,), starts at 1.
        gradient_projection: ν (C,), starts at 0, of a loss that is not scaled; moved by backward passes, of no use in
            evaluation.
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
        """ψ_B² to divide by (warm-up), and the number of tokens; moves ψ²."""
        batch_square_mean, count = square_mean(rows, padding, self.reduce, self.group_scaling, self.eps)
        self.fold(self.move_averages, [batch_square_mean], count)
        return PowerStatistics(batch_square_mean, (batch_square_mean, count), warming_up=True)

    def train_on(
        self, rows: Tensor, padding: Tensor | None, observed: PowerStatistics | None
    ) -> tuple[Tensor, PowerStatistics]:
        """As in :class:`BatchStatisticsNorm`; behind the warm-up in one pass, which gives ψ_B² as it goes."""
        if observed is None and not self.warming_up:
            # A copy, since the buffer moves on, and a recomputation needs ψ²_{t−1}.
            observed = PowerStatistics(self.running_square_mean.clone(), None, warming_up=False)
            output, batch_square_mean, count = self.normalize_and_measure(rows, padding, observed)
            self.fold(self.move_averages, [batch_square_mean], count)
            return output, observed._replace(measured=(batch_square_mean, count))
        return super().train_on(rows, padding, observed)

    def normalize(self, rows: Tensor, padding: Tensor | None, observed: PowerStatistics) -> Tensor:
        """The training forward pass, differentiable."""
        return self.normalize_and_measure(rows, padding, observed)[0]

    def normalize_and_measure(
        self, rows: Tensor, padding: Tensor | None, observed: PowerStatistics
    ) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`normalize`, with ψ_B² and the number of tokens, taken in the same pass where not known."""
        scale = self.loss_scale
        return power_norm(
            *(rows, self.weight, self.bias, padding, observed.square_mean),
            self.gradient_projection if scale is None else self.gradient_projection * scale,
            self.follow_projection,
            self.eps,
            measured=observed.measured,
            warming_up=observed.warming_up,
            groups=self.group_scaling,
            reduce=self.reduce,
        )

    @property
    def loss_scale(self) -> float | Tensor | None:
        """The factor that the loss is multiplied by before its backward pass (:class:`OneUpdate`); None for 1."""
        scale = 1.0 if self.update is None else self.update.loss_scale
        return scale if isinstance(scale, Tensor) or scale != 1 else None  # a tensor is not looked at

    def follow_projection(self, square_mean_ratio: Tensor, correlation: Tensor, count: Tensor) -> None:
        """Called by the backward pass with Γ, Λ of the scaled loss, and the number of tokens: moves ν, now or at the
        end of the update."""
        if self.loss_scale is not None:
            correlation = correlation / self.loss_scale
        self.fold(self.move_projection, [square_mean_ratio, correlation], count)

    def move_projection(self, square_mean_ratio: Tensor, correlation: Tensor, count: Tensor) -> None:
        """Moves ν, in place, with α = ``alpha_bwd`` (:func:`~fairseq_powernorm.functional.running.move_projection`)."""
        move_projection(self.gradient_projection, square_mean_ratio, correlation, count, self.alpha_bwd)

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        warmup = f", warmup_updates={self.warmup_updates}" if self.warmup_updates else ""
        return f"{super().extra_repr()}, alpha_bwd={self.alpha_bwd}{warmup}"
