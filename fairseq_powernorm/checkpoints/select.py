"""Which checkpoints of a run to average: a pure function of their file names, as fairseq writes them."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

Order = Literal["epoch", "update"]

EPOCH_NAME = re.compile(r"checkpoint(\d+)\.pt")
UPDATE_NAME = re.compile(r"checkpoint_\d+_(\d+)\.pt")
BEST_NAME = re.compile(r"checkpoint\.best_.+_(-?\d+\.\d+)\.pt")


def select_last(names: Iterable[str], count: int, by: Order = "epoch") -> list[str]:
    """The names of the last ``count`` checkpoints, oldest first.

    Args:
        names: file names, others than checkpoints among them.
        count: how many, ≥ 1.
        by: ``"epoch"`` takes those written at the end of an epoch (``checkpoint7.pt``), ``"update"`` those written
            between (``checkpoint_7_12000.pt``).

    Raises:
        ValueError: fewer than ``count`` there are; the message lists them.
    """
    patterns: dict[str, re.Pattern] = {"epoch": EPOCH_NAME, "update": UPDATE_NAME}
    if by not in patterns:
        raise ValueError(f"expected by = epoch or update, got {by!r}")
    names, other = list(names), "update" if by == "epoch" else "epoch"
    hint = (
        ""
        if (others := len(sort_by_number(names, patterns[other]))) < max(count, 1)
        else f"; by {other} there are {others}"
    )
    return take(sort_by_number(names, patterns[by])[-count:] if count > 0 else [], count, f"last {count} by {by}", hint)


def select_best(names: Iterable[str], count: int, maximize: bool = False) -> list[str]:
    """The names of the best ``count`` checkpoints by the metric in their names, worst first.

    Args:
        names: file names; those that ``--keep-best-checkpoints`` keeps are ``checkpoint.best_METRIC_VALUE.pt``.
        count: how many, ≥ 1.
        maximize: whether a higher value is better (``--maximize-best-checkpoint-metric``).

    Raises:
        ValueError: fewer than ``count`` there are; the message lists them.
    """
    ordered = sort_by_number(names, BEST_NAME)
    if not maximize:
        ordered.reverse()
    return take(ordered[-count:] if count > 0 else [], count, f"best {count}")


def sort_by_number(names: Iterable[str], pattern: re.Pattern) -> list[str]:
    """The names that match, by the number in their first group, ascending."""
    matched = [(float(match[1]), name) for name in names if (match := pattern.fullmatch(name))]
    return [name for _, name in sorted(matched)]


def take(chosen: list[str], count: int, wanted: str, hint: str = "") -> list[str]:
    """``chosen`` itself if it has ``count`` ≥ 1 entries; else ``ValueError`` says what was wanted and what is there."""
    if count < 1:
        raise ValueError(f"expected a count of 1 or more, got {count}")
    if len(chosen) < count:
        raise ValueError(
            f"asked for the {wanted} checkpoints, found {len(chosen)}: {', '.join(chosen) or 'none'}{hint}"
        )
    return chosen


def select_in_folder(
    folder: str | Path, last: int | None = None, by: Order = "epoch", best: int | None = None, maximize: bool = False
) -> list[Path]:
    """:func:`select_last` or :func:`select_best` of the files of a folder, as paths.

    Raises:
        ValueError: not exactly one of ``last`` and ``best`` is given, or too few checkpoints.
        OSError: no such folder.
    """
    if (last is None) == (best is None):
        raise ValueError("give either how many of the last or how many of the best checkpoints to take")
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    names = [path.name for path in folder.iterdir()]
    chosen = select_last(names, last, by) if last is not None else select_best(names, best, maximize)
    return [folder / name for name in chosen]
