"""IWSLT14 German-English, TED talks (Cettolo et al. 2014): from the archive to lower-cased tokens, as everyone has it.

    python -m fairseq_powernorm.corpora.iwslt14 --destination data/iwslt14_de_en

The steps are those of fairseq's prepare-iwslt14.sh, by which the published figures were made: Moses' tokenizer, pairs
of 1 to 175 tokens with a ratio of at most 1.5, lower case, every 23rd pair for validation, five official sets for the
test.
"""

import argparse
import functools
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..files import atomic_write, check_room_to_grow, read_lines, run_command_line
from . import moses
from .archives import extract
from .cleaning import clean_pair
from .download import RemoteFile, digest_of, fetch
from .parallel_lines import Row, map_lines, read_rows

logger = logging.getLogger(__name__)

LANGUAGES = ("de", "en")
ARCHIVE = RemoteFile(
    name="de-en.tgz",
    urls=(
        "https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz",
        "http://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz",
        "https://wit3.fbk.eu/archive/2014-01/texts/de/en/de-en.tgz",
    ),
    size=19_982_877,
    md5="10936dfdf616504ddbd844e91b94ef4a",
)
TRAINING_TEXT = "de-en/train.tags.de-en.{language}"
TEST_SETS = {
    # name: sentences; in the order of the test set
    "IWSLT14.TED.dev2010": 887,
    "IWSLT14.TEDX.dev2012": 1165,
    "IWSLT14.TED.tst2010": 1565,
    "IWSLT14.TED.tst2011": 1433,
    "IWSLT14.TED.tst2012": 1700,
}
TEST_SET_TEXT = "de-en/{name}.de-en.{language}.xml"
MINIMUM_TOKENS, MAXIMUM_TOKENS, MAXIMUM_RATIO = 1, 175, 1.5
PAIRS_PER_VALIDATION_PAIR = 23

PAIRS = {"train": 160_239, "valid": 7_283, "test": 6_750}
MD5 = {
    "test.de": "0112fd69eacd47e34cd3df11698ff5bc",
    "test.en": "6478cd81d3e2f679fe72c32d43ef659e",
    "valid.de": "953cd9a0d85f996861f8f77d93e67f72",
    "valid.en": "481d704963d0a48c29c8822df0c30630",
}
REFERENCE_WORDS = 131_156
DISK_BYTES = 300e6  # archive, text before and after tokenisation, subwords and binary form; asked for at the start

MARKS = re.compile(r"</?(?:title|description)>")
NOT_TEXT = ("<url>", "<talkid>", "<keywords>")
SEGMENT_START = re.compile(r'<seg id="[0-9]*">\s*', re.ASCII)  # as sed has it, a no-break space is no space
SEGMENT_END = re.compile(r"\s*</seg>\s*", re.ASCII)


def is_not_text(line: str) -> bool:
    """Whether a line of the training text holds a talk's address, number or keywords."""
    return any(mark in line for mark in NOT_TEXT)


def segments(path: Path) -> Iterator[str]:
    """The sentences of a test set's XML or SGML, without their marks."""
    for (line,) in read_rows([path]):
        if "<seg id" in line:
            yield SEGMENT_END.sub("", SEGMENT_START.sub("", line))


def prepare_training_pairs(rows: list[Row]) -> list[Row]:
    """A block of the training text, tokenised, cleaned (on the tokens as they are) and lower-cased."""
    kept = []
    for row in rows:
        tokens = [moses.tokenize(MARKS.sub("", line), language) for line, language in zip(row, LANGUAGES, strict=True)]
        pair = clean_pair(tokens[0], tokens[1], MINIMUM_TOKENS, MAXIMUM_TOKENS, MAXIMUM_RATIO)
        if pair is not None:
            kept.append(tuple(moses.lowercase(side) for side in pair))
    return kept


def prepare_sentences(rows: list[Row], language: str) -> list[Row]:
    """A block of a test set's sentences in one language, tokenised and lower-cased; ’ becomes ' as everyone has it."""
    return [(moses.lowercase(moses.tokenize(line.replace("’", "'"), language)),) for (line,) in rows]


