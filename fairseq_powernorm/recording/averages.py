"""The recorder's own running moments on the disk, one file for each checkpoint of the training."""

import logging
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..files import atomic_write
from .record import AVERAGES

if TYPE_CHECKING:
    from .sites import Site

logger = logging.getLogger(__name__)

NAME = re.compile(r"update(\d+)\.npz")
KEPT = 20  # files: checkpoints that a training may be sent back to are the newest ones


def _files(folder: Path) -> list[tuple[int, Path]]:
    found = [(NAME.fullmatch(path.name), path) for path in (folder / AVERAGES).glob("*.npz")]
    return sorted((int(match[1]), path) for match, path in found if match)


def save(folder: Path, updates: int, sites: Sequence["Site"]) -> None:
    """Writes the averages as they are after a number of updates; old files go."""
    arrays: dict[str, Any] = {site.key: torch.stack(site.averages).cpu().numpy() for site in sites}
    with atomic_write(folder / AVERAGES / f"update{updates}.npz", "wb") as stream:
        np.savez(stream, **arrays)
    for _, path in _files(folder)[:-KEPT]:
        path.unlink()


def remove_after(folder: Path, updates: int) -> None:
    """Removes what a training wrote after the checkpoint that it goes on from."""
    for number, path in _files(folder):
        if number > updates:
            path.unlink()


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """What ``np.savez`` wrote.

    Raises:
        ValueError: the file is damaged or another; names it.
        OSError: it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged, or no file of arrays ({error})") from None


def load(folder: Path, updates: int) -> dict[str, np.ndarray]:
    """The averages of a checkpoint, by :attr:`Site.key`; none, with a warning, where they are missing."""
    path = folder / AVERAGES / f"update{updates}.npz"
    if not path.is_file():
        logger.warning(
            "%s is missing: the recorder's running statistics start anew, which shows for some 50 updates", path
        )
        return {}
    return read_arrays(path)
