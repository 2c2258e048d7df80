"""Files of lines that belong together: found, read, changed and written by all cores in bounded memory.

A corpus of millions of pairs goes through in blocks of lines: a few blocks for each process are on their way at any
time, and the output keeps the order of the input.
"""

import contextlib
import gzip
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice, zip_longest
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from ..files import atomic_write, decode_line

LINES_PER_BLOCK = 2000
BLOCKS_PER_WORKER = 3  # waiting or at work, so that no process idles and little is in memory

Row = tuple[str, ...]
"""Lines that belong together, one of each file."""

Result = TypeVar("Result")


def number_of_workers() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def find_splits(folder: Path, languages: Sequence[str]) -> dict[str, list[Path]]:
    """The files ``SPLIT.LANGUAGE``, plain or ``.gz``, of every split, one for each language.

    The splits are ``train``, ``valid`` and every one whose name begins with ``test``, in the order of their names.

    Raises:
        ValueError: a split without a side, with a side twice, no training or validation text, no test set, or a name
            that is not printable (``test_sets.txt`` has one a line).
        FileNotFoundError: no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        split, _, language = path.name.removesuffix(".gz").rpartition(".")
        if path.is_file() and language in languages and (split in ("train", "valid") or split.startswith("test")):
            if language in found.setdefault(split, {}):
                raise ValueError(f"{folder} holds {found[split][language].name} and {path.name}: which is meant?")
            found[split][language] = path
    for split in ("train", "valid", *found):
        missing = [language for language in languages if language not in found.get(split, {})]
        if missing:
            raise ValueError(f"{folder} holds no {split}.{missing[0]}, nor {split}.{missing[0]}.gz")
        if not split.isprintable():
            raise ValueError(f"{folder} holds a test set of the name {split!r}; a name takes printable characters")
    tests = sorted(split for split in found if split.startswith("test"))
    if not tests:
        names = " and ".join(f"test.{language}" for language in languages)
        raise ValueError(f"{folder} holds no test set, such as {names}")
    return {split: [found[split][language] for language in languages] for split in ("train", "valid", *tests)}


def read_rows(paths: Sequence[Path], skip: Callable[[str], bool] | None = None) -> Iterator[Row]:
    """The lines of files that belong together; only ``\\n`` (or ``\\r\\n``) ends a line.

    Args:
        paths: the files; those whose names end in ``.gz`` are unpacked.
        skip: lines for which it is true are left out, in each file by itself.

    Raises:
        ValueError: a line is not UTF-8, the files differ in length, or one is damaged; the message names file and line.
        OSError: a file is missing.
    """
    with contextlib.ExitStack() as stack:
        openers = [gzip.open if path.suffix == ".gz" else open for path in paths]
        streams = [stack.enter_context(opener(path, "rb")) for opener, path in zip(openers, paths, strict=True)]
        columns = [decoded(stream, path, skip) for stream, path in zip(streams, paths, strict=True)]
        for number, row in enumerate(zip_longest(*columns)):
            if None in row:
                ended = paths[row.index(None)]
                raise ValueError(f"files that belong together differ in length: {ended} ends after {number} lines")
            yield row


def decoded(stream: Iterable[bytes], path: Path, skip: Callable[[str], bool] | None = None) -> Iterator[str]:
    """The lines of one stream as :func:`read_rows` has them; ``path`` is for messages."""
    try:
        for number, line in enumerate(stream, start=1):
            text = decode_line(line, path, number)
            if skip is None or not skip(text):
                yield text
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged, or not gzip ({error})") from None


def map_blocks(
    function: Callable[[list[Row]], Result], rows: Iterable[Row], workers: int | None = None
) -> Iterator[tuple[int, Result]]:
    """``function`` of every block of rows, in order, by several processes.

    Args:
        function: takes a list of rows; a function of a module, or a ``functools.partial`` of one, since it goes to
            other processes.
        rows: read as they are needed.
        workers: processes; all cores by default, 1 for none beside this one.

    Yields:
        The number of rows in the block, and what ``function`` made of them.

    Raises:
        OSError: a process died, as it does where memory runs out.
    """
    workers = workers or number_of_workers()
    iterator = iter(rows)
    blocks = iter(lambda: list(islice(iterator, LINES_PER_BLOCK)), [])
    if workers == 1:
        for block in blocks:
            yield len(block), function(block)
        return
    with ProcessPoolExecutor(workers) as pool:
        pending: deque[tuple[int, Future]] = deque()
        try:
            for block in blocks:
                pending.append((len(block), pool.submit(function, block)))
                if len(pending) >= workers * BLOCKS_PER_WORKER:
                    count, future = pending.popleft()
                    yield count, future.result()
            while pending:
                count, future = pending.popleft()
                yield count, future.result()
        except BrokenProcessPool:
            raise OSError("a process that prepares text was killed; is there enough memory?") from None
        finally:
            pool.shutdown(cancel_futures=True)


def map_lines(
    function: Callable[[list[Row]], list[Row]],
    rows: Iterable[Row],
    outputs: Sequence[Path],
    description: str,
    workers: int | None = None,
) -> tuple[int, int]:
    """Writes what ``function`` makes of rows, one column to each output; all outputs appear at the end, or none.

    Args:
        function: takes a list of rows and returns rows of as many entries as there are outputs, fewer rows or none
            where lines are dropped.
        rows: the input.
        outputs: files, replaced where they exist.
        description: what the progress bar says.
        workers: see :func:`map_blocks`.

    Returns:
        The number of rows read, and of those written.

    Raises:
        ValueError: see :func:`read_rows`.
        OSError: no room on the disk, or no memory.
    """
    read = written = 0
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(atomic_write(path)) for path in outputs]
        progress = stack.enter_context(tqdm(desc=description, unit=" lines", unit_scale=True, disable=None))
        for count, block in map_blocks(function, rows, workers):
            for stream, column in zip(streams, zip(*block, strict=True), strict=bool(block)):
                stream.writelines(f"{line}\n" for line in column)
            read, written = read + count, written + len(block)
            progress.update(count)
    return read, written
