"""fairseq-preprocess, with its input checked before and its output compared with the input after.

    python -m fairseq_powernorm.corpora.binarize --text data/x/bpe --destination data-bin/x --languages de,en

One dictionary for both languages; the folder appears whole, at the end. Its ``test_sets.txt`` names the test sets, one
a line, in the order of fairseq's numbers (``test``, ``test1``, …). ``--languages txt`` is for language models: a side,
``SPLIT.txt``, with the dictionary of ``train.txt``, in which a line may be empty and ``<unk>`` is the unknown word.
"""

import argparse
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..files import atomic_write, run_command_line
from .parallel_lines import find_splits, number_of_workers, read_rows
from .plain_text import CONTROL_SYMBOLS, FAIRSEQ_SPACES

logger = logging.getLogger(__name__)

POSITIONS = 1024  # fairseq's default of --max-source-positions and --max-target-positions
LINES_READ_BACK = 1000  # of each side of a split, evenly spaced; the lengths of all lines are compared


def fairseq_names(splits: dict[str, list[Path]]) -> dict[str, str]:
    """What fairseq calls each split: test sets are numbered, the first without a number."""
    tests = [split for split in splits if split not in ("train", "valid")]
    return {"train": "train", "valid": "valid"} | {split: f"test{number or ''}" for number, split in enumerate(tests)}


def check_text(splits: dict[str, list[Path]]) -> None:
    """Checks that fairseq will read every line and word as it is written.

    Raises:
        ValueError: sides of different lengths, no words in a file or in a line of a pair, white space other than U+0020
            (at which fairseq would split words or lines), or one of fairseq's control symbols; the message names file
            and line.
    """
    for split, paths in splits.items():
        parallel = len(paths) > 1
        forbidden = [symbol for symbol in CONTROL_SYMBOLS if parallel or symbol != "<unk>"]
        rows = filled = too_long = 0
        for rows, row in enumerate(read_rows(paths), start=1):
            for path, line in zip(paths, row, strict=True):
                words = line.split(" ")
                filled += bool(line.strip())
                if parallel and not line.strip():
                    raise ValueError(f"{path}, line {rows}: empty")
                if (found := FAIRSEQ_SPACES.search(line)) is not None:
                    raise ValueError(f"{path}, line {rows}: white space other than U+0020, {found[0]!r}")
                if (symbol := next((symbol for symbol in forbidden if symbol in words), None)) is not None:
                    raise ValueError(f"{path}, line {rows}: {symbol} is one of fairseq's control symbols")
                if parallel and len(words) >= POSITIONS:
                    too_long += 1
                    if split != "train":
                        logger.warning(
                            "%s, line %d: %d subwords, which a model of fairseq's default %d positions cannot take",
                            *(path, rows, len(words), POSITIONS),
                        )
        if not filled:
            raise ValueError(f"{paths[0]}: empty, expected a text of one sentence a line")
        if too_long and split == "train":
            logger.warning(
                "%s: %d sentences of more than %d subwords; a training leaves them out", split, too_long, POSITIONS - 1
            )


def check_binary(splits: dict[str, list[Path]], languages: list[str], folder: Path) -> None:
    """Compares fairseq's binary form with the text: numbers and lengths of all sentences, the words of a sample.

    Args:
        splits: see :func:`.parallel_lines.find_splits`.
        languages: the suffixes, source first.
        folder: what fairseq-preprocess wrote.

    Raises:
        ValueError: they differ; the message names file and line.
    """
    from fairseq.data import Dictionary, data_utils

    for split, name in fairseq_names(splits).items():
        for path, language in zip(splits[split], languages, strict=True):
            suffixes = (f".{language}", f".{'-'.join(languages)}.{language}") if len(languages) > 1 else ("", "")
            dictionary = Dictionary.load(str(folder / f"dict{suffixes[0]}.txt"))
            prefix = folder / f"{name}{suffixes[1]}"
            sentences = data_utils.load_indexed_dataset(str(prefix), dictionary)
            if sentences is None:
                raise ValueError(f"fairseq-preprocess wrote no {prefix}")
            compare_lines(path, sentences, dictionary)
            logger.info("%s: %d lines, %d tokens with their ends", path, len(sentences), int(sentences.sizes.sum()))


