"""Reading what older fairseq wrote: torch's format before 1.6, and meters among the plain values."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch

from .io import Checkpoint, load_checkpoint
from .safe_globals import allow_checkpoint_classes

LEGACY_MAGIC = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)
"""How a file in the format of torch before 1.6, which is no zip archive, begins."""


class Meter:
    """Stands in for the meters that fairseq 0.8 pickled into ``extra_state``: takes their values, runs no code."""


METERS = [
    (Meter, f"fairseq.{module}.{name}")
    for module in ("meters", "logging.meters")
    for name in ("AverageMeter", "TimeMeter", "StopwatchMeter")
]


def load_any_format(path: str | Path) -> Checkpoint:
    """As :func:`~fairseq_powernorm.checkpoints.io.load_checkpoint`, and reads files of torch before 1.6 as well.

    torch's safety check stays on; only a stand-in for fairseq 0.8's meters is let through besides.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, damaged, not a fairseq checkpoint, or holding objects of classes that are not allowed.
    """
    path = Path(path)
    with torch.serialization.safe_globals(METERS):
        if not path.is_file() or not is_legacy(path):
            return load_checkpoint(path)
        allow_checkpoint_classes()
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, IndexError, ValueError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            reason = next((line for line in lines if "GLOBAL" in line), None)
            if reason is not None:
                raise ValueError(f"{path}: holds objects that are not safe to load: {reason}") from None
            raise ValueError(f"{path}: truncated or damaged ({lines[0]})") from None
    if not isinstance(state, Mapping) or not isinstance(state.get("model"), Mapping):
        raise ValueError(f"{path}: not a fairseq checkpoint, it holds no 'model'")
    return dict(state)


def is_legacy(path: Path) -> bool:
    """Whether a file begins as those of ``torch.save`` before 1.6 do."""
    with path.open("rb") as stream:
        return stream.read(len(LEGACY_MAGIC)) == LEGACY_MAGIC
