"""The table of results of language models: perplexity by norm over the seeds of one recipe, and where it is from.

python -m fairseq_powernorm.scoring.perplexity_table --runs runs/ptb --output-prefix results/ptb
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from ..files import run_command_line
from .markdown import provenance_lines, published_lines, table_of, write_cells
from .perplexity import Perplexity, read_perplexity
from .published import Published
from .rows import Spread, runs_by_norm
from .runs import Run, read_runs
from .table import make_table


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
    norms = runs_by_norm(runs, test_set)
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
        own: dict[str, Callable[[PerplexityRow], object]] = {}
        if any(row.context is not None for row in rows):
            own["with context"] = lambda row: row.context or "–"
        if any(row.published is not None for row in rows):
            own["published (not ours)"] = lambda row: row.published or "–"
        cells = write_cells(rows, baseline, {"perplexity": lambda row: row.perplexity}, own)
        lines += ["", f"## {test_set}", "", *table_of(cells)]
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
        lines += published_lines(rows, published)
    lines += ["", "## How", ""]
    if any(len(row.seeds) > 1 for rows in tables.values() for row in rows):
        lines.append("- ± one standard deviation of the sample over the seeds; updates and train time are means.")
    if len({row.updates for rows in tables.values() for row in rows}) > 1:
        lines.append("- The norms were trained for different numbers of updates, see the column.")
    return "\n".join([*lines, *provenance_lines(runs, command)]) + "\n"


def read_perplexity_runs(folder: Path) -> list[Run]:
    """The finished runs of a language model's recipe."""
    return read_runs(folder, read_perplexity, read_further_perplexities)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the table as Markdown and CSV and prints the Markdown; see ``--help``."""
    module = "fairseq_powernorm.scoring.perplexity_table"
    make_table(arguments, "perplexity", module, read_perplexity_runs, build_rows, to_markdown)


if __name__ == "__main__":
    run_command_line(main)
