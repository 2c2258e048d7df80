"""The table of results of language models: perplexity by norm over the seeds of one recipe, and where it is from.

python -m fairseq_powernorm.scoring.perplexity_table --runs runs/ptb --output-prefix results/ptb
"""

import argparse
import csv
import logging
import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from ..files import atomic_write, refuse_to_overwrite, run_command_line
from .markdown import SHORT_NAMES, duration, provenance_line, short, versions_of
from .perplexity import Perplexity, read_perplexity
from .published import Published, choose_published
from .rows import Spread, rank
from .runs import Run, read_runs

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PerplexityRow:
    """One norm on one text.

    Attributes:
        test_set: the text's name.
        norm: the norm's name.
        seeds: of all its runs, ascending.
        perplexity: over the seeds, in segments without context.
        difference: mean perplexity minus the baseline's, both over the seeds that both have; None without such.
        context: over the seeds, with a window of context; None where a run has no such score.
        updates: mean number of optimizer updates.
        train_seconds: mean training time.
        published: what others published; None without.
    """

    test_set: str
    norm: str
    seeds: tuple[int, ...]
    perplexity: Spread
    difference: float | None
    context: Spread | None
    updates: float
    train_seconds: float
    published: Decimal | None


def read_further_perplexities(folder: Path, main: Perplexity) -> dict[str, Perplexity]:
    """The scores by other protocols than the main one's in a text's folder."""
    return {score.protocol: score for score in map(read_perplexity, sorted(folder.glob("score.*.json")))}


def check_alike(runs: Sequence[Run[Perplexity]], test_set: str) -> None:
    """Raises ``ValueError`` unless all runs were scored on as many tokens in the same way."""
    for protocol in {name for run in runs for name in run.further_scores[test_set]} | {None}:
        scored = [run for run in runs if protocol is None or protocol in run.further_scores[test_set]]
        ways = [{**vars(run.score(test_set, protocol)), "perplexity": None} for run in scored]
        for run, way in zip(scored, ways, strict=True):
            if way != ways[0]:
                raise ValueError(
                    f"{test_set} is scored in two ways: {scored[0].folder} {scored[0].score(test_set, protocol)}, "
                    f"{run.folder} {run.score(test_set, protocol)}"
                )


def build_rows(
    runs: Sequence[Run[Perplexity]], test_set: str, baseline: str = "layer", published: Published | None = None
) -> list[PerplexityRow]:
    """One row per norm for one text, in the order of all tables.

    Args:
        runs: the runs of one recipe; those without the text are left out with a warning.
        test_set: the text's name.
        baseline: the norm that others are compared with.
        published: figures of others; left out if they are of another text.

    Raises:
        ValueError: runs that are not scored alike.
    """
    norms: dict[str, dict[int, Run[Perplexity]]] = {}
    for run in sorted(runs, key=lambda run: (rank(run.norm), run.seed)):
        if test_set in run.scores:
            norms.setdefault(run.norm, {})[run.seed] = run
        else:
            logger.warning("%s is left out of the table: not scored on %s", run.folder, test_set)
    check_alike([run for seeds in norms.values() for run in seeds.values()], test_set)
    rows = []
    for norm, seeds in norms.items():
        values = {seed: run.scores[test_set].perplexity for seed, run in seeds.items()}
        compared = {} if norm == baseline else norms.get(baseline, {})
        differences = [values[seed] - compared[seed].scores[test_set].perplexity for seed in seeds if seed in compared]
        windows = [run.further_scores[test_set].get("context") for run in seeds.values()]
        in_context = [window.perplexity for window in windows if window is not None]
        rows.append(
            PerplexityRow(
                test_set=test_set,
                norm=norm,
                seeds=tuple(seeds),
                perplexity=Spread.of([*values.values()]),
                difference=statistics.fmean(differences) if differences else None,
                context=None if None in windows else Spread.of(in_context),
                updates=statistics.fmean(run.updates for run in seeds.values()),
                train_seconds=statistics.fmean(run.train_seconds for run in seeds.values()),
                published=published.bleu.get(norm) if published and published.test_set == test_set else None,
            )
        )
    return rows


def cell(spread: Spread | None) -> str:
    """Mean ± deviation."""
    if spread is None:
        return "–"
    deviation = "" if spread.standard_deviation is None else f" ± {spread.standard_deviation:.2f}"
    return f"{spread.mean:.2f}{deviation}"


