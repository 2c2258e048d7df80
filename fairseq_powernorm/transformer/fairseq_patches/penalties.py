"""What norms add to the loss: RegularizedBN's penalty, in training, whatever the criterion.

It is added to the loss of a micro-batch, which criteria sum over tokens, and shown apart from the criterion's own
figures, as ``norm_penalty``: a mean over tokens, as the loss, but not divided by log 2.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from fairseq.logging import metrics
from torch import nn

from ...norms.regularized_batch_norm import norm_penalty

PENALTY = "norm_penalty"
"""In a criterion's logging output."""


def add_penalty(criterion: nn.Module, inputs: tuple, output: tuple[Any, Any, dict]) -> tuple[Any, Any, dict]:
    """A forward hook of a criterion, which is called with the model and a batch."""
    loss, sample_size, logging_output = output
    penalty = norm_penalty(inputs[0])
    if not penalty.requires_grad or PENALTY in logging_output:
        return output
    return loss + penalty, sample_size, {**logging_output, PENALTY: penalty.detach()}


@contextlib.contextmanager
def penalties_added(criterion: nn.Module) -> Iterator[None]:
    """Within the block the criterion's loss has the penalties of the model's norms in it."""
    hook = criterion.register_forward_hook(add_penalty)
    try:
        yield
    finally:
        hook.remove()


def reduce_metrics(stock: Callable, task, logging_outputs, criterion):
    """Logs the penalty of an update, apart from the loss."""
    stock(task, logging_outputs, criterion)
    if any(PENALTY in output for output in logging_outputs):
        total = sum(output.get(PENALTY, 0) for output in logging_outputs)
        tokens = sum(output.get("sample_size", 0) for output in logging_outputs)
        metrics.log_scalar(PENALTY, total / tokens, tokens, round=4)
