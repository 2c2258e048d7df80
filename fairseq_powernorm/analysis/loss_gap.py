"""Training loss against validation loss by norm, at the end of a recipe's runs.

    python -m fairseq_powernorm.analysis.loss_gap --runs runs/ptb --output-prefix results/ptb_loss_gap

In training, norms with statistics of the batch let a position of a language model see later ones, in evaluation none
does (docs/language_models.md). What a norm's distance between the two losses has more than LayerNorm's, which has the
same dropout and overfits the same text, is what that may be worth. The logs are those that :mod:`.curves` reads.
"""

import argparse
import csv
import logging
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from ..files import atomic_write, refuse_to_overwrite, run_command_line
from .curves import BASELINE, Point, read_runs


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


def losses_of(points: Sequence[Point], updates: int) -> dict[tuple[str, int], tuple[float, float]]:
    """(training, validation) in nats, by norm and seed.

    Args:
        points: of all runs.
        updates: the last ones of each run that its training loss is the mean of.

    Raises:
        ValueError: a run was never validated, or has no training loss there.
    """
    found = {}
    for run in dict.fromkeys((point.norm, point.seed) for point in points):
        own = [point for point in points if (point.norm, point.seed) == run]
        last = max(point.updates for point in own)
        train = [point.nll_loss for point in own if point.kind == "train" and point.updates > last - updates]
        valid = [point.nll_loss for point in own if point.kind == "valid"]
        if not train or not valid:
            lacking = "no validation" if train else f"no training loss of its last {updates} updates"
            raise ValueError(f"{run[0]} seed {run[1]}: {lacking} in its log")
        found[run] = (statistics.fmean(train) * math.log(2), valid[-1] * math.log(2))
    return found


def gap_of(losses: Mapping[tuple[str, int], tuple[float, float]], norm: str, seed: int) -> float:
    """Validation − training of one run."""
    training, validation = losses[norm, seed]
    return validation - training


def gaps(points: Sequence[Point], updates: int) -> list[Gap]:
    """A row per norm, in the order of the points; raises as :func:`losses_of`."""
    losses, rows = losses_of(points, updates), []
    for norm in dict.fromkeys(norm for norm, _ in losses):
        seeds = tuple(sorted(seed for other, seed in losses if other == norm))
        training, validation = ([losses[norm, seed][side] for seed in seeds] for side in (0, 1))
        own = {seed: gap_of(losses, norm, seed) for seed in seeds}
        base = {seed: gap_of(losses, BASELINE, seed) for seed in seeds if (BASELINE, seed) in losses}
        beyond = [] if norm == BASELINE else [own[seed] - base[seed] for seed in base]
        rows.append(
            Gap(
                norm=norm,
                seeds=seeds,
                training=statistics.fmean(training),
                validation=statistics.fmean(validation),
                gap=statistics.fmean(own.values()),
                beyond_baseline=statistics.fmean(beyond) if beyond else None,
            )
        )
    return rows


def to_markdown(rows: Sequence[Gap], updates: int) -> str:
    """The table."""
    lines = [f"| norm | training | validation | gap | beyond {BASELINE}'s | seeds |", "|---|---|---|---|---|---|"]
    for row in rows:
        beyond = "–" if row.beyond_baseline is None else f"{row.beyond_baseline:+z.4f}"
        figures = f"{row.training:.4f} | {row.validation:.4f} | {row.gap:+z.4f} | {beyond}"
        lines.append(f"| {row.norm} | {figures} | {', '.join(map(str, row.seeds))} |")
    return "\n".join([*lines, "", f"Nats by token; training loss of the last {updates} updates.", ""])


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the table as Markdown and CSV and prints the Markdown; see ``--help``."""
    parser = argparse.ArgumentParser(description="Training loss against validation loss by norm.")
    parser.add_argument("--runs", required=True, type=Path, help="folder of one recipe, e.g. runs/ptb")
    parser.add_argument("--updates", type=int, default=100, metavar="N", help="of the training loss (default 100)")
    parser.add_argument("--output-prefix", required=True, help="writes PREFIX.md and PREFIX.csv")
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    markdown_path, csv_path = (Path(f"{options.output_prefix}.{suffix}") for suffix in ("md", "csv"))
    for path in (markdown_path, csv_path):
        refuse_to_overwrite(path, options.force)
    rows = gaps(read_runs(options.runs), options.updates)
    with atomic_write(csv_path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(field.name for field in fields(Gap))
        for row in rows:
            writer.writerow(" ".join(map(str, cell)) if isinstance(cell, tuple) else cell for cell in astuple(row))
    markdown = to_markdown(rows, options.updates)
    with atomic_write(markdown_path) as stream:
        stream.write(markdown)
    sys.stdout.write(markdown)


if __name__ == "__main__":
    run_command_line(main)
