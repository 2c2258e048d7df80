"""RegularizedBN (Wang et al. 2022): BatchNorm with a penalty where the batch's statistics leave the running ones.

In all penalties μ_B and σ_B² are the batch's, which the gradient passes through, and μ and σ² the running ones just
after the batch, which are constants.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from ..kernels.plain import zero_padding
from .group_scaling import scaled_rows
from .reduction import Reduce, keep_local


class Moments(NamedTuple):
    """Mean and variance (C,) of the batch and the running ones, and ε."""

    batch_mean: Tensor
    batch_var: Tensor
    mean: Tensor
    var: Tensor
    eps: float

    @property
    def mean_difference(self) -> Tensor:
        """μ − μ_B."""
        return self.mean - self.batch_mean

    @property
    def var_difference(self) -> Tensor:
        """σ² − σ_B²."""
        return self.var - self.batch_var

    @property
    def batch_deviation(self) -> Tensor:
        """σ_B; without a gradient where it is 0."""
        return self.batch_var.clamp(min=torch.finfo(self.batch_var.dtype).tiny).sqrt()


def symmetric_divergence(found: Moments) -> tuple[Tensor, Tensor]:
    """Twice the symmetric Kullback-Leibler divergence of two normal distributions, up to a constant."""
    batch_inverse, inverse = 1 / (found.batch_var + found.eps), 1 / (found.var + found.eps)
    variances = found.var * batch_inverse + found.batch_var * inverse
    means = found.mean_difference.square() * (batch_inverse + inverse)
    return (variances + means).sum(), torch.zeros_like(means[0])


PENALTIES: dict[str, Callable[[Moments], tuple[Tensor, Tensor]]] = {
    "diff": lambda found: (found.mean_difference.square().sum(), found.var_difference.abs().sum()),
    "diff2": lambda found: (
        found.mean_difference.square().sum(),
        (found.var.sqrt() - found.batch_deviation).square().sum(),
    ),
    "reldiff": lambda found: (
        (found.mean_difference.square() / found.var).sum(),
        (1 - found.batch_deviation / found.var.sqrt()).square().sum(),
    ),
    "symkl": symmetric_divergence,
    "mag": lambda found: (found.batch_mean.square().sum(), found.batch_var.abs().sum()),
    "reldiffnorm": lambda found: (
        found.mean_difference.square().sum() / found.mean.square().sum(),
        found.var_difference.abs().sum() / found.var.abs().sum(),
    ),
    "reldiffcosine": lambda found: (
        -F.cosine_similarity(found.mean, found.batch_mean, dim=0),
        -F.cosine_similarity(found.var, found.batch_var, dim=0),
    ),
}
"""By name, what takes the moments and gives the parts that the two weights multiply."""


class BatchMomentsFunction(Function):
    """μ_B and σ_B² (C,) that are known already, with their gradient by this rank's rows (N, C), which are constant at
    padding: one collective in the backward pass."""

    @staticmethod
    def forward(ctx, values, mean, variance, count, reduce):
        """The moments as they were given."""
        mean, variance = mean.view_as(mean), variance.view_as(variance)
        ctx.save_for_backward(values, mean, count)
        ctx.reduce = reduce
        return mean, variance

    @staticmethod
    def backward(ctx, grad_mean, grad_variance):
        """Each token has its share of the moments' gradients, those of all ranks; in operators that can be
        differentiated again."""
        values, mean, count = ctx.saved_tensors
        grad_mean, grad_variance = (total / count.clamp(min=1) for total in ctx.reduce([grad_mean, grad_variance]))
        return grad_mean + 2 * grad_variance * (values - mean), None, None, None, None


def regularized_batch_norm(
    rows: Tensor,
    padding: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    count: Tensor,
    eps: float,
    groups: int = 0,
    reduce: Reduce = keep_local,
) -> tuple[Tensor, Tensor, Tensor]:
    """Z = (s − μ_B)/√max(σ_B², ε) with its exact gradient; a channel below ε passes none through σ_B².

    Args:
        rows, padding, mean, count, eps, groups, reduce: as in :func:`~.batch_norm.batch_norm`.
        variance: σ_B² (C,), biased, of these very rows.

    Returns:
        Z (N, C), 0 at padding, and μ_B and σ_B² with their gradients by x; float32 or wider.
    """
    scaled = scaled_rows(rows, padding, groups, eps)
    batch_mean, batch_var = BatchMomentsFunction.apply(scaled, mean, variance, count, reduce)
    normalized = (scaled - batch_mean) * batch_var.clamp(min=eps).rsqrt()
    return zero_padding(normalized, padding), batch_mean, batch_var


class WithGradientOf(Function):
    """The output as it is, whose backward pass hands a scalar the gradient that another place has received for it."""

    @staticmethod
    def forward(ctx, output, penalty, grad_penalty):
        """The output."""
        ctx.save_for_backward(grad_penalty)
        return output.view_as(output)

    @staticmethod
    def backward(ctx, grad_output):
        """Its gradient, and the penalty's."""
        return grad_output, ctx.saved_tensors[0], None
