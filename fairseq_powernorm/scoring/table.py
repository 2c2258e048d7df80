"""The table of results: BLEU by norm over the seeds of one recipe, with significance and where the numbers are from.

    python -m fairseq_powernorm.scoring.table --runs runs/iwslt14_de_en --output-prefix results/iwslt14_de_en

Reads ``<recipe>/<norm>/seed<k>/run.json`` and, in the same folder, ``<test set>/hypothesis.txt``, ``reference.txt``
and ``score.json`` (from ``scoring.bleu``).
"""

import argparse
import csv
import logging
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO

from ..files import (
    atomic_write,
    read_lines,
    read_parallel_lines,
    refuse_to_overwrite,
    run_command_line,
)
from .bleu import BOOTSTRAP_RESAMPLES, bootstrap_seed, paired_bootstrap
from .runs import Run, read_runs

logger = logging.getLogger(__name__)

NORM_ORDER = ("layer", "batch", "pn-v", "power", "power-released")  # others follow by name
SHORT_NAMES = {"layer": "LN", "batch": "BN", "pn-v": "PN-V", "power": "PN"}  # as in the papers


@dataclass(frozen=True)
class Row:
    """One norm on one test set.

    Attributes:
        test_set: the test set's name.
        norm: the norm's name.
        seeds: of all its runs, ascending.
        bleu_mean: mean BLEU over ``seeds``.
        bleu_standard_deviation: of the sample (n - 1) over ``seeds``; None for one seed.
        difference: mean BLEU minus the baseline's, both over ``shared_seeds``; None for the baseline or without one.
        shared_seeds: the seeds that the baseline has too.
        p_values: of the paired bootstrap, one for each of ``shared_seeds``.
        updates: mean number of optimizer updates.
        train_seconds: mean training time.
    """

    test_set: str
    norm: str
    seeds: tuple[int, ...]
    bleu_mean: float
    bleu_standard_deviation: float | None
    difference: float | None
    shared_seeds: tuple[int, ...]
    p_values: tuple[float, ...]
    updates: float
    train_seconds: float


def build_table(runs: Sequence[Run], test_set: str, baseline: str = "layer") -> list[Row]:
    """One row per norm for one test set, in the order of ``NORM_ORDER``.

    Raises:
        ValueError: no run has the test set, runs are not comparable (reference, signature), or a ``score.json`` does
            not belong to its ``hypothesis.txt``.
    """
    norms: dict[str, dict[int, Run]] = {}
    for run in sorted(runs, key=lambda run: (_rank(run.norm), run.seed)):
        if test_set in run.scores:
            norms.setdefault(run.norm, {})[run.seed] = run
        else:
            logger.warning("%s is left out of the table: not scored on %s", run.folder, test_set)
    if not norms:
        known = sorted({name for run in runs for name in run.scores})
        raise ValueError(f"no run has test set {test_set!r}; there are: {', '.join(known) or 'none'}")
    _check_comparable([run for seeds in norms.values() for run in seeds.values()], test_set)
    if baseline not in norms:
        logger.warning("no run of the baseline %s on %s: no differences, no p-values", baseline, test_set)
    p_values = {
        seed: _p_values({norm: runs[seed] for norm, runs in norms.items() if seed in runs}, test_set, baseline)
        for seed in norms.get(baseline, {})
    }
    return [_row(norm, norms, test_set, baseline, p_values) for norm in norms]


def _row(
    norm: str, norms: Mapping[str, Mapping[int, Run]], test_set: str, baseline: str, p_values: Mapping[int, Mapping]
) -> Row:
    seeds = norms[norm]
    bleu = {seed: run.scores[test_set].bleu for seed, run in seeds.items()}
    shared = () if norm == baseline else tuple(seed for seed in seeds if seed in norms.get(baseline, {}))
    differences = [bleu[seed] - norms[baseline][seed].scores[test_set].bleu for seed in shared]
    if norm != baseline and baseline in norms and not shared:
        logger.warning("%s and %s share no seed on %s: no difference, no p-value", norm, baseline, test_set)
    return Row(
        test_set=test_set,
        norm=norm,
        seeds=tuple(seeds),
        bleu_mean=statistics.fmean(bleu.values()),
        bleu_standard_deviation=statistics.stdev(bleu.values()) if len(bleu) > 1 else None,
        difference=statistics.fmean(differences) if differences else None,
        shared_seeds=shared,
        p_values=tuple(p_values[seed][norm] for seed in shared),
        updates=statistics.fmean(run.updates for run in seeds.values()),
        train_seconds=statistics.fmean(run.train_seconds for run in seeds.values()),
    )


