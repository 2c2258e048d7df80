"""Multi30k, task 1: image captions with human translations (Elliott et al. 2016), raw German and English text."""

import argparse
import gzip
import logging
from pathlib import Path

from ..files import atomic_write, read_parallel_lines, run_command_line
from .download import RemoteFile, fetch_all

logger = logging.getLogger(__name__)

BASE_URL = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw"
LANGUAGES = ("de", "en")

SPLITS = {
    # ours: (theirs, pairs)
    "train": ("train", 29000),
    "valid": ("val", 1014),
    "test_2016_flickr": ("test_2016_flickr", 1000),
    "test_2017_flickr": ("test_2017_flickr", 1000),
    "test_2017_mscoco": ("test_2017_mscoco", 461),
    "test_2018_flickr": ("test_2018_flickr", 1071),
}

SIZE_AND_SHA256 = {
    "test_2016_flickr.de.gz": (22890, "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8"),
    "test_2016_flickr.en.gz": (21077, "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9"),
    "test_2017_flickr.de.gz": (21471, "a2c89666db00c495cd8513b9d708d5a3acc205d7de312ef2bf5fb7ebc1540aee"),
    "test_2017_flickr.en.gz": (19138, "76a444ee25172e72695cddb13ae4a3bda59430617be88e0bb46b60504f054074"),
    "test_2017_mscoco.de.gz": (10230, "799e4854c25d601cb6cb6be29eabe5667734c61ace2f495e03e429031a0bc338"),
    "test_2017_mscoco.en.gz": (8844, "aab300bfb4427697987e02cd0aacd44bfe8aa50456231b6474c08038bbed2b58"),
    "test_2018_flickr.de.gz": (26461, "ddd0130c7d97482dc5197a02141dae8dd79f20f03586c480d675c09a32daf608"),
    "test_2018_flickr.en.gz": (23514, "ef4f4844037d4c5dea75c9a8ed5fd78905967a26f67c255e230cc9780032654d"),
    "train.de.gz": (637044, "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"),
    "train.en.gz": (568929, "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"),
    "val.de.gz": (24681, "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"),
    "val.en.gz": (21650, "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"),
}
ARCHIVES = tuple(
    RemoteFile(name, (f"{BASE_URL}/{name}",), size, sha256) for name, (size, sha256) in SIZE_AND_SHA256.items()
)


def write_corpus(destination: str | Path, source: str | Path | None = None) -> None:
    """Writes ``SPLIT.de`` and ``SPLIT.en``, one raw sentence a line, and keeps the archives in ``archives/``.

    Args:
        destination: folder for the text; files that exist are made again.
        source: a folder that holds the dataset's ``.gz`` files; downloaded if None.

    Raises:
        ValueError: a size, a checksum or the number of pairs is not the known one.
        OSError: a file is missing, the network or the disk fails.
    """
    destination = Path(destination)
    fetch_all(ARCHIVES, destination / "archives", source)
    for split, (name, pairs) in SPLITS.items():
        for language in LANGUAGES:
            archive = destination / "archives" / f"{name}.{language}.gz"
            with gzip.open(archive) as packed, atomic_write(destination / f"{split}.{language}", "wb") as output:
                output.write(packed.read())
        sides = read_parallel_lines(*(destination / f"{split}.{language}" for language in LANGUAGES))
        if len(sides[0]) != pairs:
            raise ValueError(f"{split}: expected {pairs} pairs, got {len(sides[0])}")
        logger.info("%s: %d pairs", split, pairs)


def main() -> None:
    """The command line of :func:`write_corpus`."""
    parser = argparse.ArgumentParser(prog="python -m fairseq_powernorm.corpora.multi30k", description=__doc__)
    parser.add_argument("--destination", type=Path, required=True, help="folder for SPLIT.de and SPLIT.en")
    parser.add_argument("--from", dest="source", type=Path, help="folder with the .gz files, instead of a download")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write_corpus(arguments.destination, arguments.source)


if __name__ == "__main__":
    run_command_line(main)
