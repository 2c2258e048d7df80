"""What a study writes: a table as Markdown and CSV, and its chart, as PREFIX.md, PREFIX.csv and PREFIX.png."""

import argparse
import csv
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..files import atomic_write, refuse_to_overwrite


def add_output_options(parser: argparse.ArgumentParser, title: str = "") -> None:
    """``--output-prefix``, ``--title`` (with its default), ``--command`` and ``--force``."""
    parser.add_argument("--output-prefix", required=True, help="writes PREFIX.md, PREFIX.csv and PREFIX.png")
    parser.add_argument("--title", default=title, help="above table or chart")
    parser.add_argument("--command", default="", help="what reproduces it")
    parser.add_argument("--force", action="store_true", help="replace files that exist")


def output_paths(options: argparse.Namespace) -> dict[str, Path]:
    """The files by their suffix, before anything is read.

    Raises:
        FileExistsError: one exists, without ``--force``.
    """
    paths = {suffix: Path(f"{options.output_prefix}.{suffix}") for suffix in ("md", "csv", "png")}
    for path in paths.values():
        refuse_to_overwrite(path, options.force)
    return paths


def write_outputs(paths: dict[str, Path], markdown: str, rows: Iterable[Iterable[Any]], figure: Figure) -> None:
    """Writes the three, each whole, the Markdown last, and prints it."""
    with atomic_write(paths["csv"]) as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
    with atomic_write(paths["png"], "wb") as stream:
        figure.savefig(stream, format="png")
    with atomic_write(paths["md"]) as stream:
        stream.write(markdown)
    sys.stdout.write(markdown)
