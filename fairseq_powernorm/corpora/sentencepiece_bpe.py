"""A joint sentencepiece BPE: learnt on both sides of the training text, applied to every split.

    python -m fairseq_powernorm.corpora.sentencepiece_bpe --text data/x/text --destination data/x/bpe --vocabulary 8000

All white space becomes U+0020 first (:mod:`.plain_text`), and a piece that is one of fairseq's control symbols is split
in two. The normalisation ``identity`` changes nothing else, so the text can be restored from its pieces; ``nmt_nfkc``,
sentencepiece's default, replaces characters such as ``…`` by ``...``.
"""

import argparse
import io
import logging
from pathlib import Path

import sentencepiece
from tqdm import tqdm

from ..files import atomic_write, read_parallel_lines, run_command_line
from .parallel_lines import find_splits
from .plain_text import is_blank, single_spaces, split_control_symbols

logger = logging.getLogger(__name__)

NORMALIZATIONS = ("nmt_nfkc", "identity")


def read_split(text: str | Path, split: str, languages: list[str]) -> list[list[str]]:
    """The sides of one split, checked, with single spaces between words.

    Args:
        text: folder with ``SPLIT.LANGUAGE``.
        split: the split's name.
        languages: suffixes of the sides.

    Returns:
        One list of lines per language, equally long.

    Raises:
        ValueError: the sides differ in length, a line is blank or not valid UTF-8; the message names file and line.
    """
    paths = [Path(text) / f"{split}.{language}" for language in languages]
    sides = read_parallel_lines(*paths)
    for path, lines in zip(paths, sides, strict=True):
        for number, line in enumerate(lines, start=1):
            if is_blank(line):
                raise ValueError(f"{path}, line {number}: empty, no visible character; remove the pair from both")
    return [[single_spaces(line) for line in lines] for lines in sides]


def encode_corpus(
    text: str | Path,
    destination: str | Path,
    languages: list[str],
    splits: list[str],
    vocabulary: int,
    normalization: str = "nmt_nfkc",
) -> None:
    """Learns the BPE and writes every split in pieces.

    Writes ``bpe.model``, and ``SPLIT.LANGUAGE`` with the pieces separated by spaces. All input is read and checked
    before anything is written.

    Args:
        text: folder with ``SPLIT.LANGUAGE``.
        destination: folder for the output; files that exist are replaced.
        languages: suffixes of the sides.
        splits: names of the splits; the first is the training text that the BPE is learnt on.
        vocabulary: pieces, special symbols included.
        normalization: what sentencepiece does to the text first, one of :data:`NORMALIZATIONS`.

    Raises:
        ValueError: bad text (see :func:`read_split`), or more pieces asked for than the text can give.
    """
    texts = {split: read_split(text, split, languages) for split in splits}
    destination = Path(destination)
    model = io.BytesIO()
    training_lines = [line for side in texts[splits[0]] for line in side]
    logger.info("learning %d pieces from %d sentences", vocabulary, len(training_lines))
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(training_lines),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocabulary,
            character_coverage=1.0,
            normalization_rule_name=normalization,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(f"sentencepiece cannot learn {vocabulary} pieces from {text}: {error}") from None
    with atomic_write(destination / "bpe.model", "wb") as output:
        output.write(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    for split, sides in texts.items():
        for language, lines in zip(languages, sides, strict=True):
            with atomic_write(destination / f"{split}.{language}") as output:
                for line in tqdm(lines, desc=f"{split}.{language}", unit=" lines", disable=None):
                    pieces = split_control_symbols(processor.encode(line, out_type=str), mark="")
                    output.write(" ".join(pieces) + "\n")
    logger.info("wrote %d splits to %s", len(texts), destination)


def main() -> None:
    """The command line of :func:`encode_corpus`."""
    parser = argparse.ArgumentParser(prog="python -m fairseq_powernorm.corpora.sentencepiece_bpe", description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="folder with SPLIT.LANGUAGE")
    parser.add_argument("--destination", type=Path, required=True, help="folder for bpe.model and the pieces")
    parser.add_argument("--languages", default="de,en", help="suffixes of the sides (default: de,en)")
    parser.add_argument("--splits", nargs="+", help="the first is learnt on (default: train, valid and all test sets)")
    parser.add_argument("--vocabulary", type=int, required=True, help="number of pieces")
    parser.add_argument("--normalization", choices=NORMALIZATIONS, default="nmt_nfkc", help="(default: %(default)s)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    languages = arguments.languages.split(",")
    encode_corpus(
        arguments.text,
        arguments.destination,
        languages,
        arguments.splits or list(find_splits(arguments.text, languages)),
        arguments.vocabulary,
        arguments.normalization,
    )


if __name__ == "__main__":
    run_command_line(main)
