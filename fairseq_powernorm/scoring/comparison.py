"""What another ending of the same runs changes: BLEU of each norm before and after, with paired bootstrap.

    python -m fairseq_powernorm.scoring.comparison --before runs/x --after runs/recalibrated/x --output-prefix results/x

Both are folders of one recipe as ``runs`` describes; runs are paired by norm and seed.
``scripts/recalibration_study.sh`` makes the second one.
"""

import argparse
import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import run_command_line
from .bleu import BOOTSTRAP_RESAMPLES, bootstrap_seed
from .markdown import table_of, write_p_values
from .outputs import output_paths, write_outputs
from .rows import check_comparable, p_values_of, rank
from .runs import Run, read_runs

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """One norm on one test set.

    Attributes:
        test_set: the test set's name.
        norm: the norm's name.
        seeds: of the runs that both sides have, ascending.
        before: mean BLEU over the seeds.
        after: likewise.
        p_values: of the paired bootstrap between both, one for each seed; 1 where the translations are the same.
        difference: after minus before.
    """

    test_set: str
    norm: str
    seeds: tuple[int, ...]
    before: float
    after: float
    p_values: tuple[float, ...]
    difference: float


def compare(before: Sequence[Run], after: Sequence[Run]) -> list[Change]:
    """A row for each test set and norm that both sides have, in the order of tables.

    Raises:
        ValueError: nothing in common, or runs that are not comparable (reference, signature).
    """
    sides = [{(run.norm, run.seed): run for run in runs} for runs in (before, after)]
    shared = sorted(sides[0].keys() & sides[1].keys(), key=lambda key: (rank(key[0]), key[1]))
    for norm, seed in sorted(sides[0].keys() ^ sides[1].keys()):
        logger.info("%s seed %d is left out: one side alone has it", norm, seed)
    pairs = [(sides[0][key], sides[1][key]) for key in shared]
    changes = []
    for test_set in sorted({name for one, other in pairs for name in one.scores.keys() & other.scores.keys()}):
        scored = [pair for pair in pairs if all(test_set in run.scores for run in pair)]
        check_comparable([run for pair in scored for run in pair], test_set, None)
        for norm in dict.fromkeys(one.norm for one, _ in scored):
            own = [pair for pair in scored if pair[0].norm == norm]
            means = [statistics.fmean(run.scores[test_set].bleu for run in side) for side in zip(*own, strict=True)]
            changes.append(
                Change(
                    test_set=test_set,
                    norm=norm,
                    seeds=tuple(one.seed for one, _ in own),
                    before=means[0],
                    after=means[1],
                    p_values=tuple(
                        p_values_of({"before": one, "after": other}, test_set, "before")["after"] for one, other in own
                    ),
                    difference=means[1] - means[0],
                )
            )
    if not changes:
        raise ValueError("the two folders have no run with a test set in common")
    return changes


def to_markdown(changes: Sequence[Change], runs: Sequence[Run], title: str, command: str) -> str:
    """A table for each test set, and what a reader needs to repeat it."""
    lines = [f"# {title}"]
    for test_set in dict.fromkeys(change.test_set for change in changes):
        cells = [["norm", "before", "after", "Δ", "p", "seeds"]]
        for change in (change for change in changes if change.test_set == test_set):
            figures = [f"{change.before:.2f}", f"{change.after:.2f}", f"{change.difference:+z.2f}"]
            seeds = ", ".join(map(str, change.seeds))
            cells.append([change.norm, *figures, write_p_values(change.p_values), seeds])
        lines += ["", f"## {test_set}", "", *table_of(cells)]
        score = next(run for run in runs if test_set in run.scores).scores[test_set]
        lines += ["", f"- BLEU: sacreBLEU `{score.signature}`, {score.sentences} sentences."]
    resamples = f"{BOOTSTRAP_RESAMPLES} resamples, seed {bootstrap_seed()}"
    lines += [
        "",
        "## How",
        "",
        f"- p: sacreBLEU's paired bootstrap, {resamples}, one for each seed. Equal BLEU has p = 1.",
    ]
    lines.append("- Commits, hardware and versions: see the runs' own table.")
    return "\n".join([*lines, *([f"- Reproduce: `{command}`"] if command else []), ""])


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the table as Markdown and CSV and prints the Markdown; see ``--help``."""
    parser = argparse.ArgumentParser(description="BLEU of each norm before and after something was changed.")
    parser.add_argument("--before", required=True, type=Path, help="folder of one recipe")
    parser.add_argument("--after", required=True, type=Path, help="folder of the same recipe's other runs")
    parser.add_argument("--output-prefix", required=True, help="writes PREFIX.md and PREFIX.csv")
    parser.add_argument("--title", default="before and after", help="above the table")
    parser.add_argument("--command", default="", help="what reproduces it")
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("sacrebleu").setLevel(logging.WARNING)
    paths = output_paths(options.output_prefix, options.force)
    before, after = read_runs(options.before), read_runs(options.after)
    changes = compare(before, after)
    write_outputs(paths, to_markdown(changes, before, options.title, options.command), changes)


if __name__ == "__main__":
    run_command_line(main)
