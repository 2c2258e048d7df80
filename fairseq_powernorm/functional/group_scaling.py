"""Group scaling: each token's groups of channels brought to quadratic mean 1, before a batch statistic is taken.

The authors' released code puts it in front of PowerNorm; Algorithm 2 has no such step.
"""

import torch.nn.functional as F
from torch import Tensor


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
