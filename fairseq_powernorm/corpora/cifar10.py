"""CIFAR-10 (Krizhevsky 2009): 60,000 images of 32 × 32 pixels in ten classes.

    python -m fairseq_powernorm.corpora.cifar10 --destination data/cifar10 [--from DIR]

It comes as the official archive for Python, packed or unpacked, or as ``train.npz`` and ``test.npz`` of JPEG images,
whose pixels differ from the official ones: what is written says which it was.
"""

import argparse
import io
import itertools
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ..files import atomic_write, run_command_line
from .archives import extract
from .download import RemoteFile, fetch_all

logger = logging.getLogger(__name__)

ARCHIVE = RemoteFile("cifar-10-python.tar.gz", ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",))
FOLDER = "cifar-10-batches-py"
PARTS = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
COUNTS = {"train": 50_000, "test": 10_000}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FIRST_LABELS = (6, 9, 9, 4, 1, 1, 2, 7)  # of the official training set
OFFICIAL, JPEG = "CIFAR-10", "CIFAR-10, JPEG copy"
HARMLESS = {  # what the official pickles name, by Python 2's names and by today's
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),  # of bytes, as Python 3 writes them for Python 2
}


class ArraysOnly(pickle.Unpickler):
    """Reads pickles of arrays, and refuses any that names something else."""

    def find_class(self, module: str, name: str) -> Any:
        """As ``pickle.Unpickler``; raises ``UnpicklingError`` for what is not in :data:`HARMLESS`."""
        if (module, name) not in HARMLESS:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not let through")
        return super().find_class(module.replace("numpy._core", "numpy.core"), name)


def read_part(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 3, 32, 32), uint8, and labels (N,), int64, of one file of the official archive.

    Raises:
        ValueError: it is no such file.
    """
    try:
        with open(path, "rb") as stream:
            content = ArraysOnly(stream, encoding="bytes").load()
        pixels, labels = np.asarray(content[b"data"]), np.asarray(content[b"labels"], dtype=np.int64)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(f"{path} is not a file of CIFAR-10's archive for Python ({error})") from None
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3072):
        raise ValueError(f"{path}: expected (N, 3072) uint8, got {pixels.shape} {pixels.dtype}")
    return pixels.reshape(-1, 3, 32, 32), labels


def read_official(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """All images of a split of the unpacked official archive.

    Raises:
        ValueError: the first labels are not the published ones.
    """
    parts = [read_part(folder / name) for name in PARTS[split]]
    pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    if split == "train" and tuple(labels[: len(FIRST_LABELS)]) != FIRST_LABELS:
        raise ValueError(f"{folder}: the labels begin with {labels[: len(FIRST_LABELS)]}, not {FIRST_LABELS}")
    return pixels, labels


def read_jpeg(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """All images of ``train.npz`` or ``test.npz`` with the arrays ``jpeg`` (the files one after another), ``offset``
    (N + 1), ``label`` and ``classes``.

    Raises:
        ValueError: the file holds something else.
    """
    from PIL import Image

    try:
        with np.load(path, allow_pickle=False) as arrays:
            jpeg, offset, labels = arrays["jpeg"].tobytes(), arrays["offset"], arrays["label"].astype(np.int64)
            classes = tuple(map(str, arrays["classes"]))
        found = [np.asarray(Image.open(io.BytesIO(jpeg[a:b]))) for a, b in itertools.pairwise(offset)]
        pixels = np.stack(found).transpose(0, 3, 1, 2)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path} is not a file of CIFAR-10 as JPEG images ({error})") from None
    if classes != CLASSES:
        raise ValueError(f"{path}: the classes are {', '.join(classes)}; expected {', '.join(CLASSES)}")
    return np.ascontiguousarray(pixels), labels


def interleave(labels: np.ndarray) -> np.ndarray:
    """An order in which the first image of each class comes first, then the second of each: any multiple of ten images
    has as many of each class."""
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        chosen = np.flatnonzero(labels == label)
        rank[chosen] = np.arange(len(chosen))
    return np.lexsort((labels, rank))


def write_images(destination: str | Path, source: str | Path | None = None) -> None:
    """Writes ``train.npz`` and ``test.npz`` with ``pixels`` (N, 3, 32, 32), ``labels`` and ``source``.

    Args:
        destination: folder for them.
        source: a folder with the official archive, packed or unpacked, or with the JPEG copy; downloaded if None.

    Raises:
        ValueError: there is neither, or the number of images of a class is not the published one.
        OSError: the network or the disk fails.
    """
    destination = Path(destination)
    folder, jpeg = find_source(destination, None if source is None else Path(source))
    for split, count in COUNTS.items():
        pixels, labels = read_jpeg(folder / f"{split}.npz") if jpeg else read_official(folder, split)
        found = np.bincount(labels, minlength=len(CLASSES))
        if len(labels) != count or (found != count // len(CLASSES)).any():
            raise ValueError(f"{folder}, {split}: expected {count // len(CLASSES)} images of each class, got {found}")
        order = interleave(labels)
        with atomic_write(destination / f"{split}.npz", "wb") as stream:
            np.savez(stream, pixels=pixels[order], labels=labels[order], source=JPEG if jpeg else OFFICIAL)
        logger.info("%s: %d images (%s)", split, count, JPEG if jpeg else OFFICIAL)


def find_source(destination: Path, source: Path | None) -> tuple[Path, bool]:
    """The folder of the unpacked archive, or of the JPEG copy, and whether it is that.

    Raises:
        ValueError: no such thing in ``source``.
    """
    if source is not None and not source.is_dir():
        raise FileNotFoundError(f"{source}: no such folder")
    if source is not None and not (source / ARCHIVE.name).exists():
        for folder in (source, source / FOLDER):
            if (folder / PARTS["test"][0]).exists():
                return folder, False
        if all((source / f"{split}.npz").exists() for split in COUNTS):
            return source, True
        raise ValueError(f"{source} has neither {ARCHIVE.name} nor {FOLDER} nor train.npz and test.npz")
    fetch_all((ARCHIVE,), destination / "archives", source)
    members = [f"{FOLDER}/{name}" for names in PARTS.values() for name in names]
    extract(destination / "archives" / ARCHIVE.name, destination / "archives", members)
    return destination / "archives" / FOLDER, False


def main() -> None:
    """The command line of :func:`write_images`."""
    parser = argparse.ArgumentParser(prog="python -m fairseq_powernorm.corpora.cifar10", description=__doc__)
    parser.add_argument("--destination", type=Path, required=True, help="folder for train.npz and test.npz")
    parser.add_argument("--from", dest="source", type=Path, help="folder with a copy, instead of a download")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write_images(arguments.destination, arguments.source)


if __name__ == "__main__":
    run_command_line(main)
