"""The files of a record: ``record.csv``, which grows by appending, and what it is a record of, ``record.json``.

A line of ``record.csv`` is one pass (a micro-batch of one rank) through one norm, at one place of it. ``pandas``,
``numpy`` and ``csv`` read it by the names of its columns:

- ``update``: the optimizer update, from 1; ``pass``: the micro-batch within it, from 0; ``rank``: whose tokens (0
  where the norm's statistics are over all ranks);
- ``norm``: the module's name in the model; ``kind``: the norm's name; ``place``: ``input``, or ``scaled`` for after the
  scaling of each token in front of the norm;
- ``channels``: C; ``tokens``: the real tokens;
- :data:`~.quantities.QUANTITIES`; an empty field is a number that there is none of.
"""

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import atomic_write, decode_line
from .quantities import QUANTITIES

logger = logging.getLogger(__name__)

RECORD, DESCRIPTION, AVERAGES = "record.csv", "record.json", "averages"
KEYS = ("update", "pass", "rank", "norm", "kind", "place", "channels", "tokens")
COLUMNS = (*KEYS, *QUANTITIES)
NUMBERS = ("update", "pass", "rank", "channels", "tokens")
Row = dict[str, Any]
"""A line by the names of its columns: the :data:`NUMBERS` are ints, the :data:`QUANTITIES` floats, NaN where there are
none."""


def format_row(values: Sequence[Any]) -> str:
    """A line of ``record.csv``, the values in the order of :data:`COLUMNS`."""
    fields = (
        ("" if math.isnan(value) else f"{value:.10g}") if isinstance(value, float) else str(value) for value in values
    )
    return ",".join(fields) + "\n"


class Record:
    """A record that is being written."""

    def __init__(self, folder: str | Path, description: Mapping[str, Any], updates: int = 0):
        """Begins a record, or continues one: lines of updates after ``updates`` are dropped then.

        Args:
            folder: of the record; made if it is missing.
            description: what it is a record of, as JSON can hold it: the model's norms, and what tells this training
                from others. ``None`` as the value of ``run`` says that nothing is known of the latter.
            updates: what the checkpoint that the training goes on from has behind it.

        Raises:
            ValueError: the folder has the record of another training, or files that are no record.
        """
        self.folder = Path(folder)
        self.path = self.folder / RECORD
        self._check(description, updates)
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.folder / DESCRIPTION) as stream:
            json.dump(description, stream, indent=2)
            stream.write("\n")
        if not self.path.exists():
            with atomic_write(self.path) as stream:
                stream.write(",".join(COLUMNS) + "\n")
        self._drop_after(updates)

    def _check(self, description: Mapping[str, Any], updates: int) -> None:
        if not self.path.exists():
            return
        found = read_description(self.folder)
        for part in ("norms", "run"):
            if found.get(part) != description.get(part):
                raise ValueError(
                    f"{self.folder} has the record of another training ({_difference(found, description, part)}); name "
                    "another folder, or remove it"
                )
        if updates == 0 and description.get("run") is None and _number_of_lines(self.path) > 1:
            raise ValueError(f"{self.folder} has a record already; name another folder, or remove it")

    def _drop_after(self, updates: int) -> None:
        """Cuts the file before the first line that is of a later update, or not a whole line."""
        with open(self.path, "rb+") as stream:
            keep = len(_check_header(stream.readline(), self.path))
            for line in stream:
                number = line.partition(b",")[0]
                whole = line.endswith(b"\n") and line.count(b",") == len(COLUMNS) - 1 and number.isdigit()
                if not whole or int(number) > updates:
                    break
                keep += len(line)
            dropped = os.fstat(stream.fileno()).st_size - keep
            stream.truncate(keep)
        if dropped:
            logger.info("%s: dropped what was recorded after update %d", self.path, updates)

    def append(self, lines: Sequence[str]) -> None:
        """Adds lines by one system call, so that a reader sees all of an update or, in bad luck, a part that it can
        tell."""
        content = "".join(lines).encode()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            while content:
                content = content[os.write(descriptor, content) :]
        finally:
            os.close(descriptor)


def _difference(found: Mapping[str, Any], asked: Mapping[str, Any], part: str) -> str:
    """The first thing in which two descriptions differ, in words."""
    old, new = found.get(part), asked.get(part)
    if not (old and new):
        return f"{part} is {old or 'not known'} there and {new or 'not known'} here"
    key = next(key for key in [*old, *new] if old.get(key) != new.get(key))
    return f"{key} is {old.get(key, 'missing')} there and {new.get(key, 'missing')} here"


def _number_of_lines(path: Path) -> int:
    with open(path, "rb") as stream:
        return sum(1 for _ in stream)


def _check_header(line: bytes, path: Path) -> bytes:
    if line != (",".join(COLUMNS) + "\n").encode():
        raise ValueError(f"{path} is no record of norms: its first line should be {','.join(COLUMNS)}")
    return line


def read_description(folder: str | Path) -> dict[str, Any]:
    """What a record is of.

    Raises:
        ValueError: the folder has no record, or its description is damaged.
    """
    path = Path(folder) / DESCRIPTION
    if not path.is_file():
        raise ValueError(f"{folder} has no record of norms (no {DESCRIPTION}); training writes one with --norm-record")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected an object, got {content!r}")
    return content


def read_record(folder: str | Path) -> list[Row]:
    """The lines of a record in the order in which they were written; of a training that is under way too.

    A last line that is cut off, as a killed process leaves it, is left out with a warning, and all of its update.

    Raises:
        ValueError: the folder has no record, or another line is damaged; the message names it.
    """
    path = Path(folder) / RECORD
    if not path.is_file():
        raise ValueError(f"{folder} has no record of norms (no {RECORD}); training writes one with --norm-record")
    rows: list[Row] = []
    with open(path, "rb") as stream:
        _check_header(stream.readline(), path)
        for number, line in enumerate(stream, start=2):
            if not line.endswith(b"\n"):
                cut = rows[-1]["update"] if rows else 0
                logger.warning("%s is cut off in line %d: update %d and what follows is left out", path, number, cut)
                return [row for row in rows if row["update"] < cut]
            rows.append(_parse(decode_line(line, path, number), path, number))
    return rows


def _parse(line: str, path: Path, number: int) -> Row:
    values = line.split(",")
    if len(values) != len(COLUMNS):
        raise ValueError(f"{path}, line {number}: expected {len(COLUMNS)} values, got {len(values)}")
    row: Row = dict(zip(COLUMNS, values, strict=True))
    try:
        row |= {name: int(row[name]) for name in NUMBERS}
        row |= {name: float(row[name] or "nan") for name in QUANTITIES}
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: {error}") from None
    return row
