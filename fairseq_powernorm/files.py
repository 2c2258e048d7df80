"""Reading and writing files so that bad input is named and a crash leaves nothing half-written."""

import codecs
import contextlib
import errno
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO]:
    """Opens a temporary file beside ``path`` and renames it to ``path`` once the block ends without an error.

    A reader sees the old content or the whole new one. If the block raises (a full disk included), the temporary
    file is removed and ``path`` is untouched.

    Args:
        path: where the content ends up; missing folders are made, an existing file is replaced.
        mode: ``"w"`` for UTF-8 text with ``\\n`` line ends, ``"wb"`` for bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        encoding, newline = (None, None) if "b" in mode else ("utf-8", "\n")
        with open(temporary, mode, encoding=encoding, newline=newline) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def exclusive(folder: str | Path) -> Iterator[None]:
    """Holds ``folder``'s lock, the file ``.lock``, through the block; waits while another process has it.

    Commands that the block starts inherit the lock. So a command whose parent was killed keeps it as long as it lives,
    and a second start waits for it instead of writing the same files. Where the file system has no locks, the block
    runs without one, with a warning.
    """
    import fcntl  # of Linux and macOS: elsewhere all but this works

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a", encoding="utf-8") as lock:
        os.set_inheritable(lock.fileno(), True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("another process works on %s; waiting for it", folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems
            logger.warning("%s cannot be locked (%s): start no second process on it", folder, error.strerror)
        yield


def check_free_space(folder: str | Path, needed_bytes: float) -> None:
    """Raises ``OSError`` if the disk of ``folder`` (which need not exist yet) has less than ``needed_bytes`` free."""
    existing = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed_bytes > free:
        needed_and_free = f"{needed_bytes / 1e9:.3f} GB needed, {free / 1e9:.3f} GB free"
        raise OSError(errno.ENOSPC, f"not enough room on the disk: {needed_and_free}", str(folder))


def bytes_below(folder: str | Path) -> int:
    """The sizes of all files in a folder, at any depth; 0 if there is no such folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def check_room_to_grow(whole_bytes: float, *folders: str | Path) -> None:
    """:func:`check_free_space` for what the folders, on one disk, still lack of ``whole_bytes`` each."""
    check_free_space(folders[0], sum(max(0, whole_bytes - bytes_below(folder)) for folder in folders))


def refuse_folder(path: str | Path) -> None:
    """Raises ``IsADirectoryError`` if ``path`` is a folder: where a file is to be read or written."""
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected a file")


def refuse_to_overwrite(path: str | Path, force: bool) -> None:
    """Raises ``IsADirectoryError`` for a folder, ``FileExistsError`` if ``path`` exists and ``force`` is not set."""
    refuse_folder(path)
    if not force and Path(path).exists():
        raise FileExistsError(f"{path} exists; give --force to replace it")


def decode_line(line: bytes, path: str | Path, number: int) -> str:
    """A line of a UTF-8 text file without its line end, which is ``\\n`` or ``\\r\\n``.

    A byte order mark at the start of the file is not part of its text: it is left out, with a warning.

    Args:
        line: the line's bytes.
        path: the file, for messages.
        number: the line's number, from 1.

    Raises:
        ValueError: the line is not valid UTF-8; the message names file and line number.
    """
    if number == 1 and line.startswith(codecs.BOM_UTF8):
        logger.warning("%s begins with a byte order mark, which is left out", path)
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, line {number}: not valid UTF-8 ({error.reason})") from None


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text file without their line ends; only ``\\n`` (or ``\\r\\n``) ends a line.

    Raises:
        ValueError: a line is not valid UTF-8; the message names file and line number.
    """
    with open(path, "rb") as stream:
        return [decode_line(line, path, number) for number, line in enumerate(stream, start=1)]


def read_parallel_lines(*paths: str | Path) -> list[list[str]]:
    """The lines of files that belong together line by line.

    Raises:
        ValueError: the files differ in their number of lines, have none, or a line is not valid UTF-8.
    """
    columns = [read_lines(path) for path in paths]
    counts = {str(path): len(column) for path, column in zip(paths, columns, strict=True)}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{path} has {count} lines" for path, count in counts.items())
        raise ValueError(f"files that belong together differ in length: {listed}")
    if not columns[0]:
        raise ValueError(f"no lines in {', '.join(counts)}")
    return columns


def read_and_write_utf8() -> None:
    """Starts this program again where the caller's locale or a variable gives Python another encoding than UTF-8."""
    if sys.flags.ignore_environment:  # python -I, which would ignore it again
        return
    if not sys.flags.utf8_mode or "PYTHONIOENCODING" in os.environ:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONIOENCODING"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**kept, "PYTHONUTF8": "1"})


def run_command_line(main: Callable[[], None]) -> None:
    """Runs a command's ``main``; an error in its input ends it with one line on stderr and exit status 1, and so does
    Ctrl-C with status 130.

    ``ValueError`` and ``OSError`` (a missing file, a full disk) are what bad input raises; anything else is a defect
    of ours and keeps its traceback. Whoever reads the output may stop reading: ``… | head``.
    """
    program = Path(sys.argv[0]).name
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
        sys.exit(128 + signal.SIGPIPE)
    except (ValueError, OSError) as error:
        sys.exit(f"{program}: error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: stopped; what is finished is kept, the same command does the rest\n")
        sys.exit(128 + signal.SIGINT)
