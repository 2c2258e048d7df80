"""Writes the demo's corpus: train, valid and test, in German and in English; nothing is downloaded.

python -m fairseq_powernorm.corpora.demo.corpus --destination demo/raw
"""

import argparse
import contextlib
import logging
import random
from pathlib import Path

from ...files import atomic_write, refuse_to_overwrite, run_command_line
from .sentences import random_sentence

logger = logging.getLogger(__name__)


def generate_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Generates (German, English) pairs of raw text whose German sentences all differ; millions are no problem.

    The same ``seed`` gives the same pairs on every machine.

    Raises:
        ValueError: ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}; it must be at least 1")
    generator = random.Random(seed)
    pairs: dict[str, str] = {}
    while len(pairs) < count:
        german, english = random_sentence(generator)
        pairs[german] = english
    return list(pairs.items())


def write_corpus(destination: str | Path, train: int, valid: int, test: int, seed: int, force: bool = False) -> None:
    """Writes train, valid and test as ``.de`` and ``.en`` files, one sentence a line; no German sentence is in two.

    Args:
        destination: folder of the files; made if missing.
        train, valid, test: number of sentence pairs in each.
        seed: of the random generator.
        force: replace existing files.

    Raises:
        ValueError: a size is below 1.
        FileExistsError: one of the six files exists and ``force`` is not set; nothing is written then.
    """
    sizes = {"train": train, "valid": valid, "test": test}
    for split, size in sizes.items():
        if size < 1:
            raise ValueError(f"{split} is {size} pairs; it must be at least 1")
    paths = {split: [Path(destination) / f"{split}.{language}" for language in ("de", "en")] for split in sizes}
    for both in paths.values():
        for path in both:
            refuse_to_overwrite(path, force)
    pairs = iter(generate_pairs(sum(sizes.values()), seed))
    with contextlib.ExitStack() as stack:  # all six, or (but for a crash between two renames) none
        for split, size in sizes.items():
            files = [stack.enter_context(atomic_write(path)) for path in paths[split]]
            for _ in range(size):
                for file, sentence in zip(files, next(pairs), strict=True):
                    file.write(f"{sentence}\n")
    for split, size in sizes.items():
        logger.info("wrote %d sentence pairs to %s and %s", size, *paths[split])


def main() -> None:
    """The command line; see ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m fairseq_powernorm.corpora.demo.corpus", description=__doc__)
    parser.add_argument("--destination", required=True, type=Path, metavar="DIR", help="folder; made if missing")
    for split, size in (("train", 20000), ("valid", 500), ("test", 500)):
        parser.add_argument(
            f"--{split}", type=int, default=size, metavar="PAIRS", help=f"sentence pairs in {split} (default {size})"
        )
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same corpus (default 1)")
    parser.add_argument("--force", action="store_true", help="replace existing files")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s | %(levelname)s | %(name)s | %(message)s")
    logger.info("arguments: %s", vars(arguments))
    write_corpus(**vars(arguments))


if __name__ == "__main__":
    run_command_line(main)
