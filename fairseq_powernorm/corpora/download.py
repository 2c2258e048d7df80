"""Fetching corpora: every file is checked against its SHA-256 before anything uses it."""

import hashlib
import logging
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from ..files import atomic_write

logger = logging.getLogger(__name__)

CHUNK = 1 << 20
TIMEOUT_SECONDS = 60


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check(path: str | Path, sha256: str) -> None:
    """Raises ``ValueError`` if the file's bytes are not those expected."""
    found = sha256_of(path)
    if found != sha256:
        raise ValueError(f"{path}: SHA-256 is {found}, expected {sha256}; the file is damaged or another version")


def fetch(name: str, sha256: str, folder: str | Path, base_url: str, source: str | Path | None = None) -> Path:
    """Brings one file into ``folder`` and checks it; does nothing if it is there already, whole.

    Args:
        name: the file's name, in ``folder`` and below ``base_url`` or ``source``.
        sha256: what its bytes have to hash to.
        folder: where it goes.
        base_url: an ``https://`` folder to download from.
        source: a local folder to copy from instead.

    Returns:
        The file's path.

    Raises:
        ValueError: the bytes are not those expected; nothing is kept of them.
        OSError: no such file, no network, no room.
    """
    destination = Path(folder) / name
    if destination.exists():
        check(destination, sha256)
        return destination
    if source is not None:
        origin = Path(source) / name
        if not origin.exists():
            raise FileNotFoundError(f"{origin} does not exist")
        logger.info("copying %s", origin)
        stream, size = open(origin, "rb"), origin.stat().st_size  # noqa: SIM115 (closed below)
    else:
        url = f"{base_url}/{name}"
        logger.info("downloading %s", url)
        try:
            stream = urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS)
        except urllib.error.URLError as error:
            raise OSError(f"{url}: {error.reason}; a copy at hand can be given with --from") from None
        size = int(stream.headers.get("Content-Length", 0)) or None
    digest = hashlib.sha256()
    with stream, atomic_write(destination, "wb") as output:
        with tqdm(total=size, unit="B", unit_scale=True, desc=name, disable=None) as progress:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                output.write(chunk)
                progress.update(len(chunk))
        if digest.hexdigest() != sha256:
            raise ValueError(f"{name}: SHA-256 is {digest.hexdigest()}, expected {sha256}; nothing was kept")
    return destination