def write_training_text(original: Path, destination: Path) -> None:
    """Writes ``train`` and ``valid``: every 23rd pair of the cleaned training text is for validation."""
    both = [destination / f".all.{language}" for language in LANGUAGES]
    sources = [original / TRAINING_TEXT.format(language=language) for language in LANGUAGES]
    read, kept = map_lines(prepare_training_pairs, read_rows(sources, is_not_text), both, "training text")
    logger.info("training text: %d of %d pairs kept", kept, read)
    for language, path in zip(LANGUAGES, both, strict=True):
        train, valid = destination / f"train.{language}", destination / f"valid.{language}"
        with atomic_write(train) as train_stream, atomic_write(valid) as valid_stream:
            for number, (line,) in enumerate(read_rows([path]), start=1):
                (train_stream if number % PAIRS_PER_VALIDATION_PAIR else valid_stream).write(f"{line}\n")
        path.unlink()


def write_test_text(original: Path, destination: Path, raw: Path) -> None:
    """Writes ``test``, the five official sets one after the other: tokens, and the sentences as they were.

    Raises:
        ValueError: a set has another number of sentences than it should.
    """
    for language in LANGUAGES:
        sentences = []
        for name, count in TEST_SETS.items():
            path = original / TEST_SET_TEXT.format(name=name, language=language)
            found = list(segments(path))
            if len(found) != count:
                raise ValueError(f"{path}: {len(found)} sentences, expected {count}")
            sentences += found
        with atomic_write(raw / f"test.{language}") as stream:
            stream.writelines(f"{sentence}\n" for sentence in sentences)
        function = functools.partial(prepare_sentences, language=language)
        rows = ((sentence,) for sentence in sentences)
        map_lines(function, rows, [destination / f"test.{language}"], f"test.{language}")


def check(folder: Path) -> None:
    """Compares the prepared text with what is known of it: numbers of pairs, MD5s, words of the reference.

    Raises:
        ValueError: something differs; the message names file, value and what was expected.
    """
    for split, pairs in PAIRS.items():
        for language in LANGUAGES:
            found = len(read_lines(folder / f"{split}.{language}"))
            if found != pairs:
                raise ValueError(f"{folder}/{split}.{language}: {found} lines, expected {pairs}")
    for name, md5 in MD5.items():
        if (digest := digest_of(folder / name, "md5")) != md5:
            raise ValueError(f"{folder}/{name}: MD5 is {digest}, the official preparation's is {md5}")
    words = sum(len(line.split(" ")) for line in read_lines(folder / "test.en"))
    if words != REFERENCE_WORDS:
        raise ValueError(f"{folder}/test.en: {words} words, expected {REFERENCE_WORDS}")
    logger.info("%s: pairs, MD5s and the %d reference words are those of the official preparation", folder, words)


def write_corpus(destination: str | Path, source: str | Path | None = None, any_archive: bool = False) -> None:
    """Fetches the archive and writes ``tokenized/SPLIT.LANGUAGE`` and ``raw/test.LANGUAGE``.

    Args:
        destination: folder; what exists in it is made again, but for the archive.
        source: a folder that holds ``de-en.tgz``; downloaded if None.
        any_archive: take an archive of another size or checksum too; the prepared text is checked in any case.

    Raises:
        ValueError: a checksum, a number of lines or a text is not the known one.
        OSError: a file is missing, the network fails, or the disk has no room for the whole preparation.
    """
    destination = Path(destination)
    check_room_to_grow(DISK_BYTES, destination)
    remote = replace(ARCHIVE, size=None, md5=None) if any_archive else ARCHIVE
    archive = fetch(remote, destination / "archives", source)
    members = {TRAINING_TEXT.format(language=language) for language in LANGUAGES}
    members |= {TEST_SET_TEXT.format(name=name, language=language) for name in TEST_SETS for language in LANGUAGES}
    original, tokenized = destination / "original", destination / "tokenized"
    extract(archive, original, members)
    write_test_text(original, tokenized, destination / "raw")
    write_training_text(original, tokenized)
    check(tokenized)


def main() -> None:
    """The command line of :func:`write_corpus`."""
    parser = argparse.ArgumentParser(prog="python -m fairseq_powernorm.corpora.iwslt14", description=__doc__)
    parser.add_argument("--destination", type=Path, required=True, help="folder for tokenized/ and raw/")
    parser.add_argument("--from", dest="source", type=Path, help="folder with de-en.tgz, instead of a download")
    parser.add_argument(
        "--any-archive",
        action="store_true",
        help="take an archive of another size or checksum; the prepared text is checked in any case",
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write_corpus(arguments.destination, arguments.source, arguments.any_archive)


if __name__ == "__main__":
    run_command_line(main)
