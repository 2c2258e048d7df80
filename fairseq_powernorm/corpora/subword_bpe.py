"""Joint byte-pair encoding (Sennrich et al. 2016) by subword-nmt: merges learnt on both sides, or given, and applied.

    python -m fairseq_powernorm.corpora.subword_bpe --text data/x/tokenized --destination data/x/bpe --merges 10000

The merges are those of ``subword-nmt learn-bpe`` on the training text of all languages, one after the other, and the
text that of ``subword-nmt apply-bpe``; what is ours is that words are counted and split by all cores. Two things that
fairseq would misread differ: words end at all of fairseq's white space, and a subword is split in two if it is one of
fairseq's control symbols, or the last of its word and ends in ``@@``.
"""

import argparse
import functools
import io
import logging
import shutil
from collections import Counter
from pathlib import Path

from subword_nmt.apply_bpe import BPE
from subword_nmt.learn_bpe import learn_bpe
from tqdm import tqdm

from ..files import atomic_write, read_lines, run_command_line
from .parallel_lines import Row, find_splits, map_blocks, map_lines, read_rows
from .plain_text import FAIRSEQ_SPACES, names_control_symbol, split_control_symbols

logger = logging.getLogger(__name__)

SEPARATOR = "@@"
WORDS_REMEMBERED = 200_000  # split words that a process keeps, some 100 MB


def count_words(rows: list[Row]) -> Counter[str]:
    """How often each word stands in a block of lines; words are what fairseq takes for one."""
    return Counter(word for row in rows for line in row for word in line.split())


def learn_merges(paths: list[Path], merges: int, workers: int | None = None) -> str:
    """The merges of ``subword-nmt learn-bpe -s MERGES`` on the concatenation of files.

    Args:
        paths: tokenised text.
        merges: how many; fewer come out where no pair is left that stands twice.
        workers: processes that count words; learning takes one.

    Returns:
        The content of a file of codes.

    Raises:
        ValueError: text without words, or not UTF-8.
    """
    words: Counter[str] = Counter()
    for path in paths:
        with tqdm(desc=f"words of {path.name}", unit=" lines", unit_scale=True, disable=None) as progress:
            for lines, counted in map_blocks(count_words, read_rows([path]), workers):
                words.update(counted)
                progress.update(lines)
    if not words:
        raise ValueError(f"no words in {', '.join(map(str, paths))}")
    logger.info("learning %d merges from %d words, %d different", merges, words.total(), len(words))
    codes = io.StringIO()
    learn_bpe((f"{word} {count}\n" for word, count in words.items()), codes, merges, is_dict=True)
    return codes.getvalue()


@functools.cache
def read_codes(path: Path) -> BPE:
    """The encoder of a file of codes, read once a process.

    Raises:
        ValueError: the file is not one that ``subword-nmt learn-bpe`` writes.
    """
    lines = read_lines(path)
    if not lines or not lines[0].startswith("#version:"):
        raise ValueError(f"{path}: not a file of BPE merges, its first line is not #version: …")
    wrong = next((number for number, line in enumerate(lines[1:], start=2) if len(line.split(" ")) != 2), None)
    if wrong is not None:
        raise ValueError(f"{path}, line {wrong}: {lines[wrong - 1]!r} is not a merge of two symbols")
    if len(lines) < 2:
        raise ValueError(f"{path}: holds no merges; is there no pair of letters that the text has twice?")
    return BPE(io.StringIO("".join(f"{line}\n" for line in lines)))


def encode_line(line: str, bpe: BPE) -> str:
    """A line in subwords, ``@@`` behind those that a word goes on after."""
    if FAIRSEQ_SPACES.search(line):
        line = " ".join(line.split())
    encoded = bpe.process_line(line)
    if "@@" not in line and not names_control_symbol(line):
        return encoded
    pieces = []
    for word in line.split():
        *first, last = split_control_symbols(bpe.segment_tokens([word]), mark=SEPARATOR)
        pieces += first
        pieces += [last[:-1] + SEPARATOR, last[-1]] if last.endswith(SEPARATOR) else [last]
    return " ".join(pieces)


def encode(rows: list[Row], codes: Path) -> list[Row]:
    """:func:`encode_line` of a block of lines."""
    bpe = read_codes(codes)
    if len(bpe.cache) > WORDS_REMEMBERED:  # it would grow to all the words there are, in every process
        bpe.cache.clear()
    return [tuple(encode_line(line, bpe) for line in row) for row in rows]


