"""Whether a checkpoint is cut off or altered, by proof alone.

A file that cannot be read is not therefore damaged: the disk may answer late, the user may lack a permission, the
machine memory, or this package a class that the file names. Only what a file's own bytes prove counts here.
"""

import io
import os
import pickle
import pickletools
import zipfile
import zlib
from pathlib import Path
from typing import IO

import torch

ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)
"""How a file in the format of torch before 1.6, which is no zip archive, begins."""
LEGACY_PICKLES = 5  # the magic number, the version, the system, the object, the keys of its storages
BLOCK = 1 << 20


def is_archive(path: Path) -> bool:
    """Whether a file begins as a zip archive does."""
    with path.open("rb") as stream:
        return stream.read(len(ZIP_MAGIC)) == ZIP_MAGIC


def is_legacy(path: Path) -> bool:
    """Whether a file begins as those of ``torch.save`` before 1.6 do."""
    with path.open("rb") as stream:
        return stream.read(len(LEGACY_MAGIC)) == LEGACY_MAGIC


def find_damage(path: Path) -> str | None:
    """The proof that a checkpoint is cut off or altered, in words, or None if there is none.

    Reads the whole file. Proofs are: no byte in it, or nothing but zero bytes (what a power cut leaves); a zip archive
    without its directory, which is written last, or with a member whose bytes are not those of its checksum (CRC-32);
    a file of torch before 1.6 that ends within its pickles. A file that begins as no checkpoint does is not one that
    was damaged.

    Raises:
        OSError: the file cannot be read.
    """
    size = os.stat(path).st_size
    with path.open("rb") as stream:
        if size == 0:
            return "truncated (it is empty)"
        head = stream.read(max(len(ZIP_MAGIC), len(LEGACY_MAGIC)))
        if not head.strip(b"\0") and only_zeros(stream):
            return "damaged (it holds nothing but zero bytes)"
        # A cut-off file may be shorter than what it would begin with.
        if head[: len(ZIP_MAGIC)] == ZIP_MAGIC[: len(head)] or zipfile.is_zipfile(stream):
            return zip_damage(stream)
        if head == LEGACY_MAGIC[: len(head)]:
            return legacy_damage(stream)
    return None


def only_zeros(stream: IO[bytes]) -> bool:
    """Whether the rest of a file is zero bytes."""
    return not any(block.strip(b"\0") for block in iter(lambda: stream.read(BLOCK), b""))


def zip_damage(stream: IO[bytes]) -> str | None:
    """The proof that a zip archive is cut off or altered, or None."""
    try:
        if not zipfile.is_zipfile(stream):
            return "truncated (the directory at the archive's end is missing)"
        stream.seek(0)
        with zipfile.ZipFile(stream) as archive:
            # torch writes no checksums under `torch.serialization.set_crc32_options(False)`: zero, for all members.
            checked = any(member.CRC for member in archive.infolist())
            for member in archive.infolist() if checked else ():
                if checksum(archive, member) != member.CRC:
                    return f"damaged (the checksum of {member.filename} is wrong)"
    except (zipfile.BadZipFile, EOFError, zlib.error, RuntimeError, ValueError, OverflowError) as error:
        # What zipfile raises for a directory that asks for a password, for a method of compression that there is not,
        # for names that are no text or places that no file has. An OSError is the disk's.
        return f"damaged ({error or 'the archive ends within a member'})"
    return None


def checksum(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """The CRC-32 of a member's bytes."""
    found = 0
    with archive.open(member) as content:
        content._expected_crc = None  # type: ignore[attr-defined]  # compared by the caller, which knows what a zero means
        for block in iter(lambda: content.read(BLOCK), b""):
            found = zlib.crc32(block, found)
    return found


def legacy_damage(stream: IO[bytes]) -> str | None:
    """The proof that a file of torch before 1.6 is cut off within its pickles, or None: it has no checksums."""
    stream.seek(0)
    content = io.BytesIO(stream.read())
    for _ in range(LEGACY_PICKLES):
        try:
            for _ in pickletools.genops(content):
                pass
        except ValueError:
            # Cut off where the bytes ran out; a byte that is no opcode is no proof.
            return None if content.read(1) else "truncated (it ends within a pickle)"
    return None