def to_markdown(
    tables: dict[str, list[PerplexityRow]],
    runs: Sequence[Run[Perplexity]],
    baseline: str = "layer",
    command: str = "",
    published: Published | None = None,
) -> str:
    """A table per text and, below, all that a reader needs to check or repeat it."""
    lines = [f"# {runs[0].recipe}"]
    for test_set, rows in tables.items():
        run = next(run for run in runs if test_set in run.scores)
        columns = {
            "norm": lambda row: f"{row.norm} ({SHORT_NAMES[row.norm]})" if row.norm in SHORT_NAMES else row.norm,
            "perplexity": lambda row: cell(row.perplexity),
            f"Δ to {short(baseline)}": lambda row: "–" if row.difference is None else f"{row.difference:+z.2f}",
        }
        if any(row.context is not None for row in rows):
            columns["with context"] = lambda row: cell(row.context)
        if any(row.published is not None for row in rows):
            columns["published (not ours)"] = lambda row: str(row.published or "–")
        columns |= {
            "seeds": lambda row: ", ".join(map(str, row.seeds)),
            "updates": lambda row: f"{row.updates:.0f}",
            "train time": lambda row: duration(row.train_seconds),
        }
        lines += ["", f"## {test_set}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        lines += [f"| {' | '.join(write(row) for write in columns.values())} |" for row in rows]
        score, window = run.scores[test_set], run.further_scores[test_set].get("context")
        lines += [
            "",
            f"- perplexity: {score.tokens} tokens in segments of {score.tokens_per_sample}, the last one included, "
            "without context.",
        ]
        if window is not None:
            lines.append(
                f"- with context: segments of {window.tokens_per_sample} that overlap in {window.context_window} "
                "tokens, which are not scored again."
            )
        if published is not None and any(row.published is not None for row in rows):
            lines.append(f"- published (not ours): {published.source.removesuffix('.')}.")
    lines += ["", "## How", ""]
    if any(len(row.seeds) > 1 for rows in tables.values() for row in rows):
        lines.append("- ± one standard deviation of the sample over the seeds; updates and train time are means.")
    if len({row.updates for rows in tables.values() for row in rows}) > 1:
        lines.append("- The norms were trained for different numbers of updates, see the column.")
    lines.append(provenance_line("Commit", [(run, f"`{run.commit}`") for run in runs]))
    lines.append(provenance_line("Hardware", [(run, run.hardware) for run in runs]))
    lines.append(provenance_line("Versions", [(run, versions_of(run)) for run in runs]))
    if command:
        lines.append(f"- Reproduce: `{command}`")
    return "\n".join(lines) + "\n"


def csv_record(row: PerplexityRow) -> dict[str, object]:
    """One row by column, unrounded; None is empty."""
    record: dict[str, object] = {}
    for name, value in vars(row).items():
        if isinstance(value, Spread):
            record |= {f"{name}_mean": value.mean, f"{name}_standard_deviation": value.standard_deviation}
        elif value is not None:
            record[name] = " ".join(map(str, value)) if isinstance(value, tuple) else value
    return record


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the table as Markdown and CSV and prints the Markdown; see ``--help``."""
    parser = argparse.ArgumentParser(description="The table of perplexity by norm, from the folders of finished runs.")
    parser.add_argument("--runs", required=True, type=Path, help="folder of one recipe, e.g. runs/ptb")
    parser.add_argument("--baseline", default="layer", metavar="NORM", help="what others are compared with")
    parser.add_argument("--published", action="append", default=[], metavar="NORM=PERPLEXITY[,...]", help="of others")
    parser.add_argument("--published-source", metavar="TEXT", help="where the published figures are from")
    parser.add_argument("--published-test-set", metavar="NAME", help="what they are of (default: the only text)")
    parser.add_argument("--output-prefix", required=True, help="writes PREFIX.md and PREFIX.csv")
    parser.add_argument("--command", help="what reproduces the table (default: this very command)")
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    given = shlex.join(sys.argv[1:] if arguments is None else arguments)
    markdown_path, csv_path = Path(f"{options.output_prefix}.md"), Path(f"{options.output_prefix}.csv")
    for path in (markdown_path, csv_path):
        refuse_to_overwrite(path, options.force)
    runs = read_runs(options.runs, read_perplexity, read_further_perplexities)
    if not runs:
        raise ValueError(f"{options.runs}: no finished run, expected <norm>/seed<k>/run.json and <text>/score.json")
    runs.sort(key=lambda run: (rank(run.norm), run.seed))
    test_sets = sorted({name for run in runs for name in run.scores})
    published = choose_published(options.published, options.published_source, options.published_test_set, test_sets)
    tables = {test_set: build_rows(runs, test_set, options.baseline, published) for test_set in test_sets}
    command = options.command or f"python -m fairseq_powernorm.scoring.perplexity_table {given}"
    markdown = to_markdown(tables, runs, options.baseline, command, published)
    records = [csv_record(row) for rows in tables.values() for row in rows]
    columns = list(dict.fromkeys(name for record in records for name in record))
    with atomic_write(csv_path) as stream:
        writer = csv.DictWriter(stream, fieldnames=columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    with atomic_write(markdown_path) as stream:
        stream.write(markdown)
    sys.stdout.write(markdown)


if __name__ == "__main__":
    run_command_line(main)
