"""Training loss against validation loss by norm, at the end of a recipe's runs.

    python -m fairseq_powernorm.analysis.loss_gap --runs runs/ptb --output-prefix results/ptb_loss_gap

In training, norms with statistics of the batch let a position of a language model see later ones, in evaluation none
does (docs/language_models.md). What a norm's distance between the two losses has more than LayerNorm's, which has the
same dropout and overfits the same text, is what that may be worth. The logs are those that :mod:`.curves` reads.
"""

import argparse
import logging
import math
import statistics
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from ..files import run_command_line
from ..scoring.markdown import table_of
from .curves import BASELINE, Point, read_runs
from .outputs import check_outputs, write_outputs


@dataclass(frozen=True)
class Gap:
    """One norm's losses, in nats by token, means over its seeds.

    Attributes:
        norm: the norm's name.
        seeds: ascending.
        training: cross-entropy in training mode, dropout and all, over the last updates.
        validation: the last validation's.
        gap: validation − training.
        beyond_baseline: gap minus the baseline's, over the seeds that both have; None for the baseline or without such.
    """

    norm: str
    seeds: tuple[int, ...]
    training: float
    validation: float
    gap: float
    beyond_baseline: float | None


def losses_of(points: Sequence[Point], updates: int) -> dict[str, dict[int, tuple[float, float]]]:
    """(training, validation) in nats, by norm and seed.

    Args:
        points: of all runs.
        updates: the last ones of each run that its training loss is the mean of.

    Raises:
        ValueError: a run was never validated, or has no training loss there.
    """
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for norm, seed in dict.fromkeys((point.norm, point.seed) for point in points):
        own = [point for point in points if (point.norm, point.seed) == (norm, seed)]
        last = max(point.updates for point in own)
        train = [point.nll_loss for point in own if point.kind == "train" and point.updates > last - updates]
        valid = [point.nll_loss for point in own if point.kind == "valid"]
        if not train or not valid:
            lacking = "no validation" if train else f"no training loss of its last {updates} updates"
            raise ValueError(f"{norm} seed {seed}: {lacking} in its log")
        found.setdefault(norm, {})[seed] = (statistics.fmean(train) * math.log(2), valid[-1] * math.log(2))
    return found


def gaps(points: Sequence[Point], updates: int) -> list[Gap]:
    """A row per norm, in the order of the points; raises as :func:`losses_of`."""
    losses, rows = losses_of(points, updates), []
    gap = {norm: {seed: valid - train for seed, (train, valid) in own.items()} for norm, own in losses.items()}
    base = gap.get(BASELINE, {})
    for norm, own in losses.items():
        training, validation = map(statistics.fmean, zip(*own.values(), strict=True))
        own_gap = statistics.fmean(gap[norm].values())
        beyond = [gap[norm][seed] - base[seed] for seed in own if norm != BASELINE and seed in base]
        more = statistics.fmean(beyond) if beyond else None
        rows.append(Gap(norm, tuple(sorted(own)), training, validation, own_gap, more))
    return rows


def to_markdown(rows: Sequence[Gap], updates: int) -> str:
    """The table."""
    cells = []
    for row in rows:
        beyond = "–" if row.beyond_baseline is None else f"{row.beyond_baseline:+z.4f}"
        figures = [f"{row.training:.4f}", f"{row.validation:.4f}", f"{row.gap:+z.4f}", beyond]
        cells.append([row.norm, *figures, ", ".join(map(str, row.seeds))])
    header = ("norm", "training", "validation", "gap", f"beyond {BASELINE}'s", "seeds")
    lines = [*table_of([header, *cells]), "", f"Nats by token; training loss of the last {updates} updates."]
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the table as Markdown and CSV and prints the Markdown; see ``--help``."""
    parser = argparse.ArgumentParser(description="Training loss against validation loss by norm.")
    parser.add_argument("--runs", required=True, type=Path, help="folder of one recipe, e.g. runs/ptb")
    parser.add_argument("--updates", type=int, default=100, metavar="N", help="of the training loss (default 100)")
    parser.add_argument("--output-prefix", required=True, help="writes PREFIX.md and PREFIX.csv")
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    check_outputs(options.output_prefix, options.force, "md", "csv")
    found = gaps(read_runs(options.runs), options.updates)
    rows = [[row.norm, " ".join(map(str, row.seeds)), *astuple(row)[2:]] for row in found]
    header = [each.name for each in fields(Gap)]
    write_outputs(options.output_prefix, [header, *rows], markdown=to_markdown(found, options.updates))


if __name__ == "__main__":
    run_command_line(main)
