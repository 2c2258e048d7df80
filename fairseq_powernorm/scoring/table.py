"""The table of results: BLEU by norm over the seeds of one recipe, with significance and where the numbers are from.

    python -m fairseq_powernorm.scoring.table --runs runs/iwslt14_de_en --output-prefix results/iwslt14_de_en

Reads the folders that ``runs`` describes; ``rows`` computes what is in the table, ``markdown`` writes it down.
``perplexity_table`` is the same command for language models.
"""

import argparse
import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ..files import run_command_line
from .markdown import to_markdown
from .outputs import output_paths, write_outputs
from .published import choose_published
from .rows import build_table, rank
from .runs import Run, read_runs

logger = logging.getLogger(__name__)


def make_table(
    arguments: Sequence[str] | None,
    kind: str,
    module: str,
    read: Callable[[Path], list[Run]],
    build: Callable[..., list],
    write: Callable[..., str],
) -> None:
    """The command of a table.

    Args:
        arguments: the command line; this program's own if None.
        kind: of score: BLEU or perplexity.
        module: the program, to be named as what reproduces the table.
        read: gives the finished runs below a recipe's folder.
        build: gives the rows of one test set, as :func:`.rows.build_table` does.
        write: gives the Markdown, as :func:`.markdown.to_markdown` does.
    """
    parser = argparse.ArgumentParser(description=f"The table of {kind} by norm, from the folders of finished runs.")
    parser.add_argument("--runs", required=True, type=Path, help="folder of one recipe, e.g. runs/iwslt14_de_en")
    parser.add_argument("--test-set", nargs="+", metavar="NAME", help="default: all that are scored")
    parser.add_argument("--baseline", default="layer", metavar="NORM", help="what others are compared with")
    figures = f"NORM={kind.upper()}[,...]"
    parser.add_argument(
        "--published", action="append", default=[], metavar=figures, help="what others published; repeatable"
    )
    parser.add_argument("--published-source", metavar="TEXT", help="where the published figures are from")
    parser.add_argument(
        "--published-note", action="append", default=[], metavar="NORM=TEXT", help="on one of them; repeatable"
    )
    parser.add_argument("--published-test-set", metavar="NAME", help="what they are of (default: the only test set)")
    parser.add_argument("--output-prefix", required=True, help="writes PREFIX.md and PREFIX.csv")
    parser.add_argument("--recipe-updates", type=int, metavar="N", help="of a whole training; says which stop before")
    parser.add_argument("--command", help="what reproduces the table (default: this very command)")
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("sacrebleu").setLevel(logging.WARNING)  # else two lines for every comparison
    given = shlex.join(sys.argv[1:] if arguments is None else arguments)
    logger.info("arguments: %s", given)
    paths = output_paths(options.output_prefix, options.force)
    runs = read(options.runs)
    if not runs:
        raise ValueError(f"{options.runs}: no finished run, expected <norm>/seed<k>/run.json and <test set>/score.json")
    runs.sort(key=lambda run: (rank(run.norm), run.seed))
    test_sets = options.test_set or sorted({name for run in runs for name in run.scores})
    said = options.published, options.published_source, options.published_test_set
    published = choose_published(*said, test_sets, options.published_note, kind)
    tables = {test_set: build(runs, test_set, options.baseline, published) for test_set in test_sets}
    markdown = write(tables, runs, options.baseline, options.command or f"python -m {module} {given}", published)
    rows = [row for rows in tables.values() for row in rows]
    if options.recipe_updates and (fewest := min(row.updates for row in rows)) < options.recipe_updates:
        markdown += f"- Not converged: trained for {fewest:.0f} of the recipe's {options.recipe_updates} updates.\n"
    write_outputs(paths, markdown, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the table as Markdown and CSV and prints the Markdown; see ``--help``."""
    make_table(arguments, "BLEU", "fairseq_powernorm.scoring.table", read_runs, build_table, to_markdown)


if __name__ == "__main__":
    run_command_line(main)
