"""RepBN and Progressive RepBN (Guo et al. 2024, SLAB): BatchNorm with a shortcut, and LayerNorm that turns into it."""

from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional import reference_rivals
from ..functional.affine import normalize_by_constants
from ..functional.group_scaling import scaled_rows
from ..functional.masking import zero_padding
from ..kernels.plain import at_least_float32
from .batch_norm import BatchNorm
from .declaration import Declaration, Setting, Statistic, number, positive_number, switch, whole_number
from .token_norm import ModuleOptions
from .update_counter import NUM_UPDATES, UpdateCounter


class RepBatchNorm(BatchNorm):
    """y = BatchNorm(x) + α x, exact gradient. In evaluation a fixed scale and shift per channel.

    As torch's, the running variance is that of the population, σ_B² N/(N − 1).

    Attributes:
        alpha: α (1,).
    """

    declaration = Declaration(
        name="rep-batch",
        short_name="RepBN",
        color="#88CCEE",
        source="Guo et al. 2024",
        training="(x − μ_B)/√(σ_B² + ε), plus α x after γ and β",
        evaluation="running μ, σ²",
        reference=reference_rivals.rep_batch_norm,
    )
    own_settings: ClassVar[dict[str, Setting]] = {
        "alpha": number("start of α, the shortcut's factor, which is learned")
    }

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        alpha_fwd: float = 0.9,
        group_scaling: int = 0,
        sync: bool = False,
        alpha: float = 1.0,
        **options: Unpack[ModuleOptions],
    ):
        """Args and errors as in :class:`BatchNorm`, and in addition:

        Args:
            alpha: α at the start.
        """
        super().__init__(channels, eps, alpha_fwd, group_scaling, sync, **options)
        self.take_settings(alpha=alpha)
        device, dtype = options.get("device"), options.get("dtype")
        self.alpha = nn.Parameter(torch.full((1,), float(alpha), device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Puts γ at 1, β at 0, α and every statistic at its start."""
        super().reset_parameters()
        nn.init.constant_(self.alpha, self.own_values["alpha"])

    def as_running(self, statistics: Sequence[Tensor], count: Tensor) -> list[Tensor]:
        """μ_B, and the population's variance."""
        mean, variance = statistics
        return [mean, variance * (count / (count - 1).clamp(min=1))]

    def normalize(self, rows: Tensor, padding: Tensor | None, *observed: Tensor) -> Tensor:
        """The training forward pass, differentiable."""
        output = super().normalize(at_least_float32(rows), padding, *observed)
        scaled = scaled_rows(rows, padding, self.group_scaling, self.eps).view(rows.shape)
        return (output + at_least_float32(self.alpha) * scaled).to(rows.dtype)

    def normalize_by(self, rows: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Evaluation: y = γ ⊙ (x − μ)/√(σ² + ε) + β + α x, in one pass by γ + α √(σ² + ε) and β + α μ."""
        alpha = at_least_float32(self.alpha)
        weight = alpha * (variance + self.eps).sqrt() + (1 if self.weight is None else self.weight)
        bias = alpha * mean if self.bias is None else alpha * mean + self.bias
        return normalize_by_constants(rows, mean, variance, weight, bias, self.eps, self.group_scaling)


class ProgressiveRepBatchNorm(UpdateCounter, RepBatchNorm):
    """y = λ LN(x) + (1 − λ) RepBN(x), LN LayerNorm with parameters of its own, exact gradient.

    λ = 1 during the first ``warmup_updates`` W updates, in which the statistics stay as they are, then
    λ = 1 − (n − W)/T after n updates, down to 0: RepBN alone. Evaluation has the λ that training has at that moment,
    with running statistics; it is a fixed scale and shift per channel once λ is 0.

    Attributes:
        layer_weight: γ of LN (C,), starts at 1.
        layer_bias: β of LN (C,), starts at 0; None without centring.
        num_updates: n, a scalar int64.
    """

    declaration = Declaration(
        name="progressive-rep-batch",
        short_name="PRepBN",
        color="#44AA99",
        source="Guo et al. 2024",
        training="λ of `layer` and 1 − λ of `rep-batch`, λ from 1 to 0 over the training",
        evaluation="the present λ, running μ, σ²",
        reference=reference_rivals.progressive_rep_batch_norm,
    )
    statistics: ClassVar[dict[str, Statistic]] = {**RepBatchNorm.statistics, "num_updates": NUM_UPDATES}
    own_settings: ClassVar[dict[str, Setting]] = {
        **RepBatchNorm.own_settings,
        "updates": whole_number("updates in which λ falls from 1 to 0", share_of_training=0.8),
        "warmup_updates": whole_number("updates with λ = 1 before it falls"),
        "uncentred": switch("start as LayerNorm without its mean and β, as its authors' language models"),
        "start_eps": positive_number("ε of the norm that it starts as"),
    }
    moved_forward = ("running_mean", "running_var", "num_updates")
    observed_scalars = 2
    layer_weight: nn.Parameter | None
    layer_bias: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        alpha_fwd: float = 0.9,
        group_scaling: int = 0,
        sync: bool = False,
        alpha: float = 1.0,
        updates: int = 0,
        warmup_updates: int = 0,
        uncentred: bool = False,
        start_eps: float = 1e-6,
        **options: Unpack[ModuleOptions],
    ):
        """Args and errors as in :class:`RepBatchNorm`, and in addition:

        Args:
            updates: T ≥ 0, in which λ falls; with 0 it is 0 after the warm-up. It should end before the training.
            warmup_updates: W ≥ 0 updates with λ = 1.
            uncentred: whether LN subtracts no mean and has no β.
            start_eps: ε > 0, of LN.
        """
        super().__init__(channels, eps, alpha_fwd, group_scaling, sync, alpha, **options)
        self.take_settings(
            alpha=alpha, updates=updates, warmup_updates=warmup_updates, uncentred=uncentred, start_eps=start_eps
        )
        self.updates, self.warmup_updates = updates, warmup_updates
        self.uncentred, self.start_eps = uncentred, start_eps
        weight, bias = self.weight, None if uncentred else self.bias
        self.register_parameter("layer_weight", None if weight is None else nn.Parameter(torch.ones_like(weight)))
        self.register_parameter("layer_bias", None if bias is None else nn.Parameter(torch.zeros_like(bias)))

    def reset_parameters(self) -> None:
        """Puts every γ at 1, every β at 0, α and every statistic at its start."""
        super().reset_parameters()
        if self.layer_weight is not None:
            nn.init.ones_(self.layer_weight)
        if self.layer_bias is not None:
            nn.init.zeros_(self.layer_bias)

    def layer_share(self) -> Tensor:
        """λ, a scalar."""
        fallen = (self.num_updates - self.warmup_updates).clamp(min=0)
        share = (self.updates - fallen).clamp(min=0).to(self.running_mean.dtype) / max(self.updates, 1)
        return torch.where(self.num_updates < self.warmup_updates, 1, share)

    def not_constant(self) -> str | None:
        """As :class:`BatchStatisticsNorm`: while λ is above 0."""
        end = self.warmup_updates + self.updates
        if self.num_updates < end:
            return f"it is LayerNorm in part until update {end}, and the model has had {int(self.num_updates)}"
        return super().not_constant()

    def observe(self, rows: Tensor, padding: Tensor | None) -> tuple[Tensor, ...]:
        """μ_B, σ_B², λ and the number of tokens; updates μ, σ² and the counter."""
        share = self.layer_share()
        *statistics, count = super().observe(rows, padding)
        return *statistics, share.to(count.dtype), count

    def mixed(self, output: Tensor, rows: Tensor, padding: Tensor | None, share: Tensor) -> Tensor:
        """λ LN(s) + (1 − λ) output, (..., C), 0 at padding."""
        scaled = scaled_rows(rows, padding, self.group_scaling, self.eps)
        shape, parameters = (self.channels,), [self.layer_weight, self.layer_bias]
        weight, bias = (None if each is None else each.to(scaled.dtype) for each in parameters)
        if self.uncentred:
            start = F.rms_norm(scaled, shape, weight, self.start_eps)
        else:
            start = F.layer_norm(scaled, shape, weight, bias, self.start_eps)
        return zero_padding(torch.lerp(output, start.view(rows.shape), share.to(output.dtype)), padding)

    def normalize(self, rows: Tensor, padding: Tensor | None, *observed: Tensor) -> Tensor:
        """The training forward pass, differentiable."""
        *statistics, share, count = observed
        output = super().normalize(at_least_float32(rows), padding, *statistics, count)
        return self.mixed(output, rows, padding, share).to(rows.dtype)

    def normalize_by(self, rows: Tensor, *statistics: Tensor) -> Tensor:
        """Evaluation: with the present λ."""
        output = super().normalize_by(at_least_float32(rows), *statistics)
        return self.mixed(output, rows, None, self.layer_share()).to(rows.dtype)

    def _move_averages(self, buffers: Sequence[Tensor], values: Sequence[Tensor], count: Tensor) -> None:
        """As :class:`BatchStatisticsNorm` after the warm-up; counts the update, unless it held nothing."""
        *running, updates = buffers
        super()._move_averages(running, values, torch.where(updates < self.warmup_updates, 0, count))
        valid = sum((value * 0).sum() for value in values) + count > 0
        updates.add_(valid.to(updates.dtype))
