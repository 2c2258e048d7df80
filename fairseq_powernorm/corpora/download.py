"""Fetching corpora: a file has its final name only once its size and digest are those expected.

What arrives is kept as ``NAME.part`` and the next call goes on from there; the digest is taken from what lies on the
disk, when all of it does. It is not remembered between calls: reading a gigabyte again takes seconds, a preparation
hours, and a note that says "checked" would outlive the file that it spoke of.
"""

import hashlib
import http.client
import logging
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..files import atomic_write, check_free_space, exclusive

logger = logging.getLogger(__name__)

CHUNK = 1 << 20
TIMEOUT_SECONDS = 60
RETRY_PAUSES = (1, 5, 15, 30)  # seconds before another request to an address whose connection broke
_BYTES = {"unit": "B", "unit_scale": True, "disable": None}  # how progress is shown


class _AddressFailed(Exception):
    """One address does not give the file; the next may."""


class _ConnectionBroke(_AddressFailed):
    """The same address may give the rest."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a corpus, and how to tell that it has arrived whole.

    Attributes:
        name: the file's name, without a folder.
        urls: ``http://`` and ``https://`` addresses, tried in this order.
        size: bytes; None if not known.
        sha256: in lower-case hexadecimal; None if not known.
        md5: the same; looked at where ``sha256`` is not known. With neither, the size decides; with no size either,
            whatever arrives is taken with a warning, and the caller has to check what is in it.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @property
    def digest(self) -> tuple[str, str] | None:
        """The strongest known digest: ``hashlib``'s name of it, and its value."""
        return ("sha256", self.sha256) if self.sha256 else ("md5", self.md5) if self.md5 else None


def digest_of(path: str | Path, algorithm: str = "sha256") -> str:
    """A digest of a file's bytes in hexadecimal, by ``hashlib``'s name; shows its progress if it takes long."""
    digest, size = hashlib.new(algorithm, usedforsecurity=False), Path(path).stat().st_size
    with open(path, "rb") as stream, tqdm(desc=f"checking {path}", total=size, delay=1, **_BYTES) as progress:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            progress.update(len(chunk))
    return digest.hexdigest()


def _check(path: Path, remote: RemoteFile, name: str | Path | None = None, content: bool = True) -> None:
    """Raises ``ValueError`` that speaks of ``name`` if the size or, with ``content``, the digest is not as expected."""
    problem, size = "", path.stat().st_size
    if remote.size not in (None, size):
        problem = f"{size} bytes, expected {remote.size}"
    elif content and remote.digest is not None:
        algorithm, expected = remote.digest
        if (found := digest_of(path, algorithm)) != expected:
            label = {"sha256": "SHA-256", "md5": "MD5"}[algorithm]
            problem = f"{label} is {found}, expected {expected}"
    if problem:
        raise ValueError(f"{name or path}: {problem}; the file is damaged or another version")


def _check_present(path: Path, remote: RemoteFile, content: bool = True) -> None:
    """:func:`_check` for a file that was there before; nobody's file is removed, so the message says what to do."""
    try:
        _check(path, remote, content=content)
    except ValueError as error:
        raise ValueError(f"{error}; remove it, or give --from, to have it replaced") from None


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _bytes_to_come(remote: RemoteFile, folder: Path, source: Path | None) -> int:
    """How much is still to be written, as far as known; raises for what can be seen to be wrong without reading."""
    if source is None and (folder / remote.name).exists():
        _check_present(folder / remote.name, remote, content=False)
        return 0
    if source is not None:
        if not source.is_dir():
            raise FileNotFoundError(f"{source}: no such folder")
        if not (source / remote.name).exists():
            raise FileNotFoundError(f"{source / remote.name} does not exist")
        _check(source / remote.name, remote, content=False)
        return _size_of(source / remote.name)
    return max(0, (remote.size or 0) - _size_of(folder / f"{remote.name}.part"))


