"""How a running statistic moves, and when it does not."""

import torch
from torch import Tensor


def move_running(running: Tensor, updated: Tensor, count: Tensor) -> None:
    """running ← updated, in place; left out where the batch held no token or an entry of ``updated`` is not finite:
    such a value would stay for good.

    Args:
        running: a statistic (C,).
        updated: its next value (C,).
        count: the number of real tokens that the batch held, a scalar.
    """
    # The sum of zeros that anything not finite turns into NaN; NaN is above nothing. No host looks at it.
    moves = (updated * 0).sum() + count > 0
    torch.where(moves, updated, running, out=running)