def encode_corpus(
    text: Path,
    destination: Path,
    languages: list[str],
    splits: list[str],
    merges: int,
    codes: Path | None = None,
    workers: int | None = None,
    learn_only: bool = False,
) -> None:
    """Learns or copies the merges and writes every split in subwords.

    Writes ``codes``, ``merges.txt`` (what was asked for), and ``SPLIT.LANGUAGE`` for every split. What was finished
    before an interruption is not done again: the codes, and each split.

    Args:
        text: folder with ``SPLIT.LANGUAGE``, tokenised.
        destination: folder for the output.
        languages: suffixes of the sides.
        splits: names; the first is the training text that the merges are learnt on.
        merges: how many to learn, above 0.
        codes: a file of merges to take instead.
        workers: processes; all cores by default.
        learn_only: stop before the splits.

    Raises:
        ValueError: bad text, or a bad file of codes; text or codes lie in ``destination``, which other codes empty; or
            other merges are there.
        OSError: a file is missing, or no room.
    """
    own_codes = destination / "codes"
    for given in (text, codes):
        if given and given.resolve() != own_codes.resolve() and given.resolve().is_relative_to(destination.resolve()):
            raise ValueError(f"{given} lies in {destination}, where the subwords go; name another folder for either")
    if merges < 1:
        raise ValueError(f"expected a number of merges above 0, got {merges}")
    made = destination / "merges.txt"  # how many were asked for, or that they were given
    asked = "given" if codes is not None else str(merges)
    if codes is None and own_codes.exists() and made.exists() and (found := made.read_text("utf-8").strip()) != asked:
        there = "merges that were given" if found == "given" else f"{found} merges"
        raise ValueError(
            f"{own_codes} holds {there}, asked for {asked} to be learnt; remove {destination}, or give --force to the "
            "script"
        )
    if codes is not None:
        read_codes(codes)
        destination.mkdir(parents=True, exist_ok=True)
        if own_codes.exists() and own_codes.read_bytes() != codes.read_bytes():
            shutil.rmtree(destination)  # splits in it are of other codes
        with atomic_write(made) as stream:
            stream.write(f"{asked}\n")
        with open(codes, "rb") as source, atomic_write(own_codes, "wb") as output:
            shutil.copyfileobj(source, output)
    elif own_codes.exists():
        logger.info("%s is there already", own_codes)
    else:
        learnt = learn_merges([text / f"{splits[0]}.{language}" for language in languages], merges, workers)
        with atomic_write(made) as stream:
            stream.write(f"{asked}\n")
        with atomic_write(own_codes) as stream:
            stream.write(learnt)
    for split in [] if learn_only else splits:
        outputs = [destination / f"{split}.{language}" for language in languages]
        if all(path.exists() for path in outputs):
            logger.info("%s: %s is there already", destination, split)
            continue
        rows = read_rows([text / f"{split}.{language}" for language in languages])
        pairs, _ = map_lines(functools.partial(encode, codes=own_codes), rows, outputs, f"{split} in subwords", workers)
        logger.info("%s: %d pairs in subwords", split, pairs)


def main() -> None:
    """The command line of :func:`encode_corpus`."""
    parser = argparse.ArgumentParser(prog="python -m fairseq_powernorm.corpora.subword_bpe", description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="folder with SPLIT.LANGUAGE, tokenised")
    parser.add_argument("--destination", type=Path, required=True, help="folder for codes and SPLIT.LANGUAGE")
    parser.add_argument("--languages", default="de,en", help="in the order they are learnt on (default: de,en)")
    parser.add_argument("--splits", nargs="+", help="the first is learnt on (default: train, valid and all test sets)")
    parser.add_argument("--merges", type=int, required=True, help="how many to learn")
    parser.add_argument("--codes", type=Path, help="a file of merges to take instead of learning them")
    parser.add_argument("--learn-only", action="store_true", help="write the codes and stop")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    languages = arguments.languages.split(",")
    encode_corpus(
        arguments.text,
        arguments.destination,
        languages,
        arguments.splits or list(find_splits(arguments.text, languages)),
        arguments.merges,
        arguments.codes,
        learn_only=arguments.learn_only,
    )


if __name__ == "__main__":
    run_command_line(main)
