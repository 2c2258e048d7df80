"""Parallel text of one's own: a folder with ``SPLIT.LANGUAGE``, plain or ``.gz``, one sentence a line.

    python -m fairseq_powernorm.corpora.parallel_text --from my_corpus --destination data/my_corpus --languages de,en

The splits are ``train``, ``valid`` and every one whose name begins with ``test``. ``text/`` gets what is trained on:
single spaces between words (:mod:`.plain_text`), tokenised and lower-cased if that is asked for. ``raw/`` gets the test
sets with single spaces and nothing else, the references of detokenised BLEU. Training and validation pairs
with a blank side are left out. A blank line in a test set is an error: its lines are numbered by others too.
"""

import argparse
import functools
import logging
import math
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ..files import atomic_write, run_command_line
from . import moses
from .cleaning import clean_pair
from .parallel_lines import Row, find_splits, map_blocks, read_rows
from .plain_text import OTHER_SPACES, is_blank, names_control_symbol, single_spaces

logger = logging.getLogger(__name__)

TOKENIZERS = ("none", "moses")
BLANK, LONG, SPACES, SYMBOLS = "blank", "long", "spaces", "symbols"
SAID = {
    BLANK: "left out because a side is blank",
    LONG: "left out because of their length or ratio",
    SPACES: "with other white space than U+0020 (a carriage return, a no-break space, …), which became U+0020",
    SYMBOLS: "with <s>, <pad>, </s> or <unk>, which are split in subwords: to fairseq they are control symbols",
}


@dataclass(frozen=True)
class Steps:
    """What is done to the text.

    Attributes:
        languages: the two suffixes, source first.
        tokenizer: one of :data:`TOKENIZERS`; Moses' as :func:`.moses.tokenize` has it.
        lowercase: lower-case the text, as sacreBLEU does for ``-lc``.
        max_words: training pairs with more words on one side are left out.
        max_ratio: so are those of which one side has more than this many times the words of the other.
    """

    languages: tuple[str, str]
    tokenizer: str = "none"
    lowercase: bool = False
    max_words: float = math.inf
    max_ratio: float = math.inf

    def __post_init__(self):
        if len(self.languages) != 2 or not all(self.languages) or len(set(self.languages)) < 2:
            raise ValueError(f"expected --languages to be two, separated by a comma, got {','.join(self.languages)!r}")
        if self.tokenizer not in TOKENIZERS:
            raise ValueError(f"unknown tokenizer {self.tokenizer!r}; known are {', '.join(TOKENIZERS)}")
        if self.max_words < 1 or self.max_ratio < 1:
            raise ValueError(f"expected at least 1 word and a ratio of 1, got {self.max_words} and {self.max_ratio}")
        if self.tokenizer == "moses":
            for language in self.languages:
                moses.tokenize("", language)  # an unknown one is an error

    @property
    def filters(self) -> bool:
        """Whether training pairs may be left out for their lengths."""
        return math.isfinite(self.max_words) or math.isfinite(self.max_ratio)

    def apply(self, line: str, language: str) -> str:
        """A line with single spaces as the model gets it."""
        if self.tokenizer == "moses":
            line = single_spaces(moses.tokenize(line, language))
        return line.lower() if self.lowercase else line


@dataclass
class Block:
    """What became of a block of lines.

    Attributes:
        text: what is trained on or translated.
        raw: the same pairs with single spaces alone.
        said: the numbers of lines in the block, from 0, by what there is to say about them.
        first_blank: which side of the first blank pair is blank.
    """

    text: list[Row] = field(default_factory=list)
    raw: list[Row] = field(default_factory=list)
    said: dict[str, list[int]] = field(default_factory=dict)
    first_blank: int | None = None

    def say(self, what: str, number: int) -> None:
        """Notes a line."""
        self.said.setdefault(what, []).append(number)


def prepare_rows(rows: list[Row], steps: Steps, split: str) -> Block:
    """A block of a split's pairs, prepared, without those that are blank or that the filter leaves out."""
    block = Block()
    for number, row in enumerate(rows):
        if any(map(OTHER_SPACES.search, row)):
            block.say(SPACES, number)
        if any(map(names_control_symbol, row)):
            block.say(SYMBOLS, number)
        raw = tuple(map(single_spaces, row))
        text = tuple(map(steps.apply, raw, steps.languages))
        blank = [side for side, line in enumerate(text) if is_blank(line)]
        if blank:
            if block.first_blank is None:
                block.first_blank = blank[0]
            block.say(BLANK, number)
        elif (
            split == "train"
            and steps.filters
            and clean_pair(text[0], text[1], 1, steps.max_words, steps.max_ratio) is None
        ):
            block.say(LONG, number)
        else:
            block.text.append(text)
            block.raw.append(raw)
    return block


