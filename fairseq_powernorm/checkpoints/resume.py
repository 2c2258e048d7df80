"""Continuing after an interruption: a last checkpoint that can be read, and what fairseq forgets about early stopping.

fairseq writes a checkpoint under a temporary name and renames it, but then *copies* it to ``checkpoint_last.pt``: a run
killed in that moment leaves a truncated file that the next start dies of. And the count of epochs without improvement
(``--patience``) is in no checkpoint of fairseq's: a run that was restarted trains longer than one that was not.

Unreadable is not damaged: what is renamed here was proved to be cut off or altered
(:func:`~fairseq_powernorm.checkpoints.damage.find_damage`). Anything else that keeps a checkpoint from being read is an
error, before the training begins anew over it.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..flags.values import FlagError
from .damage import find_damage
from .io import DamagedCheckpoint, load_checkpoint, number_of_updates
from .select import EPOCH_NAME, sort_by_number

logger = logging.getLogger(__name__)

LAST_NAME = "checkpoint_last.pt"
PATIENCE = "powernorm_patience"
"""Where a checkpoint's ``extra_state`` has the state of early stopping."""


class CannotResume(FlagError):
    """A checkpoint that a training would continue from, and that cannot be read."""


@dataclass(frozen=True)
class Patience:
    """What fairseq's early stopping knows: the best validation metric, and the validations since without a better."""

    best: float
    validations_since: int


def check_readable(path: str | Path) -> bool:
    """Whether there is a checkpoint, which then can be read.

    ``os.path.exists`` says no of a file that may not be looked at, of a link whose disk is not mounted, and of one on a
    disk that does not answer: fairseq would train anew, and write over it.

    Raises:
        CannotResume: there is something that cannot be read; the message says what to do.
    """
    path = Path(path)
    try:
        path.lstat()  # of a link itself
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise unreadable(path, str(error.strerror)) from None
    try:
        with path.open("rb") as stream:
            stream.read(1)
    except FileNotFoundError:
        raise unreadable(path, f"it links to {os.readlink(path)}, which is not there") from None
    except OSError as error:
        raise unreadable(path, str(error.strerror)) from None
    return True


def unreadable(path: Path, reason: str) -> CannotResume:
    """The error of a checkpoint that cannot be read although it is not proved to be damaged."""
    return CannotResume(
        f"{path} cannot be read ({reason}); nothing was changed. Make it readable, or, to train without it, move it to "
        "another folder"
    )


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Within the block a checkpoint is read.

    Raises:
        DamagedCheckpoint: it is cut off or altered, provably.
        CannotResume: it cannot be read for another reason.
    """
    try:
        yield
    except DamagedCheckpoint:
        raise
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from None
    except ValueError as error:
        raise unreadable(path, str(error).removeprefix(f"{path}: ")) from None


def check_loadable(path: str | Path) -> bool:
    """Whether there is a checkpoint that was named by a person, which then can be loaded.

    Raises:
        CannotResume: it cannot be read, for whatever reason: it is nobody's but theirs to replace.
    """
    path = Path(path)
    if not check_readable(path):
        return False
    try:
        with reading(path):
            load_checkpoint(path, mmap=True)
    except DamagedCheckpoint as error:
        raise unreadable(path, str(error).removeprefix(f"{path}: ")) from None
    return True


def check_whole(path: Path) -> None:
    """Raises what :func:`reading` does, unless a checkpoint can be read and nothing proves it to be damaged."""
    with reading(path):
        if (damage := find_damage(path)) is not None:
            raise DamagedCheckpoint(f"{path}: {damage}")
        load_checkpoint(path, mmap=True)


def repair_last_checkpoint(folder: str | Path) -> Path | None:
    """Makes sure that the checkpoint that a restart would load can be loaded.

    A ``checkpoint_last.pt`` that is cut off or altered, which its bytes have to prove, is kept as
    ``checkpoint_last.pt.damaged``, and the newest whole checkpoint of the same folder takes its place, the best one if
    there is no other; both are logged. If all of them are damaged, all are kept so and training begins anew. What a
    killed process left half-written (``*.pt.tmp``) is removed.

    Args:
        folder: the run's checkpoints; need not exist.

    Returns:
        The path of the last checkpoint, or None if there is nothing to continue from.

    Raises:
        CannotResume: a checkpoint that it depends on cannot be read for any other reason (permission, disk, memory, an
            object that is not let through); nothing was changed.
    """
    folder = Path(folder)
    last = folder / LAST_NAME
    if not check_readable(last):
        return None
    try:
        check_whole(last)
    except DamagedCheckpoint as error:
        logger.warning("%s", error)
        found = replace_damaged(last)
    else:
        found = last
    remove_leftovers(folder)
    return found


def replace_damaged(last: Path) -> Path | None:
    """Puts the newest whole checkpoint of its folder in the place of a damaged one; None if there is none."""
    for _, _, path in sorted(readable_checkpoints(last.parent), reverse=True):
        try:
            check_whole(path)
        except DamagedCheckpoint as error:
            logger.warning("%s", error)
            continue
        shutil.copyfile(path, temporary := last.with_name(f".{last.name}.tmp"))
        kept = keep_aside(last)
        os.replace(temporary, last)
        logger.warning("%s is kept as %s; going on from %s", last, kept.name, path.name)
        return last
    for path in (last, *other_checkpoints(last.parent)):
        kept = keep_aside(path)
        path.unlink()
        logger.warning("%s is kept as %s", path, kept.name)
    logger.warning("%s holds no whole checkpoint: training begins anew", last.parent)
    return None


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed process was writing, where it is provably half a checkpoint; a whole one is left alone."""
    for path in folder.glob("checkpoint*.pt.tmp"):
        try:
            if find_damage(path) is not None:
                path.unlink()
        except OSError as error:
            logger.warning("%s is left as it is (%s)", path, error.strerror)


