"""Reading what fairseq 0.8 wrote: meters among the plain values."""

from pathlib import Path
from typing import Any

import torch

from .io import Checkpoint, load_checkpoint


class Meter:
    """Takes the values of the meters that fairseq 0.8 pickled into ``extra_state``, and runs no code."""


METERS: list[Any] = [
    (Meter, f"fairseq.{module}.{name}")
    for module in ("meters", "logging.meters")
    for name in ("AverageMeter", "TimeMeter", "StopwatchMeter")
]


def load_any_format(path: str | Path) -> Checkpoint:
    """As :func:`~fairseq_powernorm.checkpoints.io.load_checkpoint`, with a :class:`Meter` for each of fairseq 0.8's."""
    with torch.serialization.safe_globals(METERS):
        return load_checkpoint(path)
