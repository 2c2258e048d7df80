"""What a command that makes a table writes: PREFIX.csv and PREFIX.md, each whole; the Markdown on stdout too."""

import csv
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..files import atomic_write, refuse_to_overwrite
from .rows import Spread


def output_paths(prefix: str, force: bool) -> tuple[Path, Path]:
    """The Markdown's and the CSV's, before anything is read; raises ``FileExistsError`` without ``force``."""
    markdown, records = Path(f"{prefix}.md"), Path(f"{prefix}.csv")
    for path in (markdown, records):
        refuse_to_overwrite(path, force)
    return markdown, records


def write_outputs(paths: tuple[Path, Path], markdown: str, rows: Iterable[Any]) -> None:
    """Writes both, the Markdown last, and prints it.

    The CSV is unrounded, a line a row; lists have spaces in between, None is empty. Its columns are the rows' fields,
    optional ones where any row has them; a :class:`~.rows.Spread` is ``NAME_mean`` and ``NAME_standard_deviation``, and
    ``further_bleu`` the same two for each protocol, such as ``bleu_mean_PROTOCOL``.
    """
    records = [csv_record(row) for row in rows]
    columns = list(dict.fromkeys(name for record in records for name in record))
    with atomic_write(paths[1]) as stream:
        writer = csv.DictWriter(stream, fieldnames=columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    with atomic_write(paths[0]) as stream:
        stream.write(markdown)
    sys.stdout.write(markdown)


def csv_record(row: Any) -> dict[str, object]:
    """One row by column."""
    record: dict[str, object] = {}
    for name, value in vars(row).items():
        if isinstance(value, Spread):
            record |= _spread(value, name)
        elif isinstance(value, Mapping):
            for protocol, spread in value.items():
                record |= _spread(spread, "bleu", f"_{protocol}")
        elif value is not None or name in ("difference", "protocol"):
            record[name] = " ".join(map(str, value)) if isinstance(value, tuple) else value
    return record


def _spread(spread: Spread, name: str, suffix: str = "") -> dict[str, object]:
    names = (f"{name}_mean{suffix}", f"{name}_standard_deviation{suffix}")
    return dict(zip(names, (spread.mean, spread.standard_deviation), strict=True))
