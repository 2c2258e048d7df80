"""Going on after an interruption: a last checkpoint that can be read, and what fairseq forgets about early stopping.

fairseq writes a checkpoint under a temporary name and renames it, but then *copies* it to ``checkpoint_last.pt``: a run
killed in that moment leaves a truncated file that the next start dies of. And the count of epochs without improvement
(``--patience``) is in no checkpoint of fairseq's: a run that was restarted trains longer than one that was not.
"""

import logging
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from .io import load_checkpoint
from .select import EPOCH_NAME, sort_by_number

logger = logging.getLogger(__name__)

LAST_NAME = "checkpoint_last.pt"


@dataclass(frozen=True)
class Patience:
    """What fairseq's early stopping knows: the best validation metric, and the validations since without a better."""

    best: float
    validations_since: int


def repair_last_checkpoint(folder: str | Path) -> Path | None:
    """Makes sure that the checkpoint that a restart would load can be loaded.

    A ``checkpoint_last.pt`` that is truncated or damaged is renamed to ``checkpoint_last.pt.damaged``, and the newest
    whole checkpoint of the same folder takes its place, the best one if there is no other; both are logged. Without
    one, training begins anew. What a killed process left half-written (``*.pt.tmp``) is removed.

    Args:
        folder: the run's checkpoints; need not exist.

    Returns:
        The path of the last checkpoint, or None if there is nothing to continue from.
    """
    folder = Path(folder)
    last = folder / LAST_NAME
    for leftover in folder.glob("checkpoint*.pt.tmp"):
        leftover.unlink()
    if not last.exists():
        return None
    try:
        _check_whole(last)
        return last
    except ValueError as error:
        logger.warning("%s", error)
    os.replace(last, damaged := last.with_name(f"{LAST_NAME}.damaged"))
    for name in _newest_first(folder):
        try:
            _check_whole(folder / name)
        except ValueError as error:
            logger.warning("%s", error)
            continue
        shutil.copyfile(folder / name, temporary := last.with_name(f".{LAST_NAME}.tmp"))
        os.replace(temporary, last)
        logger.warning("%s is kept as %s; going on from %s", last, damaged.name, name)
        return last
    logger.warning("%s is kept as %s; there is no other checkpoint, training begins anew", last, damaged.name)
    return None


def _check_whole(path: Path) -> None:
    """Raises ``ValueError`` if a checkpoint cannot be loaded, or its bytes are not those that were written (CRC-32)."""
    load_checkpoint(path, mmap=True)
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"{path}: damaged (the checksum of {damaged} is wrong)")


def _newest_first(folder: Path) -> list[str]:
    """All checkpoints but the last, those written last at the front."""
    found = [path for path in folder.glob("checkpoint*.pt") if path.name != LAST_NAME]
    return [path.name for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]


def read_patience(folder: str | Path, maximize: bool = False) -> Patience | None:
    """The state of early stopping after a ``checkpoint_last.pt`` that was saved without it, read from that and the
    checkpoints of epochs.

    Exact where ``--keep-last-epochs`` keeps at least ``--patience`` epochs, with one validation an epoch.

    Args:
        folder: the run's checkpoints.
        maximize: a higher metric is better (``--maximize-best-checkpoint-metric``).

    Returns:
        None if nothing was validated yet.

    Raises:
        ValueError: a damaged checkpoint.
    """
    folder = Path(folder)
    if not (folder / LAST_NAME).exists():
        return None
    last = load_checkpoint(folder / LAST_NAME, mmap=True)
    best = last["extra_state"].get("best")
    if best is None:
        return None
    names = sort_by_number((path.name for path in folder.iterdir()), EPOCH_NAME)
    epoch = last["extra_state"]["train_iterator"]["epoch"]
    epochs = [load_checkpoint(folder / name, mmap=True)["extra_state"] for name in names]
    # At the end of an epoch fairseq's iterator names the next one; a newer checkpoint is from after `last`.
    metrics = [extra["val_loss"] for extra in epochs if extra["train_iterator"]["epoch"] <= epoch]
    metrics = [metric for metric in metrics if metric is not None]
    since = next((count for count, metric in enumerate(metrics) if metric == best), None)
    return Patience(best, len(metrics) - 1 - since if since is not None else len(metrics))