def compare_lines(path: Path, sentences: Any, dictionary: Any) -> None:
    """Compares a text with fairseq's dataset of it: every line's length, and the words of some.

    Raises:
        ValueError: they differ; the message names the line.
    """
    step, lines = max(1, len(sentences) // LINES_READ_BACK), 0
    for lines, (line,) in enumerate(read_rows([path]), start=1):
        words = line.split()
        if lines > len(sentences) or sentences.sizes[lines - 1] != len(words) + 1:
            raise ValueError(f"{path}, line {lines}: fairseq-preprocess read another line there")
        expected = [*map(dictionary.index, words), dictionary.eos()]
        if (lines - 1) % step == 0 and sentences[lines - 1].tolist() != expected:
            raise ValueError(f"{path}, line {lines}: fairseq-preprocess read other words there")
    if lines != len(sentences):
        raise ValueError(f"{path} has {lines} lines, {len(sentences)} sentences were made of it")


def preprocess(splits: dict[str, list[Path]], languages: list[str], destination: Path, log: Path) -> None:
    """Runs fairseq-preprocess, with as many workers as there are cores, on files of any name: it takes test sets joined
    by commas, so it gets links to them.

    Raises:
        ValueError: it failed; the message has the last line of its log.
    """
    names = fairseq_names(splits)
    tests = ",".join(name for name in names.values() if name.startswith("test"))
    command = [sys.executable, "-m", "fairseq_cli.preprocess", "--destdir", str(destination.absolute())]
    command += ["--trainpref", "train", "--validpref", "valid", "--testpref", tests]
    # Of N workers fairseq runs N - 1 side by side, and the last one after them.
    command += ["--workers", str(2 * number_of_workers())]
    if len(languages) > 1:
        command += ["--joined-dictionary", "--source-lang", languages[0], "--target-lang", languages[1]]
    else:
        command += ["--only-source"]
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONUTF8": "1"}
    with tempfile.TemporaryDirectory() as links, open(log, "wb") as output:
        for split, paths in splits.items():
            for path, language in zip(paths, languages, strict=True):
                name = f"{names[split]}.{language}" if len(languages) > 1 else names[split]
                (Path(links) / name).symlink_to(path.absolute())
        done = subprocess.run(command, cwd=links, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
        raise ValueError(f"fairseq-preprocess failed, see {log}: {last}")


def binarize(text: Path, destination: Path, languages: list[str], log: Path) -> None:
    """Writes fairseq's binary form of every split and ``test_sets.txt``; the folder appears whole, or not at all.

    Args:
        text: folder with ``SPLIT.LANGUAGE`` in subwords, or ``SPLIT.txt``.
        destination: the folder, replaced where it exists.
        languages: the suffixes, source first; for a language model one.
        log: where the output of fairseq-preprocess goes.

    Raises:
        ValueError: see :func:`check_text`, :func:`check_binary`, :func:`preprocess`.
        OSError: a file is missing, or the disk fails.
    """
    splits = find_splits(text, languages)
    check_text(splits)
    unfinished = destination.with_name(f"{destination.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    preprocess(splits, languages, unfinished, log)
    check_binary(splits, languages, unfinished)
    with atomic_write(unfinished / "test_sets.txt") as stream:
        stream.writelines(f"{split}\n" for split in splits if split not in ("train", "valid"))
    shutil.rmtree(destination, ignore_errors=True)
    unfinished.rename(destination)
    logger.info("%s: read back and compared, test sets %s", destination, ", ".join(list(splits)[2:]))


def main() -> None:
    """The command line of :func:`binarize`."""
    parser = argparse.ArgumentParser(prog="python -m fairseq_powernorm.corpora.binarize", description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="folder with SPLIT.LANGUAGE in subwords")
    parser.add_argument("--destination", type=Path, required=True, help="folder for the binary form, replaced")
    parser.add_argument(
        "--languages", default="de,en", help="source first (default: %(default)s); txt for language models"
    )
    parser.add_argument("--log", type=Path, required=True, help="file for the output of fairseq-preprocess")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("fairseq").setLevel(logging.WARNING)  # it says what it loads, and what is not installed
    binarize(arguments.text, arguments.destination, arguments.languages.split(","), arguments.log)


if __name__ == "__main__":
    run_command_line(main)
