"""WMT14 English-German: from the archives to the tokens of 4.5 million pairs, and to the references of the test.

    python -m fairseq_powernorm.corpora.wmt14 --destination data/wmt14_en_de

Training text: Europarl v7, Common Crawl and News Commentary v12, by Moses' normalize-punctuation,
remove-non-printing-char and tokenizer -a (hyphens split), pairs of 1 to 80 tokens. Validation: newstest2013; test:
newstest2014 with its 3003 sentences. The references that the papers' BLEU is computed with are Moses' tokens with
hyphens left whole (``reference/``), and sacreBLEU's are the sentences as they were (``raw/``).
"""

import argparse
import functools
import logging
import shutil
from pathlib import Path

from ..files import atomic_write, check_room_to_grow, read_lines, run_command_line
from . import moses
from .archives import extract
from .cleaning import clean_pair
from .download import RemoteFile, digest_of, fetch_all
from .iwslt14 import segments
from .parallel_lines import Row, map_lines, read_rows

logger = logging.getLogger(__name__)

LANGUAGES = ("en", "de")
MINIMUM_TOKENS, MAXIMUM_TOKENS = 1, 80


def _on_statmt(path: str) -> tuple[str, ...]:
    """The addresses of a file that statmt.org and its data server both have."""
    return tuple(f"{start}/{path}" for start in ("https://www.statmt.org", "http://statmt.org"))


EUROPARL = RemoteFile(
    name="training-parallel-europarl-v7.tgz",
    urls=_on_statmt("wmt13/training-parallel-europarl-v7.tgz"),
    size=657_632_379,
    sha256="0224c7c710c8a063dfd893b0cc0830202d61f4c75c17eb8e31836103d27d96e7",
)
COMMON_CRAWL = RemoteFile(
    name="training-parallel-commoncrawl.tgz",
    urls=_on_statmt("wmt13/training-parallel-commoncrawl.tgz"),
    size=918_311_367,
    sha256="c7a74e2ea01ac6c920123108627e35278d4ccb5701e15428ffa34de86fa3a9e5",
)
NEWS_COMMENTARY = RemoteFile(
    name="training-parallel-nc-v12.tgz",
    urls=(
        "https://data.statmt.org/wmt17/translation-task/training-parallel-nc-v12.tgz",
        "http://data.statmt.org/wmt17/translation-task/training-parallel-nc-v12.tgz",
    ),
    size=168_591_139,
    sha256="2b45f30ef1d550d302fd17dd3a5cbe19134ccc4c2cf50c2dae534aee600101a2",
)
DEVELOPMENT = RemoteFile(  # checked by the MD5s of the two files that are taken out of it
    name="dev.tgz",
    urls=(
        "https://data.statmt.org/wmt17/translation-task/dev.tgz",
        "http://data.statmt.org/wmt17/translation-task/dev.tgz",
    ),
)
TEST = RemoteFile(
    name="test-full.tgz",
    urls=_on_statmt("wmt14/test-full.tgz"),
    md5="a8cd784e006feb32ac6f3d9ec7eb389a",
)
TRAINING_TEXT = {
    EUROPARL: "training/europarl-v7.de-en.{language}",
    COMMON_CRAWL: "commoncrawl.de-en.{language}",
    NEWS_COMMENTARY: "training/news-commentary-v12.de-en.{language}",
}
DEVELOPMENT_TEXT = {
    "dev/newstest2013.de": "872891e01855b43f2a87155e0c1d2076",
    "dev/newstest2013.en": "23be23d7b9bd5ad1f2ebd076484332c9",
}
TEST_TEXT = {"en": "test-full/newstest2014-deen-src.en.sgm", "de": "test-full/newstest2014-deen-ref.de.sgm"}
SENTENCES = {"valid": 3000, "test": 3003}
DISK_BYTES = 10e9  # archives, text before and after tokenisation, subwords and binary form; asked for at the start


def prepare_line(line: str, language: str) -> str:
    """A line as the model sees it: punctuation normalised (’ to ' too), printable, tokenised with hyphens split."""
    printable = moses.remove_non_printing(moses.normalize_punctuation(line, language))
    return moses.tokenize(printable, language, aggressive=True)


def prepare_training_pairs(rows: list[Row]) -> list[Row]:
    """A block of the training text, prepared and cleaned."""
    pairs = (tuple(map(prepare_line, row, LANGUAGES)) for row in rows)
    cleaned = (clean_pair(source, target, MINIMUM_TOKENS, MAXIMUM_TOKENS) for source, target in pairs)
    return [pair for pair in cleaned if pair is not None]