def prepare_split(split: str, paths: list[Path], steps: Steps, workers: int | None = None) -> Iterator[Block]:
    """The blocks of a split; logs at the end what was changed or left out, with the numbers of the first lines.

    Raises:
        ValueError: see :func:`.parallel_lines.read_rows`; a test set has a blank line, or no pair is left.
    """
    said: dict[str, list[int]] = defaultdict(list)
    read = kept = 0
    prepare = functools.partial(prepare_rows, steps=steps, split=split)
    for count, block in map_blocks(prepare, read_rows(paths), workers):
        for what, numbers in block.said.items():
            said[what] += [read + number + 1 for number in numbers]
        if BLANK in block.said and split.startswith("test"):
            raise ValueError(
                f"{paths[block.first_blank or 0]}, line {said[BLANK][0]}: blank, without a visible character; a test "
                "set needs words in every line"
            )
        read, kept = read + count, kept + len(block.text)
        yield block
    if not kept:
        raise ValueError(f"{paths[0]}: {split} holds no pair with words on both sides")
    logger.info("%s: %d pairs%s", split, kept, f" of {read}" if kept < read else "")
    for what, numbers in said.items():
        some = ", ".join(map(str, numbers[:5])) + (", …" if len(numbers) > 5 else "")
        logger.warning("%s: %d pairs %s (lines %s)", split, len(numbers), SAID[what], some)


def check_corpus(source: Path, steps: Steps) -> list[str]:
    """Reads all of the text, writes nothing, and returns the splits' names; raises what :func:`write_corpus` would."""
    splits = find_splits(source, steps.languages)
    plain = Steps(steps.languages)
    for split, paths in splits.items():
        for _ in prepare_split(split, paths, plain):
            pass
    return list(splits)


def write_corpus(destination: str | Path, source: str | Path, steps: Steps, workers: int | None = None) -> list[str]:
    """Writes ``text/SPLIT.LANGUAGE`` for every split, and ``raw/SPLIT.LANGUAGE`` for the test sets.

    Args:
        destination: folder; files that exist in its two folders are made again, those of other splits are removed.
        source: the folder with the text.
        steps: what is done to it.
        workers: processes; all cores by default.

    Returns:
        The splits' names: ``train``, ``valid``, and the test sets.

    Raises:
        ValueError: see :func:`.parallel_lines.find_splits` and :func:`prepare_split`.
        OSError: a file is missing, or the disk fails.
    """
    text, raw = Path(destination) / "text", Path(destination) / "raw"
    splits = find_splits(Path(source), steps.languages)
    if Path(source).resolve() in (text.resolve(), raw.resolve()):
        raise ValueError(f"{source} is both the text and where it is to be written")
    for folder in (text, raw):
        for path in folder.glob("*") if folder.is_dir() else ():
            if path.is_file():
                path.unlink()
    for split, paths in splits.items():
        names = [f"{split}.{language}" for language in steps.languages]
        with ExitStack() as stack:
            text_streams = [stack.enter_context(atomic_write(text / name)) for name in names]
            raw_streams = [stack.enter_context(atomic_write(raw / name)) for name in names if split.startswith("test")]
            for block in prepare_split(split, paths, steps, workers):
                for streams, rows in ((text_streams, block.text), (raw_streams, block.raw)):
                    for stream, column in zip(streams, zip(*rows, strict=True), strict=False):
                        stream.writelines(f"{line}\n" for line in column)
    return list(splits)


def main() -> None:
    """The command line of :func:`write_corpus`; without a destination prints the splits, one a line."""
    parser = argparse.ArgumentParser(prog="python -m fairseq_powernorm.corpora.parallel_text", description=__doc__)
    parser.add_argument("--from", dest="source", type=Path, required=True, help="folder with SPLIT.LANGUAGE[.gz]")
    parser.add_argument("--destination", type=Path, help="folder for text/ and raw/; without it only looks")
    parser.add_argument("--languages", required=True, help="two, source first, such as de,en")
    parser.add_argument("--tokenizer", choices=TOKENIZERS, default="none", help="(default: %(default)s)")
    parser.add_argument("--lowercase", action="store_true", help="lower-case the text")
    parser.add_argument("--max-words", type=int, default=math.inf, help="leave longer training pairs out")
    parser.add_argument("--max-ratio", type=float, default=math.inf, help="leave unequal training pairs out")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR if options.destination is None else logging.INFO, format="%(message)s")
    languages = tuple(options.languages.split(","))
    steps = Steps(languages, options.tokenizer, options.lowercase, options.max_words, options.max_ratio)
    if options.destination is None:
        sys.stdout.writelines(f"{split}\n" for split in check_corpus(options.source, steps))
    else:
        write_corpus(options.destination, options.source, steps)


if __name__ == "__main__":
    run_command_line(main)
