"""The table of results: BLEU by norm over the seeds of one recipe, with significance and where the numbers are from.

    python -m fairseq_powernorm.scoring.table --runs runs/iwslt14_de_en --output-prefix results/iwslt14_de_en

Reads the folders that ``runs`` describes; ``rows`` computes what is in the table, ``markdown`` writes it down.
"""

import argparse
import csv
import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from ..files import atomic_write, refuse_to_overwrite, run_command_line
from .markdown import to_markdown
from .published import choose_published
from .rows import Row, build_table
from .runs import read_runs

logger = logging.getLogger(__name__)


def to_csv(tables: Mapping[str, Sequence[Row]], stream: IO[str]) -> None:
    """Writes the rows unrounded, one line per test set and norm; lists have spaces in between, None is empty.

    The columns are ``Row``'s fields up to ``protocol``; then, where any row has them, ``bleu_mean_PROTOCOL`` and
    ``bleu_standard_deviation_PROTOCOL``, ``chrf_mean``, ``chrf_standard_deviation``, ``published``,
    ``published_difference``.
    """
    records = [_csv_record(row) for rows in tables.values() for row in rows]
    columns = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.DictWriter(stream, fieldnames=columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)


def _csv_record(row: Row) -> dict[str, object]:
    """One row by column."""
    record = {}
    for name, value in vars(row).items():
        if name not in ("further_bleu", "chrf", "published", "published_difference"):
            record[name] = " ".join(map(str, value)) if isinstance(value, tuple) else value
    for protocol, bleu in row.further_bleu.items():
        record[f"bleu_mean_{protocol}"] = bleu.mean
        record[f"bleu_standard_deviation_{protocol}"] = bleu.standard_deviation
    if row.chrf is not None:
        record |= {"chrf_mean": row.chrf.mean, "chrf_standard_deviation": row.chrf.standard_deviation}
    if row.published is not None:
        record |= {"published": row.published, "published_difference": row.published_difference}
    return record


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the table as Markdown and CSV and prints the Markdown; see ``--help``."""
    parser = argparse.ArgumentParser(description="The table of BLEU by norm, from the folders of finished runs.")
    parser.add_argument("--runs", required=True, type=Path, help="folder of one recipe, e.g. runs/iwslt14_de_en")
    parser.add_argument("--test-set", nargs="+", metavar="NAME", help="default: all that are scored")
    parser.add_argument("--baseline", default="layer", metavar="NORM", help="what others are compared with")
    parser.add_argument(
        "--published", action="append", default=[], metavar="NORM=BLEU[,...]", help="what others published; repeatable"
    )
    parser.add_argument("--published-source", metavar="TEXT", help="where the published figures are from")
    parser.add_argument(
        "--published-note", action="append", default=[], metavar="NORM=TEXT", help="on one of them; repeatable"
    )
    parser.add_argument("--published-test-set", metavar="NAME", help="what they are of (default: the only test set)")
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
    said = options.published, options.published_source, options.published_test_set
    published = choose_published(*said, test_sets, options.published_note)
    tables = {test_set: build_table(runs, test_set, options.baseline, published) for test_set in test_sets}
    command = options.command or f"python -m fairseq_powernorm.scoring.table {given}"
    markdown = to_markdown(tables, runs, options.baseline, command, published)
    with atomic_write(csv_path) as stream:
        to_csv(tables, stream)
    with atomic_write(markdown_path) as stream:
        stream.write(markdown)
    sys.stdout.write(markdown)


if __name__ == "__main__":
    run_command_line(main)
