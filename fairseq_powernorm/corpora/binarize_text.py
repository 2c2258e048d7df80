"""fairseq-preprocess for language models, with its input checked before and its output compared with the input after.

    python -m fairseq_powernorm.corpora.binarize_text --text data/ptb/raw --destination data-bin/ptb --log x.log

The dictionary is that of ``train.txt``. The folder appears whole, at the end.
"""

import argparse
import logging
import shutil
from pathlib import Path

from ..files import run_command_line
from .binarize import compare_lines, run_preprocess
from .language_model_text import SPLITS
from .parallel_lines import read_rows
from .plain_text import CONTROL_SYMBOLS, FAIRSEQ_SPACES

logger = logging.getLogger(__name__)

FORBIDDEN = tuple(symbol for symbol in CONTROL_SYMBOLS if symbol != "<unk>")  # which is what a text means by it


def check_text(paths: list[Path]) -> None:
    """Checks that fairseq will read every line and word as it is written. A line may be empty.

    Raises:
        ValueError: a text without words, white space that is neither U+0020 nor the end of a line, or one of fairseq's
            control symbols other than ``<unk>``; the message names file and line.
        OSError: a file is missing.
    """
    for path in paths:
        words = 0
        for number, (line,) in enumerate(read_rows([path]), start=1):
            found = line.split()
            words += len(found)
            if (space := FAIRSEQ_SPACES.search(line)) is not None:
                raise ValueError(f"{path}, line {number}: white space other than U+0020, {space[0]!r}")
            if (symbol := next((symbol for symbol in FORBIDDEN if symbol in found), None)) is not None:
                raise ValueError(f"{path}, line {number}: {symbol} is one of fairseq's control symbols")
        if not words:
            raise ValueError(f"{path}: empty, expected a text of one sentence a line")


def check_binary(paths: dict[str, Path], folder: Path) -> None:
    """Compares fairseq's binary form with the text: numbers and lengths of all lines, the words of a sample.

    Raises:
        ValueError: they differ; the message names file and line.
    """
    from fairseq.data import Dictionary, data_utils

    dictionary = Dictionary.load(str(folder / "dict.txt"))
    for split, path in paths.items():
        lines = data_utils.load_indexed_dataset(str(folder / split), dictionary)
        if lines is None:
            raise ValueError(f"fairseq-preprocess wrote no {folder / split}")
        compare_lines(path, lines, dictionary)
        logger.info("%s: %d lines, %d tokens with the ends of lines", split, len(lines), int(lines.sizes.sum()))


def binarize_text(text: Path, destination: Path, log: Path) -> None:
    """Writes fairseq's binary form of ``train.txt``, ``valid.txt`` and ``test.txt``; the folder appears whole.

    Args:
        text: folder with the three files.
        destination: the folder, replaced where it exists.
        log: where the output of fairseq-preprocess goes.

    Raises:
        ValueError: see :func:`check_text` and :func:`check_binary`; or fairseq-preprocess failed.
        OSError: a file is missing, or the disk fails.
    """
    paths = {split: (text / f"{split}.txt").absolute() for split in SPLITS}
    check_text([*paths.values()])
    unfinished = destination.with_name(f"{destination.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    prefixes = [word for split, path in paths.items() for word in (f"--{split}pref", str(path))]
    run_preprocess(["--only-source", *prefixes], unfinished, log)
    check_binary(paths, unfinished)
    shutil.rmtree(destination, ignore_errors=True)
    unfinished.rename(destination)
    logger.info("%s: read back and compared", destination)


def main() -> None:
    """The command line of :func:`binarize_text`."""
    parser = argparse.ArgumentParser(prog="python -m fairseq_powernorm.corpora.binarize_text")
    parser.add_argument("--text", type=Path, required=True, help="folder with train.txt, valid.txt and test.txt")
    parser.add_argument("--destination", type=Path, required=True, help="folder for the binary form, replaced")
    parser.add_argument("--log", type=Path, required=True, help="file for the output of fairseq-preprocess")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("fairseq").setLevel(logging.WARNING)  # it says what it loads, and what is not installed
    binarize_text(arguments.text, arguments.destination, arguments.log)


if __name__ == "__main__":
    run_command_line(main)
