"""What is recorded of one pass through one norm, and how it is computed.

x are the real tokens (N, C) at the norm's input, or, where a scaling of each token stands in front of the norm, behind
it (``scaled``); μ_B, σ_B² and ψ_B² are their moments per channel, μ, σ² and ψ² the running ones before the update. With
dY, the gradient by the norm's output of a loss that is a mean over target tokens, and g = γ ⊙ dY, the three means of
BatchNorm's and PN-V's backward pass (Shen et al. 2020, equation 3) are g_μ = mean g, g_σ² = mean g ⊙ (x − μ_B)/σ_B and
g_ψ² = mean g ⊙ x/ψ_B. They are taken by the batch's moments for every norm, so that one run of each norm can be drawn
in one figure: under another norm than BN and PN-V they are what these would see in its place.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional.group_scaling import group_scaling
from ..functional.masking import zero_padding
from ..functional.reduction import Reduce
from ..kernels.operators import gradient_sums, moments
from ..kernels.plain import at_least_float32, times

MOMENTS = ("mean", "variance", "square_mean")
"""μ, σ² and ψ²."""
STARTS = (0.0, 1.0, 1.0)
"""What running values of them start at."""
KEPT_IN = {"running_mean": "mean", "running_var": "variance", "running_square_mean": "square_mean"}
"""The buffers of norms that are such running values."""

FORWARD = (
    *(f"{name}_distance" for name in MOMENTS),  # (1/C) ‖μ_B − μ‖₂, the paper's dist
    "deviation_distance",  # (1/C) ‖σ_B − σ‖₂
    *(f"batch_{name}" for name in MOMENTS),  # (1/C) ‖μ_B‖₂ …: what a distance is to be seen against
    *(f"running_{name}" for name in MOMENTS),
    "mean_discrepancy",  # mean over channels of |μ − μ_B|/σ_B
    "variance_discrepancy",  # … of |σ/σ_B − 1|
    "square_mean_discrepancy",  # … of |ψ/ψ_B − 1|
    "between_sentences",  # the share of the sentences' means in the variance of all channels
)
BACKWARD = tuple(f"gradient_{name}" for name in MOMENTS)
"""‖g_μ‖₂, ‖g_σ²‖₂, ‖g_ψ²‖₂."""
QUANTITIES = (*FORWARD, *BACKWARD)
DISCREPANCIES = tuple(name for name in FORWARD if name.endswith("_discrepancy"))
"""Those that say without a unit how far a batch is from the running statistics."""


@dataclass(frozen=True)
class Moments:
    """Moments of a batch per channel, (C,) each.

    Attributes:
        mean: μ_B.
        variance: σ_B², biased.
        square_mean: ψ_B².
        count: the number of real tokens, a scalar.
    """

    mean: Tensor
    variance: Tensor
    square_mean: Tensor
    count: Tensor

    def values(self) -> list[Tensor]:
        """In the order of :data:`MOMENTS`."""
        return [self.mean, self.variance, self.square_mean]


def moments_of(rows: Tensor, padding: Tensor | None, shift: Tensor, reduce: Reduce, groups: int, eps: float) -> Moments:
    """The moments of rows (..., C) in their precision, float32 or wider, in one pass.

    Args:
        rows: as above, before any scaling.
        padding: a bool for each row, True at padding, or None.
        shift: a guess of the mean (C,), the same on every rank, which is taken off before anything is squared.
        reduce: sums over ranks.
        groups: of the scaling; 0 for none.
        eps: of the scaling.
    """
    shift = shift.to(at_least_float32(rows[:0]).dtype)
    squares, sums, count = reduce([*moments(rows, padding, shift, eps, groups)])
    mean_shifted = sums / count.clamp(min=1)
    variance = (squares / count.clamp(min=1) - mean_shifted.square()).clamp(min=0)
    mean = shift + mean_shifted
    return Moments(mean, variance, variance + mean.square(), count)


def forward_quantities(
    batch: Moments, running: list[Tensor], between: Tensor | None, eps: float, channels: int
) -> Tensor:
    """:data:`FORWARD` as one vector.

    Args:
        batch: the batch's moments, float64.
        running: the running values in the order of :data:`MOMENTS`.
        between: of :func:`between_sentences`, or None where sentences are not known: NaN then.
        eps: ε of the norm, added to what a discrepancy divides by.
        channels: C.
    """
    mean, variance, square_mean = (value.to(batch.mean) for value in running)

    def size(vector: Tensor) -> Tensor:
        return torch.linalg.vector_norm(vector) / channels

    deviation_batch, deviation = (batch.variance + eps).sqrt(), (variance + eps).sqrt()
    quadratic_batch, quadratic = (batch.square_mean + eps).sqrt(), (square_mean + eps).sqrt()
    return torch.stack(
        [
            size(batch.mean - mean),
            size(batch.variance - variance),
            size(batch.square_mean - square_mean),
            size(batch.variance.sqrt() - variance.clamp(min=0).sqrt()),
            *map(size, batch.values()),
            *map(size, (mean, variance, square_mean)),
            ((mean - batch.mean).abs() / deviation_batch).mean(),
            (deviation / deviation_batch - 1).abs().mean(),
            (quadratic / quadratic_batch - 1).abs().mean(),
            mean.new_full((), torch.nan) if between is None else between,
        ]
    )


def between_sentences(
    rows: Tensor, padding: Tensor | None, batch: Moments, reduce: Reduce, groups: int, eps: float
) -> Tensor | None:
    """The share of the variance (summed over channels) that is between sentences: Σ_b n_b (m_b − μ_B)² / Σ (x − μ_B)²
    with the mean m_b of sentence b's n_b real tokens; the rest is within them. None for rows (N, C).

    Args:
        rows: (T, B, C); their sums are float32 or wider.
        padding: (T, B), True at padding, or None.
        batch: the moments of these rows, float64.
        reduce: sums over ranks.
        groups: of the scaling; 0 for none.
        eps: of the scaling.
    """
    if rows.dim() != 3:
        return None
    real = zero_padding(at_least_float32(rows), padding)
    if groups:
        real = group_scaling(real.reshape(-1, real.size(-1)), groups, eps).view_as(real)
    if padding is None:
        tokens = real.new_full((rows.size(1), 1), rows.size(0))
    else:
        tokens = (~padding).sum(dim=0, dtype=real.dtype).unsqueeze(1)
    centred = real.sum(dim=0).to(batch.mean) / tokens.clamp(min=1) - batch.mean
    (between,) = reduce([(centred.square() * tokens).sum().reshape(1)])
    return (between / (batch.variance.sum() * batch.count)).reshape(())


def backward_quantities(
    rows: Tensor,
    grad: Tensor,
    padding: Tensor | None,
    batch: Moments,
    weight: Tensor | None,
    reduce: Reduce,
    groups: int,
    eps: float,
) -> Tensor:
    """:data:`BACKWARD` as one vector, of the loss whose gradient is given.

    Args:
        rows: (..., C), float64.
        grad: dY of the same shape, float64.
        padding: a bool for each row, or None.
        batch: the moments of these rows, float64.
        weight: γ (C,), or None for 1.
        reduce: sums over ranks.
        groups: of the scaling; 0 for none.
        eps: ε of the norm, under the roots, and of the scaling.
    """
    correlation, total = gradient_sums(rows, grad, padding, batch.mean, batch.variance, eps, groups)
    correlation, total = (times(weight, sums) / batch.count.clamp(min=1) for sums in reduce([correlation, total]))
    # Σ g x/ψ_B = (σ_B Σ g (x − μ_B)/σ_B + μ_B Σ g)/ψ_B
    around_zero = correlation * (batch.variance + eps).sqrt() + batch.mean * total
    square_mean = around_zero * (batch.square_mean + eps).rsqrt()
    return torch.stack([torch.linalg.vector_norm(vector) for vector in (total, correlation, square_mean)])
