"""The four passes over rows of tokens that every batch norm is made of, by a fused kernel or in plain torch.

s is x, or with ``groups`` G > 0 the group-scaled x: each token's groups of C/G channels at quadratic mean 1
(:mod:`~fairseq_powernorm.functional.group_scaling`). Sums are over the real tokens. c, the centre, is μ of batch; None,
that is 0, elsewhere. Vectors are (C,), ``padding`` is (N, 1), True at padding, or None. What stands at padding, NaN
included, has no influence. Arithmetic is float32 or wider, sums come in that type, rows in their own.
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
    scale: Tensor,
    shift: Tensor,
    groups: int = 0,
    eps: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """y = scale ⊙ (s − c) + shift, (N, C), which is shift at padding; and Σ (s − c)², (C,)."""
    return _backend(rows).normalize(rows.contiguous(), padding, centre, scale, shift, groups, eps)


def moments(
    rows: Tensor, padding: Tensor | None, centre: Tensor | None, groups: int = 0, eps: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Σ (s − c)² and Σ (s − c), (C,) each."""
    return _backend(rows).moments(rows.contiguous(), padding, centre, groups, eps)


def gradient_sums(
    rows: Tensor, grad: Tensor, padding: Tensor | None, centre: Tensor | None, groups: int = 0, eps: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Σ dY ⊙ (s − c) and Σ dY, (C,) each, for the gradient dY (N, C) of what was computed from ``rows``."""
    return _backend(rows).gradient_sums(rows.contiguous(), grad.contiguous(), padding, centre, groups, eps)


def gradient(
    rows: Tensor,
    grad: Tensor,
    padding: Tensor | None,
    centre: Tensor | None,
    grad_scale: Tensor,
    grad_product: Tensor,
    grad_shift: Tensor | None,
    groups: int = 0,
    eps: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """dX, (N, C), 0 at padding, from ds = grad_scale ⊙ dY − grad_product ⊙ (s − c) − grad_shift; and the two sums of
    :func:`gradient_sums`, in the same pass. ``grad_shift`` goes with ``centre``: both or neither.

    dX = ds, or with group scaling (ds − s · mean of ds ⊙ s over the group) / √(mean of x² over the group + ε).
    """
    backend, rows, grad = _backend(rows), rows.contiguous(), grad.contiguous()
    return backend.gradient(rows, grad, padding, centre, grad_scale, grad_product, grad_shift, groups, eps)
