"""Taking named files out of ``.tar`` and ``.tar.gz`` archives of corpora, in little memory; all of them or none.

Nothing but the files asked for is written, whatever else an archive holds and wherever it points. They are written into
a hidden folder beside their destination and renamed once all were found: an archive that is damaged or refused leaves
nothing behind.
"""

import logging
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO, cast

from tqdm import tqdm

from ..files import check_free_space
from .download import CHUNK

logger = logging.getLogger(__name__)

READ_BYTES = 1 << 16  # not more, as tarfile copies what it has read ahead at every small read


def _unpack(stream: IO[bytes], folder: Path, members: set[str]) -> list[str]:
    """Writes the members below ``folder`` and gives their names in the archive's order; stops at the last one."""
    names: list[str] = []
    with tarfile.open(fileobj=stream, mode="r|*", bufsize=READ_BYTES) as tar:
        while members - set(names) and (member := tar.next()) is not None:
            name = str(PurePosixPath(member.name))
            if name not in members:
                continue
            if not member.isreg() or member.issparse() or member.size < 0:
                raise ValueError(f"member {name!r} is no plain file")
            if name in names:
                raise ValueError(f"member {name!r} is there twice")
            check_free_space(folder, member.size)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with open(folder / name, "wb") as output:
                shutil.copyfileobj(cast(IO[bytes], tar.extractfile(member)), output, CHUNK)
                output.flush()
                os.fsync(output.fileno())
            names.append(name)
    if missing := members - set(names):
        raise ValueError(f"no member {', '.join(sorted(missing))}")
    return names


def extract(archive: str | Path, folder: str | Path, members: Iterable[str]) -> list[Path]:
    """Takes files out of a ``.tar``, ``.tar.gz`` or ``.tgz`` into a folder; files that exist are replaced.

    They have the permissions of new files. The room for each is looked at before it is written.

    Args:
        archive: the archive.
        folder: where its paths begin; made if need be.
        members: the names of the files, as ``tar -t`` lists them (a leading ``./`` aside), none outside the folder.
            Reading stops at the last one, before the checksum at the end of a ``.gz``: check the archive's digest, or
            the files.

    Returns:
        The files' paths, in the archive's order.

    Raises:
        ValueError: a member is a link, a device or missing, or leaves the folder; the archive is damaged or none.
            Nothing is unpacked then.
        OSError: no such archive, no room on the disk.
    """
    archive, folder, wanted = Path(archive), Path(folder), {str(PurePosixPath(name)) for name in members}
    if leaving := [name for name in wanted if name.startswith("/") or ".." in PurePosixPath(name).parts]:
        raise ValueError(f"{archive}: member {leaving[0]!r} leaves the folder; nothing was unpacked")
    hidden = folder / f".{archive.name}.{os.getpid()}.tmp"
    with open(archive, "rb") as packed:
        logger.info("unpacking %s", archive)
        shutil.rmtree(hidden, ignore_errors=True)  # of a process that was killed and had the same number
        hidden.mkdir(parents=True)
        shown = {"total": archive.stat().st_size, "desc": archive.name, "delay": 1, "disable": None}
        try:
            with tqdm.wrapattr(packed, "read", **shown) as stream:
                names = _unpack(stream, hidden, wanted)
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(hidden / name, folder / name)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            problem = f"damaged, or not a .tar or .tar.gz ({error})"
            raise ValueError(f"{archive}: {problem}; nothing was unpacked") from None
        except ValueError as error:
            raise ValueError(f"{archive}: {error}; nothing was unpacked") from None
        except OSError as error:
            if error.filename is None:  # a write that fails does not say of which file
                raise OSError(error.errno, f"{error.strerror}; nothing was unpacked", str(archive)) from None
            raise
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    return [folder / name for name in names]
