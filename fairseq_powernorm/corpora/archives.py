"""Unpacking ``.tar`` and ``.tar.gz`` archives of corpora: in one pass, in little memory, and never outside the folder.

Files are written into a hidden folder beside their destination and renamed once the archive has been read: until then
a later member could be refused, and the checksum of a ``.gz``, which stands at its end, could be wrong. An archive
that is refused or damaged so leaves nothing behind.
"""

import gzip
import logging
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from tqdm import tqdm

from ..files import check_free_space
from .download import CHUNK

logger = logging.getLogger(__name__)

READ_BYTES = 1 << 16  # not more, as tarfile copies what it has read ahead at every small read
_GZIP_MAGIC = b"\x1f\x8b"
_END_OF_ARCHIVE = bytes(2 * tarfile.BLOCKSIZE)


def _refuse_unless_plain(archive: Path, member: tarfile.TarInfo) -> None:
    """Raises ``ValueError`` unless the member is a file or folder that stays inside the folder of destination."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        problem = "a path that leaves the folder"
    elif member.issym() or member.islnk():
        problem = f"a link to {member.linkname!r}"
    elif not (member.isdir() or (member.isreg() and not member.issparse())):
        problem = "neither a plain file nor a folder"
    elif member.isreg() and (path == PurePosixPath(".") or member.size < 0):
        problem = f"a file without a name, or of {member.size} bytes"
    else:
        return
    raise ValueError(f"{archive}: member {member.name!r} is {problem}; nothing was unpacked")


def _read_to_the_end(stream: IO[bytes], tar: tarfile.TarFile) -> None:
    """Raises ``EOFError`` or ``OSError`` if the archive goes on, or stops, where ``tarfile`` saw nothing amiss."""
    if isinstance(stream, gzip.GzipFile):
        while stream.read(CHUNK):  # gzip compares its checksum at the end
            pass
    else:  # tarfile takes a missing or a damaged header for the end
        stream.seek(tar.offset)
        if stream.read(len(_END_OF_ARCHIVE)) != _END_OF_ARCHIVE:
            raise EOFError("it does not end as an archive does")


def _plain_members(
    archive: Path, tar: tarfile.TarFile, wanted: set[str] | None
) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """The files to unpack with their names, in the archive's order; stops once all that is wanted was given."""
    seen: set[str] = set()
    while (wanted is None or wanted - seen) and (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # else tarfile keeps every header that it has read
        name = str(PurePosixPath(member.name))
        if wanted is not None and name not in wanted:
            continue
        _refuse_unless_plain(archive, member)
        if member.isdir():
            if wanted is None:
                continue  # made when a file lies in it
            raise ValueError(f"{archive}: member {name!r} is a folder, not a file; nothing was unpacked")
        if name in seen:
            raise ValueError(f"{archive}: member {name!r} is there twice; nothing was unpacked")
        seen.add(name)
        yield name, member
    if wanted is not None and wanted - seen:
        raise ValueError(f"{archive}: no member {', '.join(sorted(wanted - seen))}; nothing was unpacked")


def _unpack(archive: Path, stream: IO[bytes], folder: Path, wanted: set[str] | None) -> list[str]:
    """Writes what is wanted below ``folder`` and gives the names."""
    names = []
    with tarfile.open(fileobj=stream, mode="r|", bufsize=READ_BYTES) as tar:
        for name, member in _plain_members(archive, tar, wanted):
            check_free_space(folder, member.size)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with open(folder / name, "wb") as output:
                shutil.copyfileobj(cast(IO[bytes], tar.extractfile(member)), output, CHUNK)
                output.flush()
                os.fsync(output.fileno())
            names.append(name)
        if wanted is None:
            _read_to_the_end(stream, tar)
    return names


def extract(archive: str | Path, folder: str | Path, members: Iterable[str] | None = None) -> list[Path]:
    """Unpacks files from a ``.tar``, ``.tar.gz`` or ``.tgz`` into a folder; files that exist are replaced.

    Only plain files are written, with the permissions of new files, and folders as far as files lie in them. How much
    an archive may hold is bounded by the disk: the room for each file is looked at before it is written.

    Args:
        archive: the archive.
        folder: where its paths begin; made if need be.
        members: the names of the files wanted, as ``tar -t`` lists them (a leading ``./`` aside); None means all.
            Other members are not written, whatever they are, so they are not refused either. Reading stops at the
            last one wanted, before the checksum at the end of a ``.gz``: check the archive's digest, or the files.

    Returns:
        The files' paths, in the archive's order.

    Raises:
        ValueError: a member to be unpacked is a link, a device, leaves the folder or is missing; the archive is
            damaged or none. Nothing is unpacked then.
        OSError: no such archive, no room on the disk.
    """
    archive, folder = Path(archive), Path(folder)
    wanted = None if members is None else {str(PurePosixPath(name)) for name in members}
    hidden = folder / f".{archive.name}.{os.getpid()}.tmp"
    with open(archive, "rb") as packed:
        logger.info("unpacking %s", archive)
        compressed = packed.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        packed.seek(0)
        shutil.rmtree(hidden, ignore_errors=True)  # of a process that was killed and had the same number
        hidden.mkdir(parents=True)
        shown = {"total": archive.stat().st_size, "desc": archive.name, "delay": 1, "disable": None}
        try:
            with tqdm.wrapattr(packed, "read", **shown) as read:
                stream = cast(IO[bytes], gzip.GzipFile(fileobj=read) if compressed else read)
                names = _unpack(archive, stream, hidden, wanted)
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(hidden / name, folder / name)
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            problem = f"damaged, or not a .tar or .tar.gz ({error}); nothing was unpacked"
            raise ValueError(f"{archive}: {problem}") from None
        except OSError as error:
            if error.filename is None:  # a write that fails does not say of which file
                raise OSError(error.errno, f"{error.strerror}; nothing was unpacked", str(archive)) from None
            raise
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    return [folder / name for name in names]
