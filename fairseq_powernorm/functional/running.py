"""How a running statistic moves, and when it does not."""

from torch import Tensor

from ..kernels.backend import backend_for
from . import plain_rows


def move_running(running: Tensor, updated: Tensor, count: Tensor) -> None:
    """running ← updated, in place; left out where the batch held no token or an entry of ``updated`` is not finite:
    such a value would stay for good.

    Args:
        running: a statistic (C,).
        updated: its next value (C,), of the same type.
        count: the number of real tokens that the batch held, a scalar.
    """
    (backend_for(running) or plain_rows).move_running(running, updated, count)
