"""Is this forward pass a recomputation (activation checkpointing)? It then must not count as a second batch."""

import torch
from torch import Tensor


def is_backward_running() -> bool:
    """Whether this forward pass is a recomputation inside a backward pass (activation checkpointing).

    Python asks this before it chooses a way. ``torch.compile`` traces one way for all passes, so a compiled graph asks
    :func:`backward_running` as it runs instead; for it this is False.
    """
    if torch.compiler.is_compiling():
        return False
    # -1 means that no backward pass is running; torch.utils.checkpoint asks in the same way.
    return torch._C._current_graph_task_id() != -1


@torch.library.custom_op("fairseq_powernorm::backward_running", mutates_args=())
def backward_running(like: Tensor) -> Tensor:
    """The same as an operator: a bool scalar on the device of ``like``, found out when the graph runs."""
    return torch.full((), torch._C._current_graph_task_id() != -1, dtype=torch.bool, device=like.device)


@backward_running.register_fake
def _(like: Tensor) -> Tensor:
    return like.new_empty((), dtype=torch.bool)
