"""Group scaling: each token's groups of channels brought to quadratic mean 1, before a batch statistic is taken.

The authors' released code puts it in front of PowerNorm; Algorithm 2 has no such step.
"""

import torch.nn.functional as F
from torch import Tensor

from ..kernels.plain import real_values


def group_scaling(rows: Tensor, groups: int, eps: float) -> Tensor:
    """s = x / √(mean of x² over the token's group of C/G channels + ε), with the exact gradient.

    Args:
        rows: (N, C) with C divisible by ``groups``.
        groups: G, the number of groups.
        eps: ε > 0.

    Returns:
        (N, C) in the dtype of ``rows``. The same in training and evaluation: nothing but the token itself is used.
    """
    width = rows.size(-1) // groups
    return F.rms_norm(rows.view(-1, groups, width), (width,), eps=eps).view_as(rows)


def scaled_rows(rows: Tensor, padding: Tensor | None, groups: int, eps: float) -> Tensor:
    """s (N, C) in float32 or wider, 0 at padding, with the exact gradient: x itself where ``groups`` is 0.

    Args:
        rows: x (..., C).
        padding: a bool for each row, True at padding, or None.
        groups: G ≥ 0.
        eps: ε > 0.
    """
    real = real_values(rows, padding)
    return group_scaling(real, groups, eps) if groups else real