def _p_values(runs: Mapping[str, Run], test_set: str, baseline: str) -> dict[str, float]:
    """p-values of one seed's runs, by norm, against the baseline's run of that seed."""
    order = [baseline, *(norm for norm in runs if norm != baseline)]
    if len(order) == 1:
        return {}
    lines = {}
    for norm in order:
        folder = runs[norm].folder / test_set
        lines[norm], reference = read_parallel_lines(folder / "hypothesis.txt", folder / "reference.txt")
    results = paired_bootstrap(lines, reference, runs[baseline].scores[test_set].signature)
    for norm, result in results.items():
        path, recorded = runs[norm].folder / test_set / "score.json", runs[norm].scores[test_set].bleu
        if abs(result.bleu - recorded) > 1e-6:
            raise ValueError(f"{path}: BLEU {recorded}, but its hypothesis.txt has {result.bleu}; score it again")
    return {norm: results[norm].p_value for norm in order[1:]}


def _check_comparable(runs: Sequence[Run], test_set: str) -> None:
    """Raises ``ValueError`` unless all runs have the same reference and the same score settings."""
    first = runs[0]
    reference = read_lines(first.folder / test_set / "reference.txt")
    for run in runs[1:]:
        ours, theirs = run.scores[test_set].signature, first.scores[test_set].signature
        if ours != theirs:
            raise ValueError(f"{test_set} is scored in two ways: {first.folder} has {theirs}, {run.folder} has {ours}")
        if read_lines(run.folder / test_set / "reference.txt") != reference:
            raise ValueError(f"{test_set}: the references in {first.folder} and {run.folder} differ")


def _rank(norm: str) -> tuple[int, str]:
    return (NORM_ORDER.index(norm) if norm in NORM_ORDER else len(NORM_ORDER), norm)


def to_markdown(
    tables: Mapping[str, Sequence[Row]], runs: Sequence[Run], baseline: str = "layer", command: str = ""
) -> str:
    """A table per test set and, below, all that a reader needs to check or repeat it.

    Args:
        tables: the rows of each test set, from :func:`build_table`.
        runs: the runs that the rows are from.
        baseline: the norm given to :func:`build_table`.
        command: what reproduces the table; left out if empty.
    """
    runs = sorted((run for run in runs if set(run.scores) & set(tables)), key=lambda run: (_rank(run.norm), run.seed))
    lines = [f"# {runs[0].recipe}"]
    for test_set, rows in tables.items():
        scored = next(run.scores[test_set] for run in runs if test_set in run.scores)
        lines += ["", f"## {test_set}", ""]
        compared_with = SHORT_NAMES.get(baseline, baseline)
        lines.append(f"| norm | BLEU | Δ to {compared_with} | p | seeds | updates | train time |")
        lines.append("|---|---|---|---|---|---|---|")
        lines += [_markdown_row(row) for row in rows]
        lines += ["", f"sacreBLEU `{scored.signature}`, {scored.sentences} sentences."]
        baseline_seeds = next((row.seeds for row in rows if row.norm == baseline), ())
        for row in rows:
            if row.shared_seeds and not row.shared_seeds == row.seeds == baseline_seeds:
                shared = ", ".join(map(str, row.shared_seeds))
                lines.append(f"Δ and p of {row.norm} are over the seeds that {baseline} has too: {shared}.")
    lines += ["", "## How", ""]
    if any(len(row.seeds) > 1 for rows in tables.values() for row in rows):
        lines.append("- BLEU ± one standard deviation of the sample over the seeds; updates and train time are means.")
    if any(row.p_values for rows in tables.values() for row in rows):
        lines.append(
            f"- p: sacreBLEU's paired bootstrap, {BOOTSTRAP_RESAMPLES} resamples, seed {bootstrap_seed()}, one for "
            f"each seed: its translations against {baseline}'s of the same seed. Equal BLEU has p = 1."
        )
    lines.append(_provenance("Commit", [(run, f"`{run.commit}`") for run in runs]))
    lines.append(_provenance("Hardware", [(run, run.hardware) for run in runs]))
    lines.append(_provenance("Versions", [(run, _versions(run)) for run in runs]))
    if command:
        lines.append(f"- Reproduce: `{command}`")
    return "\n".join(lines) + "\n"


