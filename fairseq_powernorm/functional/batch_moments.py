"""Mean and variance of a batch that are known already, made differentiable: for norms in plain torch."""

from torch import Tensor
from torch.autograd import Function

from .reduction import Reduce, keep_local


class BatchMomentsFunction(Function):
    """Forward and backward; see :func:`batch_moments`."""

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


def batch_moments(
    values: Tensor, mean: Tensor, variance: Tensor, count: Tensor, reduce: Reduce = keep_local
) -> tuple[Tensor, Tensor]:
    """``mean`` and ``variance``, with their gradient by ``values``: one collective in the backward pass.

    Args:
        values: (N, C), this rank's rows, made from rows that are constant at padding.
        mean: μ_B (C,) over the real tokens of all ranks.
        variance: σ_B² (C,), biased.
        count: the number of these tokens, a scalar.
        reduce: sums over ranks.

    Returns:
        μ_B and σ_B² (C,).
    """
    return BatchMomentsFunction.apply(values, mean, variance, count, reduce)