def _request(url: str, have: int) -> http.client.HTTPResponse | None:
    """Asks for what follows the first ``have`` bytes; None if nothing does."""
    headers = {"User-Agent": "fairseq-powernorm"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # range not satisfiable
            return None
        raise _AddressFailed(f"HTTP status {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _ConnectionBroke(str(getattr(error, "reason", error)) or type(error).__name__) from None


def _start_and_total(response: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """At which byte the answer starts, and how long the whole file is by what the server says."""
    length = response.headers.get("Content-Length", "")
    if response.status == 200:
        return 0, int(length) if length.isdecimal() else None  # the whole file, whether or not a part was asked for
    content_range = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", content_range)
    if response.status != 206 or not match or int(match[1]) != have:  # None after a redirection to ftp:
        raise _AddressFailed(f"asked for the bytes from {have} on, got HTTP status {response.status} {content_range}")
    return have, int(match[2])


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK)  # what has arrived, so that a break loses nothing of it
    except (OSError, http.client.HTTPException) as error:
        raise _ConnectionBroke(str(error) or type(error).__name__) from None


def _receive(url: str, remote: RemoteFile, part: Path) -> None:
    """One request: adds to ``part`` what it lacks, or makes it anew where the server gives only the whole."""
    have = _size_of(part)
    if (have and have == remote.size) or (response := _request(url, have)) is None:
        return
    with response:
        start, total = _start_and_total(response, have)
        expected = total if remote.size is None else remote.size
        if total not in (None, expected):
            raise _AddressFailed(f"the server announces {total} bytes, expected {expected}")
        check_free_space(part.parent, (expected or 0) - have)
        bar = tqdm(desc=remote.name, total=expected, initial=start, **_BYTES)
        try:
            with bar, open(part, "ab" if start else "wb") as output:
                while chunk := _read(response):
                    if expected is not None and output.tell() + len(chunk) > expected:
                        part.unlink()
                        raise _AddressFailed(f"the server sends more than the {expected} bytes expected; removed")
                    output.write(chunk)
                    bar.update(len(chunk))
                output.flush()
                os.fsync(output.fileno())
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}; what arrived is kept", str(part)) from None
    if expected is not None and _size_of(part) < expected:
        raise _ConnectionBroke(f"the connection broke after {_size_of(part)} of {expected} bytes")


def _receive_with_retries(url: str, remote: RemoteFile, part: Path) -> None:
    """Requests until ``part`` is whole, with pauses."""
    before, pauses = _size_of(part), iter(RETRY_PAUSES)
    while True:
        try:
            return _receive(url, remote, part)
        except _ConnectionBroke as failure:
            pause = next(pauses, None)
            if pause is None or _size_of(part) == before:  # nothing came at all: the next address is the better bet
                raise
            logger.warning("%s: %s; going on in %s s", url, failure, pause)
            time.sleep(pause)


def _download_from(url: str, remote: RemoteFile, part: Path) -> None:
    """Completes and checks ``part``; where it is wrong and was not all from here, once more from the beginning."""
    have = _size_of(part)
    if have and (remote.digest is None or (remote.size is not None and have > remote.size)):
        logger.warning("%s is removed: longer than the whole, or no digest tells whether it belongs to %s", part, url)
        part.unlink()
        have = 0
    try:
        _receive_with_retries(url, remote, part)
        _check(part, remote, part.name)
    except ValueError as error:
        part.unlink()
        if not have:
            raise _AddressFailed(f"{error}; removed") from None
        logger.warning("%s; removed and begun again, as it held what had arrived before", error)
        _download_from(url, remote, part)


def _download(remote: RemoteFile, folder: Path) -> None:
    part, failures = folder / f"{remote.name}.part", []
    for url in remote.urls:
        logger.info("downloading %s", url)
        try:
            _download_from(url, remote, part)
            os.replace(part, folder / remote.name)
            return
        except _AddressFailed as failure:
            logger.warning("%s: %s", url, failure)
            failures.append(f"{url}: {failure}")
    reasons = "; ".join(failures) or "no address is known"
    raise OSError(f"{remote.name} could not be downloaded ({reasons}); --from DIR takes a copy at hand")


def _copy(remote: RemoteFile, folder: Path, source: Path) -> None:
    logger.info("copying %s", source / remote.name)
    with open(source / remote.name, "rb") as stream, atomic_write(folder / remote.name, "wb") as output:
        shutil.copyfileobj(stream, output, CHUNK)
        output.flush()
        _check(Path(output.name), remote, source / remote.name)
    (folder / f"{remote.name}.part").unlink(missing_ok=True)


def fetch(remote: RemoteFile, folder: str | Path, source: str | Path | None = None) -> Path:
    """Brings one file into ``folder`` (only checks it if it is there already) and gives its path. A file that is there
    gives way to a copy from ``source``; without one it is an error, and stays, if it is not the right one.

    A download that was cut short goes on from what arrived, in this call or the next, at the same address or another.

    Args:
        remote: what to bring.
        folder: where it goes; made if need be.
        source: a local folder to copy it from instead.

    Raises:
        ValueError: the file that is there, or the one to copy, is not the one expected; a wrong copy is not kept.
        OSError: no such file, every address fails, no room.
    """
    folder, source = Path(folder), None if source is None else Path(source)
    check_free_space(folder, _bytes_to_come(remote, folder, source))
    with exclusive(folder):  # a second process waits, and then finds the file there
        destination = folder / remote.name
        if source is None and destination.exists():
            _check_present(destination, remote)
            return destination
        if remote.size is None and remote.digest is None:
            logger.warning("%s: neither size nor digest is known, so it is taken as it comes", remote.name)
        if source is None:
            _download(remote, folder)
        else:
            _copy(remote, folder, source)
        return destination


def fetch_all(remotes: Sequence[RemoteFile], folder: str | Path, source: str | Path | None = None) -> list[Path]:
    """:func:`fetch` for each; files to copy, sizes and room for all are looked at before the first byte is fetched."""
    folder, source = Path(folder), None if source is None else Path(source)
    check_free_space(folder, sum(_bytes_to_come(remote, folder, source) for remote in remotes))
    return [fetch(remote, folder, source) for remote in remotes]