def _markdown_row(row: Row) -> str:
    cells = [
        f"{row.norm} ({SHORT_NAMES[row.norm]})" if row.norm in SHORT_NAMES else row.norm,
        f"{row.bleu_mean:.2f}",
        "–" if row.difference is None else f"{row.difference:+z.2f}",
        ", ".join("<0.001" if p_value < 0.001 else f"{p_value:.3f}" for p_value in row.p_values) or "–",
        ", ".join(map(str, row.seeds)),
        f"{row.updates:.0f}",
        _duration(row.train_seconds),
    ]
    if row.bleu_standard_deviation is not None:
        cells[1] += f" ± {row.bleu_standard_deviation:.2f}"
    return f"| {' | '.join(cells)} |"


def _duration(seconds: float) -> str:
    """Two units at most: ``3 h 05 min``, ``12 min 40 s``, ``38 s``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _versions(run: Run) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(run.versions.items()))


def _provenance(label: str, values: Sequence[tuple[Run, str]]) -> str:
    """One line: the value that all runs share, or each value with its runs."""
    runs_by_value: dict[str, dict[str, list[int]]] = {}
    for run, value in values:
        runs_by_value.setdefault(value, {}).setdefault(run.norm, []).append(run.seed)
    if len(runs_by_value) == 1:
        return f"- {label}: {values[0][1]}"
    listed = []
    for value, norms in runs_by_value.items():
        names = "; ".join(f"{norm} seed {', '.join(map(str, seeds))}" for norm, seeds in norms.items())
        listed.append(f"{value} ({names})")
    return f"- {label}: {', '.join(listed)}"


def to_csv(tables: Mapping[str, Sequence[Row]], stream: IO[str]) -> None:
    """Writes the rows unrounded, one line per test set and norm; lists have spaces in between, None is empty."""
    writer = csv.DictWriter(stream, fieldnames=[field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for row in (row for rows in tables.values() for row in rows):
        record = asdict(row)
        writer.writerow(
            {name: " ".join(map(str, cell)) if isinstance(cell, tuple) else cell for name, cell in record.items()}
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the table as Markdown and CSV and prints the Markdown; see ``--help``."""
    parser = argparse.ArgumentParser(description="The table of BLEU by norm, from the folders of finished runs.")
    parser.add_argument("--runs", required=True, type=Path, help="folder of one recipe, e.g. runs/iwslt14_de_en")
    parser.add_argument("--test-set", nargs="+", metavar="NAME", help="default: all that are scored")
    parser.add_argument("--baseline", default="layer", metavar="NORM", help="what others are compared with")
    parser.add_argument("--output-prefix", required=True, help="writes PREFIX.md and PREFIX.csv")
    parser.add_argument("--command", help="what reproduces the table (default: this very command)")
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("sacrebleu").setLevel(logging.WARNING)  # else two lines for every comparison
    given = shlex.join(sys.argv[1:] if arguments is None else arguments)
    logger.info("arguments: %s", given)
    markdown_path, csv_path = Path(f"{options.output_prefix}.md"), Path(f"{options.output_prefix}.csv")
    for path in (markdown_path, csv_path):
        refuse_to_overwrite(path, options.force)
    runs = read_runs(options.runs)
    if not runs:
        raise ValueError(f"{options.runs}: no finished run, expected <norm>/seed<k>/run.json and <test set>/score.json")
    test_sets = options.test_set or sorted({name for run in runs for name in run.scores})
    tables = {test_set: build_table(runs, test_set, options.baseline) for test_set in test_sets}
    command = options.command or f"python -m fairseq_powernorm.scoring.table {given}"
    markdown = to_markdown(tables, runs, options.baseline, command)
    with atomic_write(csv_path) as stream:
        to_csv(tables, stream)
    with atomic_write(markdown_path) as stream:
        stream.write(markdown)
    sys.stdout.write(markdown)


if __name__ == "__main__":
    run_command_line(main)
