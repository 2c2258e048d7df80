"""Parallel text of one's own: a folder with ``SPLIT.LANGUAGE``, plain or ``.gz``, one sentence a line.

    python -m fairseq_powernorm.corpora.parallel_text --from my_corpus --destination data/my_corpus --languages de,en

The splits are ``train``, ``valid`` and every one whose name begins with ``test``, in the order of their names. The text
is taken as it is: tokenised or not, cased or not. Training and validation pairs that have no word on one side are left
out; test sets stay whole, since their lines are numbered by others too.
"""

import argparse
import gzip
import logging
import shutil
import sys
import zlib
from pathlib import Path

from ..files import atomic_write, read_parallel_lines, run_command_line

logger = logging.getLogger(__name__)


def find_splits(folder: Path, languages: list[str]) -> dict[str, list[Path]]:
    """The files of every split, one for each language.

    Raises:
        ValueError: a split without a side, with a side twice, no training or validation text, or no test set.
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
    tests = [split for split in found if split.startswith("test")]
    if not tests:
        raise ValueError(f"{folder} holds no test set, such as test.{languages[0]} and test.{languages[1]}")
    return {split: [found[split][language] for language in languages] for split in ("train", "valid", *tests)}


def unpack(source: Path, destination: Path) -> None:
    """Copies a file, unpacked if its name ends in ``.gz``.

    Raises:
        ValueError: it is not gzip, or damaged.
    """
    try:
        opener = gzip.open if source.suffix == ".gz" else open
        with opener(source, "rb") as stream, atomic_write(destination, "wb") as output:
            shutil.copyfileobj(stream, output)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{source}: damaged, or not gzip ({error})") from None


def write_corpus(destination: str | Path, source: str | Path, languages: list[str]) -> list[str]:
    """Writes ``SPLIT.LANGUAGE`` for every split.

    Args:
        destination: folder for the text; files that exist are made again, those of other splits are removed.
        source: the folder with the text.
        languages: the two suffixes, source language first.

    Returns:
        The splits' names: ``train``, ``valid``, and the test sets.

    Raises:
        ValueError: see :func:`find_splits`; sides of different lengths, text that is not UTF-8, or no pair left.
        OSError: a file is missing, or the disk fails.
    """
    destination = Path(destination)
    splits = find_splits(Path(source), languages)
    if destination.resolve() == Path(source).resolve():
        raise ValueError(f"{source} is both the text and where it is to be written")
    names = {f"{split}.{language}" for split in splits for language in languages}
    for path in destination.glob("*") if destination.is_dir() else ():
        if path.is_file() and path.name not in names:
            path.unlink()
    for split, paths in splits.items():
        outputs = [destination / f"{split}.{language}" for language in languages]
        for path, output in zip(paths, outputs, strict=True):
            unpack(path, output)
        try:
            pairs = list(zip(*read_parallel_lines(*outputs), strict=True))
        except ValueError as error:
            text = str(error)
            for path, output in zip(paths, outputs, strict=True):
                text = text.replace(str(output), str(path))  # the file that can be mended
            raise ValueError(text) from None
        kept = pairs if split.startswith("test") else [pair for pair in pairs if all(line.strip() for line in pair)]
        if not kept:
            raise ValueError(f"{paths[0]}: {split} holds no pair with words on both sides")
        if len(kept) < len(pairs):
            for output, lines in zip(outputs, zip(*kept, strict=True), strict=True):
                with atomic_write(output) as stream:
                    stream.writelines(f"{line}\n" for line in lines)
        left_out = f", {len(pairs) - len(kept)} without words on one side left out" if len(kept) < len(pairs) else ""
        logger.info("%s: %d pairs%s", split, len(kept), left_out)
    return list(splits)


def main() -> None:
    """The command line of :func:`write_corpus`; prints the splits, separated by commas."""
    parser = argparse.ArgumentParser(prog="python -m fairseq_powernorm.corpora.parallel_text", description=__doc__)
    parser.add_argument("--from", dest="source", type=Path, required=True, help="folder with SPLIT.LANGUAGE[.gz]")
    parser.add_argument("--destination", type=Path, help="folder for SPLIT.LANGUAGE; without it only looks")
    parser.add_argument("--languages", required=True, help="two, source first, such as de,en")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    languages = arguments.languages.split(",")
    if len(languages) != 2 or not all(languages) or len(set(languages)) < 2:
        raise ValueError(f"expected --languages to be two, separated by a comma, got {arguments.languages!r}")
    if arguments.destination is None:
        splits = list(find_splits(arguments.source, languages))
    else:
        splits = write_corpus(arguments.destination, arguments.source, languages)
    sys.stdout.write(",".join(splits) + "\n")


if __name__ == "__main__":
    run_command_line(main)