def other_checkpoints(folder: Path) -> list[Path]:
    """All checkpoints of a folder but the last one."""
    return [path for path in folder.glob("checkpoint*.pt") if path.name != LAST_NAME]


def readable_checkpoints(folder: Path) -> Iterator[tuple[int, float, Path]]:
    """Updates, time of writing and path of the checkpoints, but the last one, that are not seen to be damaged.

    Raises:
        CannotResume: one of them cannot be read for another reason.
    """
    for path in other_checkpoints(folder):
        try:
            with reading(path):
                found = number_of_updates(load_checkpoint(path, mmap=True)), path.stat().st_mtime, path
        except DamagedCheckpoint as error:
            logger.warning("%s", error)
        else:
            yield found


def keep_aside(path: Path) -> Path:
    """Gives a damaged file a second name, ``NAME.damaged`` or the first of ``NAME.damaged2`` … that is free.

    The file keeps its own name too until something takes its place: killed in between, the next start sees it again.
    """
    number = 1
    while True:
        kept = path.with_name(f"{path.name}.damaged{number if number > 1 else ''}")
        number += 1
        try:
            os.link(path, kept)
            return kept
        except FileExistsError:
            continue
        except OSError:  # a file system without links
            if not kept.exists():
                shutil.copyfile(path, kept)
                return kept


def read_patience(folder: str | Path) -> Patience | None:
    """The state of early stopping after ``checkpoint_last.pt``: what that says, or, where it was saved without, what it
    and the checkpoints of epochs show.

    The latter is exact where ``--keep-last-epochs`` keeps at least ``--patience`` epochs, with one validation an epoch.

    Args:
        folder: the run's checkpoints.

    Returns:
        None if nothing was validated yet.

    Raises:
        ValueError: a damaged checkpoint.
    """
    folder = Path(folder)
    if not (folder / LAST_NAME).exists():
        return None
    last = load_checkpoint(folder / LAST_NAME, mmap=True)["extra_state"]
    if last.get(PATIENCE):
        return Patience(**last[PATIENCE])
    best = last.get("best")
    if best is None:
        return None
    names = sort_by_number((path.name for path in folder.iterdir()), EPOCH_NAME)
    epoch = last["train_iterator"]["epoch"]
    epochs = [load_checkpoint(folder / name, mmap=True)["extra_state"] for name in names]
    # At the end of an epoch fairseq's iterator names the next one; a newer checkpoint is from after `last`.
    metrics = [extra["val_loss"] for extra in epochs if extra["train_iterator"]["epoch"] <= epoch]
    metrics = [metric for metric in metrics if metric is not None]
    since = next((count for count, metric in enumerate(metrics) if metric == best), None)
    return Patience(best, len(metrics) - 1 - since if since is not None else len(metrics))
