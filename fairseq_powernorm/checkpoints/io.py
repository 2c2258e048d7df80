"""Reading and writing fairseq checkpoints: torch's safety check stays on, and a bad file is named in one line."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..files import atomic_write, refuse_to_overwrite
from .safe_globals import allow_checkpoint_classes

Checkpoint = dict[str, Any]
"""What fairseq-train writes: ``model`` (the state dict), ``cfg``, ``optimizer_history``, ``extra_state``, …"""


def load_checkpoint(path: str | Path, mmap: bool = False) -> Checkpoint:
    """Loads a checkpoint to the CPU without running code that it may hold (``weights_only=True``).

    Args:
        path: the file.
        mmap: leave the tensors on disk until they are read: fast where only ``extra_state`` is wanted.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, damaged, not a fairseq checkpoint, or holding objects of classes that are not allowed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: truncated, or not a checkpoint at all")
    allow_checkpoint_classes()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line or "global" in line), str(error))
        raise ValueError(f"{path}: holds objects that are not safe to load: {reason.strip()}") from None
    except (RuntimeError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: damaged ({str(error).splitlines()[0]})") from None
    if not isinstance(state, Mapping) or not isinstance(state.get("model"), Mapping):
        raise ValueError(f"{path}: not a fairseq checkpoint, it holds no 'model'")
    return dict(state)


def save_checkpoint(state: Checkpoint, path: str | Path, force: bool = False) -> None:
    """Writes a checkpoint under a temporary name and renames it.

    Raises:
        FileExistsError: ``path`` exists and ``force`` is not set.
        OSError: the disk is full; what was there before is untouched.
    """
    refuse_to_overwrite(path, force)
    with atomic_write(path, "wb") as stream:
        try:
            torch.save(state, stream)
        except RuntimeError as error:  # how torch's zip writer reports a full disk
            raise OSError(f"{path}: cannot write ({str(error).splitlines()[0]})") from None


def number_of_updates(state: Checkpoint) -> int:
    """The optimizer updates that a checkpoint was taken after; 0 if it does not say."""
    history = state.get("optimizer_history") or [{}]
    return int(history[-1].get("num_updates", 0))