def prepare_pairs(rows: list[Row]) -> list[Row]:
    """A block of validation or test text, prepared; every pair stays."""
    return [tuple(map(prepare_line, row, LANGUAGES)) for row in rows]


def tokenize_references(rows: list[Row], language: str) -> list[Row]:
    """A block of references as the papers' BLEU wants them: Moses' tokens, hyphens whole."""
    return [(moses.tokenize(line, language),) for (line,) in rows]


def write_training_text(original: Path, tokenized: Path) -> None:
    """Writes ``train``: a part for each corpus, finished ones kept, then all of them one after the other."""
    parts = []
    for remote, pattern in TRAINING_TEXT.items():
        name = Path(pattern).name.split(".")[0]
        outputs = [tokenized / "parts" / f"{name}.{language}" for language in LANGUAGES]
        parts.append(outputs)
        if all(path.exists() for path in outputs):
            logger.info("%s is tokenised already", name)
            continue
        sources = [original / pattern.format(language=language) for language in LANGUAGES]
        read, kept = map_lines(prepare_training_pairs, read_rows(sources), outputs, name)
        logger.info("%s (%s): %d of %d pairs kept", name, remote.name, kept, read)
    for side, language in enumerate(LANGUAGES):
        with atomic_write(tokenized / f"train.{language}", "wb") as output:
            for part in parts:
                with open(part[side], "rb") as stream:
                    shutil.copyfileobj(stream, output)


def write_valid_and_test_text(original: Path, tokenized: Path, raw: Path, reference: Path) -> None:
    """Writes ``valid`` and ``test``: tokens for the model, the sentences as they were, the reference's tokens.

    Raises:
        ValueError: a set has another number of sentences than it should.
    """
    sentences = {
        "valid": [read_lines(original / f"dev/newstest2013.{language}") for language in LANGUAGES],
        "test": [list(segments(original / TEST_TEXT[language])) for language in LANGUAGES],
    }
    for split, sides in sentences.items():
        for language, lines in zip(LANGUAGES, sides, strict=True):
            if len(lines) != SENTENCES[split]:
                raise ValueError(f"{split}.{language}: {len(lines)} sentences, expected {SENTENCES[split]}")
            with atomic_write(raw / f"{split}.{language}") as stream:
                stream.writelines(f"{line}\n" for line in lines)
        outputs = [tokenized / f"{split}.{language}" for language in LANGUAGES]
        map_lines(prepare_pairs, zip(*sides, strict=True), outputs, split)
        tokenize = functools.partial(tokenize_references, language=LANGUAGES[1])
        rows = ((line,) for line in sides[1])
        map_lines(tokenize, rows, [reference / f"{split}.{LANGUAGES[1]}"], f"{split} reference")


def write_corpus(destination: str | Path, source: str | Path | None = None) -> None:
    """Fetches the archives and writes ``tokenized/SPLIT.LANGUAGE``, ``raw/`` and ``reference/``.

    What was finished before an interruption is not done again: archives, and each corpus of the training text.

    Args:
        destination: the folder.
        source: a folder that holds the five archives; downloaded if None.

    Raises:
        ValueError: a checksum or a number of lines is not the known one.
        OSError: a file is missing, the network fails, or the disk has no room for the whole preparation.
    """
    destination = Path(destination)
    original, tokenized = destination / "original", destination / "tokenized"
    check_room_to_grow(DISK_BYTES, destination)
    wanted = {
        remote: {pattern.format(language=language) for language in LANGUAGES}
        for remote, pattern in TRAINING_TEXT.items()
    }
    wanted |= {DEVELOPMENT: set(DEVELOPMENT_TEXT), TEST: set(TEST_TEXT.values())}
    archives = fetch_all(list(wanted), destination / "archives", source)
    for archive, members in zip(archives, wanted.values(), strict=True):
        if not all((original / member).exists() for member in members):
            extract(archive, original, members)
    for name, md5 in DEVELOPMENT_TEXT.items():
        if (found := digest_of(original / name, "md5")) != md5:
            (original / name).unlink()
            raise ValueError(f"{name} of {DEVELOPMENT.name}: MD5 is {found}, expected {md5}")
    write_valid_and_test_text(original, tokenized, destination / "raw", destination / "reference")
    write_training_text(original, tokenized)


def main() -> None:
    """The command line of :func:`write_corpus`."""
    parser = argparse.ArgumentParser(prog="python -m fairseq_powernorm.corpora.wmt14", description=__doc__)
    parser.add_argument("--destination", type=Path, required=True, help="folder for tokenized/, raw/ and reference/")
    parser.add_argument("--from", dest="source", type=Path, help="folder with the archives, instead of a download")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write_corpus(arguments.destination, arguments.source)


if __name__ == "__main__":
    run_command_line(main)
