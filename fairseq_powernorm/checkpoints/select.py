"""Which checkpoints of a run to average: the last by their file names, the best by what they say of themselves."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .io import load_checkpoint, number_of_updates

Order = Literal["epoch", "update"]

EPOCH_NAME = re.compile(r"checkpoint(\d+)\.pt")
UPDATE_NAME = re.compile(r"checkpoint_\d+_(\d+)\.pt")
BEST_NAME = re.compile(r"checkpoint\.best_(?P<metric>.+)_(?P<value>-?\d+\.\d+)\.pt")


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
    others = len(sort_by_number(names, patterns[other]))
    hint = f"; by {other} there are {others}" if others >= max(count, 1) else ""
    return take(sort_by_number(names, patterns[by])[-count:] if count > 0 else [], count, f"last {count} by {by}", hint)


@dataclass(frozen=True)
class BestSoFar:
    """What a checkpoint that ``--keep-best-checkpoints`` kept says of itself.

    Attributes:
        metric: the name of the metric (``--best-checkpoint-metric``).
        maximize: a higher value is better (``--maximize-best-checkpoint-metric``), or None where it does not say.
        value: of the metric, on the validation set.
        updates: the optimizer updates it was taken after.
    """

    metric: str
    maximize: bool | None
    value: float
    updates: int


def select_best(found: Mapping[str, BestSoFar], count: int, maximize: bool | None = None) -> list[str]:
    """The names of the best ``count`` checkpoints, worst first.

    Where a folder holds the best by several metrics, those by the metric of the most updates count: the one that the
    training went by last.

    Args:
        found: the checkpoints by file name.
        count: how many, ≥ 1.
        maximize: whether a higher value is better, for checkpoints that do not say it themselves.

    Raises:
        ValueError: fewer than ``count`` there are (the message lists them), or ``maximize`` is missing, or contradicts
            what they say.
    """
    if not found or count < 1:
        return take([], count, f"best {count}")
    newest = max(found.values(), key=lambda best: best.updates)
    if maximize is None and newest.maximize is None:
        raise ValueError("the checkpoints do not say whether a higher metric is better; give --maximize or --minimize")
    if None not in (maximize, newest.maximize) and maximize != newest.maximize:
        kept = "highest" if newest.maximize else "lowest"
        raise ValueError(f"the training kept the checkpoints of the {kept} {newest.metric}, as they say")
    sign = 1 if (newest.maximize if maximize is None else maximize) else -1
    names = [name for name, best in found.items() if best.metric == newest.metric]
    names.sort(key=lambda name: (sign * found[name].value, found[name].updates))
    return take(names[-count:], count, f"best {count} by {newest.metric}")


def read_best(path: Path, in_name: re.Match) -> BestSoFar:
    """What a checkpoint says of its metric; its file name counts where older fairseq did not store it."""
    state = load_checkpoint(path, mmap=True)
    options = (state.get("cfg") or {}).get("checkpoint")
    if options is None:
        options = vars(state["args"]) if state.get("args") is not None else {}
    value = (state.get("extra_state") or {}).get("val_loss")
    return BestSoFar(
        metric=in_name["metric"],
        maximize=options.get("maximize_best_checkpoint_metric"),
        value=float(in_name["value"] if value is None else value),
        updates=number_of_updates(state),
    )


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
    folder: str | Path,
    last: int | None = None,
    by: Order = "epoch",
    best: int | None = None,
    maximize: bool | None = None,
) -> list[Path]:
    """:func:`select_last` or :func:`select_best` of the files of a folder, as paths.

    Raises:
        ValueError: not exactly one of ``last`` and ``best`` is given, too few checkpoints, or a bad one.
        OSError: no such folder.
    """
    if (last is None) == (best is None):
        raise ValueError("give either how many of the last or how many of the best checkpoints to take")
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    names = [path.name for path in folder.iterdir()]
    if best is None:
        return [folder / name for name in select_last(names, last or 0, by)]
    matches = {name: match for name in names if (match := BEST_NAME.fullmatch(name))}
    found = {name: read_best(folder / name, match) for name, match in sorted(matches.items())}
    return [folder / name for name in select_best(found, best, maximize)]
