"""A joint sentencepiece BPE: learnt on both sides of the training text, applied to every split."""

import argparse
import io
import logging
from pathlib import Path

import sentencepiece
from tqdm import tqdm

from ..files import atomic_write, read_parallel_lines, run_command_line

logger = logging.getLogger(__name__)


def read_split(raw: str | Path, split: str, languages: list[str]) -> list[list[str]]:
    """The sides of one split, checked.

    Args:
        raw: folder with ``SPLIT.LANGUAGE``.
        split: the split's name.
        languages: suffixes of the sides.

    Returns:
        One list of lines per language, equally long.

    Raises:
        ValueError: the sides differ in length, a line is empty or not valid UTF-8; the message names file and line.
    """
    paths = [Path(raw) / f"{split}.{language}" for language in languages]
    sides = read_parallel_lines(*paths)
    for path, lines in zip(paths, sides, strict=True):
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                raise ValueError(f"{path}, line {number}: empty; remove the pair from every side")
    return sides


def encode_corpus(
    raw: str | Path, destination: str | Path, languages: list[str], splits: list[str], vocabulary: int
) -> None:
    """Learns the BPE and writes every split in pieces.

    Writes ``bpe.model``, and ``SPLIT.LANGUAGE`` with the pieces separated by spaces. All input is read and checked
    before anything is written.

    Args:
        raw: folder with ``SPLIT.LANGUAGE`` in raw text.
        destination: folder for the output; files that exist are replaced.
        languages: suffixes of the sides.
        splits: names of the splits; the first is the training text that the BPE is learnt on.
        vocabulary: pieces, special symbols included.

    Raises:
        ValueError: bad text (see :func:`read_split`), or more pieces asked for than the text can give.
    """
    texts = {split: read_split(raw, split, languages) for split in splits}
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
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(f"sentencepiece cannot learn {vocabulary} pieces from {raw}: {error}") from None
    with atomic_write(destination / "bpe.model", "wb") as output:
        output.write(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    for split, sides in texts.items():
        for language, lines in zip(languages, sides, strict=True):
            with atomic_write(destination / f"{split}.{language}") as output:
                for line in tqdm(lines, desc=f"{split}.{language}", unit=" lines", disable=None):
                    output.write(" ".join(processor.encode(line, out_type=str)) + "\n")
    logger.info("wrote %d splits to %s", len(texts), destination)


def main() -> None:
    """The command line of :func:`encode_corpus`."""
    parser = argparse.ArgumentParser(prog="python -m fairseq_powernorm.corpora.sentencepiece_bpe", description=__doc__)
    parser.add_argument("--raw", type=Path, required=True, help="folder with SPLIT.LANGUAGE")
    parser.add_argument("--destination", type=Path, required=True, help="folder for bpe.model and the pieces")
    parser.add_argument("--languages", default="de,en", help="suffixes of the sides (default: de,en)")
    parser.add_argument("--splits", default="train,valid,test", help="the first is learnt on (default: %(default)s)")
    parser.add_argument("--vocabulary", type=int, required=True, help="number of pieces")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    encode_corpus(
        arguments.raw,
        arguments.destination,
        arguments.languages.split(","),
        arguments.splits.split(","),
        arguments.vocabulary,
    )


if __name__ == "__main__":
    run_command_line(main)
