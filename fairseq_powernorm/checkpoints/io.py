"""Reading and writing fairseq checkpoints: torch's safety check stays on, and a bad file is named in one line."""

import argparse
import errno
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint

from ..files import atomic_write, refuse_folder, refuse_to_overwrite
from .damage import find_damage, is_archive, is_legacy
from .safe_globals import allow_checkpoint_classes

Checkpoint = dict[str, Any]
"""What fairseq-train writes: ``model`` (the state dict), ``cfg``, ``optimizer_history``, ``extra_state``, …"""

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "Cannot allocate memory", "out of memory")
ENDS_EARLY = "unexpected EOF"
"""How torch says that a file of torch before 1.6 ends within a tensor."""


class DamagedCheckpoint(ValueError):
    """A file that is cut off or altered, which :func:`~.damage.find_damage` has proved."""


def load_checkpoint(path: str | Path, mmap: bool = False) -> Checkpoint:
    """Loads a checkpoint to the CPU without running code that it may hold (``weights_only=True``).

    Args:
        path: the file, as a zip archive or in the format of torch before 1.6.
        mmap: leave the tensors on disk until they are read: fast where only ``extra_state`` is wanted.

    Raises:
        DamagedCheckpoint: cut off or altered, provably.
        OSError: no such file, a folder, no permission, a disk that does not answer, not enough memory.
        ValueError: not a fairseq checkpoint, or holding objects of classes that are not let through.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    refuse_folder(path)
    archive = is_archive(path)  # opens it: what the system says of a missing permission comes first
    if not archive and not is_legacy(path):
        if (damage := find_damage(path)) is not None:
            raise DamagedCheckpoint(f"{path}: {damage}")
        raise ValueError(f"{path}: not a checkpoint at all")
    allow_checkpoint_classes()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and archive)
    except Exception as error:  # of any class, by what the file holds
        raise explained(path, error) from None
    if not isinstance(state, Mapping) or not isinstance(state.get("model"), Mapping):
        raise ValueError(f"{path}: not a fairseq checkpoint, it holds no 'model'")
    return dict(state)


def explained(path: Path, error: Exception) -> Exception:
    """What to raise where torch cannot load a file: what is the matter, in one line.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(error, OSError) and error.filename is not None:  # of opening it; torch's reader names no file
        return error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        return OSError(errno.ENOMEM, "not enough memory to read it", str(path))
    if (damage := find_damage(path)) is not None:
        return DamagedCheckpoint(f"{path}: {damage}")
    if is_legacy(path) and ENDS_EARLY in lines[0]:
        return DamagedCheckpoint(f"{path}: truncated ({lines[0]})")
    if isinstance(error, pickle.UnpicklingError):
        unsafe = ", ".join(classes_not_let_through(path))
        reason = next((line for line in lines if "GLOBAL" in line or "global" in line), lines[-1])
        return ValueError(f"{path}: holds objects that are not safe to load: {unsafe or reason}")
    if isinstance(error, OSError):
        return error
    return ValueError(f"{path}: not a checkpoint that this torch can read ({lines[0]})")


def classes_not_let_through(path: Path) -> list[str]:
    """The classes and functions that a checkpoint names and that may not be unpickled, as far as torch can say."""
    try:
        return sorted(get_unsafe_globals_in_checkpoint(path))
    except Exception:  # a file of torch before 1.6, or a pickle of another kind
        return []


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


def with_model_flags(state: Checkpoint, flags: dict[str, Any]) -> Checkpoint:
    """The checkpoint with other flags of its model, without its optimizer state."""
    kept = {name: value for name, value in state.items() if name not in ("last_optimizer_state", "optimizer")}
    chosen = argparse.Namespace(**flags)
    if state.get("args") is not None:
        # fairseq makes its cfg of these whenever it loads them; a cfg of another model would stand in the way.
        return {**kept, "args": chosen, "cfg": None}
    return {**kept, "cfg": {**state["cfg"], "model": chosen}}


def number_of_updates(state: Checkpoint) -> int:
    """The optimizer updates that a checkpoint was taken after; 0 if it does not say."""
    history = state.get("optimizer_history") or [{}]
    return int(history[-1].get("num_updates", 0))


def model_flags(state: Checkpoint) -> dict[str, Any]:
    """A copy of the flags that a checkpoint's model was built by, ``args`` (to fairseq 0.9) or ``cfg.model``; none if
    it does not say."""
    found = state.get("args") or (state.get("cfg") or {}).get("model") or {}
    return dict(vars(found) if isinstance(found, argparse.Namespace) else found)  # the latter by fairseq-hydra-train
