"""RegularizedBN (Wang et al. 2022): BatchNorm that keeps the batch's statistics near the running ones by a penalty."""

from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor, nn

from ..functional import reference_rivals
from ..functional.affine import normalize_by_constants
from ..functional.reduction import keep_local
from ..functional.regularized_batch_norm import PENALTIES, Moments, WithGradientOf, regularized_batch_norm
from .batch_norm import BatchNorm
from .declaration import Declaration, Setting, choice, positive_number
from .distributed import number_of_ranks
from .recomputation import is_backward_running
from .token_norm import ModuleOptions


class RegularizedBatchNorm(BatchNorm):
    """Training: y = γ ⊙ (x − μ_B)/√max(σ_B², ε) + β over the batch's real tokens, exact gradient. Evaluation: running
    μ and σ².

    Each training pass also finds a penalty, a sum over channels, which whoever trains adds to the loss that is summed
    over tokens: ``loss + norm_penalty(model)``. fairseq's trainer does so. It reaches x, but neither γ nor β.

    Attributes:
        penalty: of the last training pass, a scalar; None before, and once :func:`norm_penalty` has taken it.
    """

    declaration = Declaration(
        name="regularized-batch",
        short_name="RBN",
        color="#332288",
        source="Wang et al. 2022",
        training="(x − μ_B)/√max(σ_B², ε), and a penalty on μ − μ_B and σ² − σ_B²",
        evaluation="running μ, σ²",
        reference=reference_rivals.regularized_batch_norm,
    )
    own_settings: ClassVar[dict[str, Setting]] = {
        "penalty": choice("what is penalised", tuple(PENALTIES)),
        "mean_weight": positive_number("weight of the penalty on the mean (of all of symkl)", zero=True),
        "variance_weight": positive_number("weight of the penalty on the variance", zero=True),
    }
    observed_vectors = 4
    penalty: Tensor | None = None
    penalty_leaf: Tensor | None = None

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        alpha_fwd: float = 0.9,
        group_scaling: int = 0,
        sync: bool = False,
        penalty: str = "diff",
        mean_weight: float = 0.1,
        variance_weight: float = 0.01,
        **options: Unpack[ModuleOptions],
    ):
        """Args and errors as in :class:`BatchNorm`, and in addition:

        Args:
            penalty: a name of :data:`~fairseq_powernorm.functional.regularized_batch_norm.PENALTIES`.
            mean_weight: λ₁ ≥ 0, of the part on the mean.
            variance_weight: λ₂ ≥ 0, of the part on the variance.
        """
        super().__init__(channels, eps, alpha_fwd, group_scaling, sync, **options)
        self.take_settings(penalty=penalty, mean_weight=mean_weight, variance_weight=variance_weight)
        self.kind, self.mean_weight, self.variance_weight = penalty, mean_weight, variance_weight

    def observe(self, rows: Tensor, padding: Tensor | None) -> tuple[Tensor, ...]:
        """μ_B, σ_B², the running μ and σ² as this batch alone leaves them, and the number of tokens."""
        statistics, count = self.batch_statistics(rows, padding, self.reduce)
        before = self.running_mean, self.running_var
        after = [
            torch.lerp(new, old.to(new.dtype), self.alpha_fwd) for new, old in zip(statistics, before, strict=True)
        ]
        self.update_averages(statistics, count)
        return *statistics, *after, count

    def normalize(self, rows: Tensor, padding: Tensor | None, *observed: Tensor) -> Tensor:
        """The training forward pass, differentiable; keeps the penalty."""
        mean, variance, running_mean, running_var, count = observed
        normalized, batch_mean, batch_var = regularized_batch_norm(
            *(rows, padding, mean, variance, count, self.eps), groups=self.group_scaling, reduce=self.reduce
        )
        if self.mean_weight or self.variance_weight:
            parts = PENALTIES[self.kind](Moments(batch_mean, batch_var, running_mean, running_var, self.eps))
            penalty = (self.mean_weight * parts[0] + self.variance_weight * parts[1]) * (count > 0)
            normalized = self._keep_penalty(penalty, normalized)
        output = self.affine(normalized)
        if padding is not None:  # so that no gradient at padding reaches β
            output = torch.where(padding.reshape(-1, 1), 0, output)
        return output.to(rows.dtype).view(rows.shape)

    def _keep_penalty(self, penalty: Tensor, normalized: Tensor) -> Tensor:
        """Keeps the penalty for :func:`norm_penalty`. A pass without grad may be the first one of activation
        checkpointing: then its penalty is a leaf, whose gradient the recomputation takes up."""
        if self.reduce is not keep_local:
            penalty = penalty / number_of_ranks()  # every rank finds all of it, and adds its share
        if is_backward_running():
            received = None if self.penalty_leaf is None else self.penalty_leaf.grad
            return normalized if received is None else WithGradientOf.apply(normalized, penalty, received)
        graph = torch.is_grad_enabled() or torch.compiler.is_compiling()
        self.penalty_leaf = None if graph else penalty.detach().requires_grad_()
        self.penalty = penalty if graph else self.penalty_leaf
        return normalized

    def normalize_by(self, rows: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Evaluation: y = γ ⊙ (x − μ)/√max(σ², ε) + β."""
        excess = (variance - self.eps).clamp(min=0)  # max(σ², ε) − ε
        return normalize_by_constants(rows, mean, excess, self.weight, self.bias, self.eps, self.group_scaling)


def norm_penalty(model: nn.Module) -> Tensor:
    """The sum of the penalties that the norms of a model have found in their last training passes; 0 without one, and
    when it was taken already.

    It is to be added to a loss that is summed over tokens, before its backward pass, once for each pass::

        loss = F.cross_entropy(logits, target, reduction="sum") + norm_penalty(model)
        (loss / number_of_tokens).backward()
    """
    norms: list[Any] = [module for module in model.modules() if getattr(module, "penalty", None) is not None]
    total = torch.zeros(())
    for norm in norms:
        total = total + norm.penalty
        norm.penalty = None  # or a layer that the next pass drops would count again
    return total
