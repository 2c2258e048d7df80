"""The four passes over rows of tokens that every batch norm is made of, by a fused kernel or in plain torch.

s is x, or with ``groups`` G > 0 the group-scaled x: each token's groups of C/G channels at quadratic mean 1
(:mod:`~fairseq_powernorm.functional.group_scaling`). c, the centre, is μ of batch; None, that is 0, elsewhere. d, the
deviation, is what is divided by the root of: σ² or ψ². X̂ = (s − c)/√(d + ε). Sums and means are over the N real tokens.
Vectors are (C,), ``padding`` is (rows, 1), True at padding, or None. What stands at padding, NaN included, has no
influence. Arithmetic is float32 or wider, statistics and gradients of γ and β come in that type, rows in their own.
"""

from types import ModuleType

from torch import Tensor

from ..kernels.backend import backend_for
from . import plain_rows


def _backend(rows: Tensor) -> ModuleType:
    """Who computes: kernels, or :mod:`~fairseq_powernorm.functional.plain_rows`."""
    return backend_for(rows) or plain_rows


def normalize(
    rows: Tensor,
    padding: Tensor | None,
    centre: Tensor | None,
    deviation: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    groups: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Y = γ X̂ + β, (rows, C), which is β at padding; mean (s − c)², (C,), 0 without a token; N, a scalar."""
    return _backend(rows).normalize(rows.contiguous(), padding, centre, deviation, weight, bias, eps, groups)


def moments(
    rows: Tensor, padding: Tensor | None, centre: Tensor | None, eps: float = 0.0, groups: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Σ (s − c)² and Σ (s − c), (C,) each; N, a scalar."""
    return _backend(rows).moments(rows.contiguous(), padding, centre, eps, groups)


def gradient_sums(
    rows: Tensor,
    grad: Tensor,
    padding: Tensor | None,
    centre: Tensor | None,
    deviation: Tensor,
    eps: float,
    groups: int = 0,
) -> tuple[Tensor, Tensor]:
    """dγ = Σ dY X̂ and dβ = Σ dY, (C,) each, for the gradient dY (rows, C) of what was computed from ``rows``."""
    return _backend(rows).gradient_sums(rows.contiguous(), grad.contiguous(), padding, centre, deviation, eps, groups)


def gradient(
    rows: Tensor,
    grad: Tensor,
    padding: Tensor | None,
    centre: Tensor | None,
    deviation: Tensor,
    weight: Tensor,
    projection: Tensor,
    mean: Tensor | None,
    eps: float,
    groups: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """dX, (rows, C), 0 at padding, from ds = (γ dY − p X̂ − m)/√(d + ε); and :func:`gradient_sums` in the same pass.

    p is ``projection`` (ν or Λ), m is ``mean`` (that of γ dY); m goes with ``centre``: both or neither. dX = ds, or
    with group scaling (ds − s · mean of ds ⊙ s over the group) / √(mean of x² over the group + ε).
    """
    backend, rows, grad = _backend(rows), rows.contiguous(), grad.contiguous()
    return backend.gradient(rows, grad, padding, centre, deviation, weight, projection, mean, eps, groups)
