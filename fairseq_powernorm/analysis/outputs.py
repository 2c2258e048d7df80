"""What studies read and write: tables as CSV and Markdown, and charts as PNG, by one prefix."""

import argparse
import csv
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..files import atomic_write, read_lines, refuse_to_overwrite


def add_output_options(parser: argparse.ArgumentParser, title: str = "") -> None:
    """``--output-prefix``, ``--title`` (with its default), ``--command`` and ``--force``."""
    parser.add_argument("--output-prefix", required=True, help="writes PREFIX.md, PREFIX.csv and PREFIX.png")
    parser.add_argument("--title", default=title, help="above table or chart")
    parser.add_argument("--command", default="", help="what reproduces it")
    parser.add_argument("--force", action="store_true", help="replace files that exist")


def check_outputs(prefix: str | Path, force: bool, *suffixes: str) -> None:
    """Raises ``FileExistsError`` if a file of :func:`write_outputs` exists and ``force`` is not set."""
    for suffix in suffixes:
        refuse_to_overwrite(f"{prefix}.{suffix}", force)


def write_outputs(
    prefix: str | Path, rows: Iterable[Iterable[Any]], figure: Figure | None = None, markdown: str = ""
) -> None:
    """Writes PREFIX.csv, PREFIX.png and PREFIX.md, those that there are, each whole; prints the Markdown."""
    with atomic_write(f"{prefix}.csv") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
    if figure is not None:
        with atomic_write(f"{prefix}.png", "wb") as stream:
            figure.savefig(stream, format="png")
    if markdown:
        with atomic_write(f"{prefix}.md") as stream:
            stream.write(markdown)
        sys.stdout.write(markdown)


def read_table(path: str | Path, columns: Mapping[str, Callable[[str], Any]], maker: str) -> list[dict[str, Any]]:
    """The rows of a CSV that another command wrote, by the names of its columns.

    Args:
        path: of the CSV.
        columns: that it has to have, each with what its values are converted by; others stay text.
        maker: the command, for messages.

    Raises:
        ValueError: no such file, no CSV, a column or a value (of the line) is missing, there are no rows, or a value is
            wrong.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path} is missing: {maker} makes it")
    reader = csv.DictReader(read_lines(path))
    rows = []
    try:
        names = reader.fieldnames or ()
        if missing := [name for name in columns if name not in names]:
            raise ValueError(f"{path} is not a table of {maker}: it has no column {', '.join(missing)}")
        for row in reader:
            try:
                if None in row or None in row.values():
                    raise ValueError(f"expected {len(names)} values")
                rows.append({**row, **{name: convert(row[name]) for name, convert in columns.items()}})
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    except csv.Error as error:
        raise ValueError(f"{path}: {error}") from None
    if not rows:
        raise ValueError(f"{path} is not a table of {maker}: it has no rows")
    return rows
