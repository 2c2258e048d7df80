"""Text with odd lines of every kind ends early with its line's number, or is prepared, and then perfect is 100."""

import contextlib
import logging
import subprocess
import tempfile
from pathlib import Path

import pytest
from fairseq import options
from fairseq.data import Dictionary, data_utils
from fairseq_cli import preprocess
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fairseq_powernorm.corpora import binarize, parallel_text, sentencepiece_bpe, subword_bpe
from fairseq_powernorm.corpora.parallel_text import Steps
from fairseq_powernorm.corpora.plain_text import CONTROL_SYMBOLS
from fairseq_powernorm.files import read_lines
from fairseq_powernorm.scoring.bleu import score
from fairseq_powernorm.scoring.translations import read_translations

LANGUAGES = ("de", "en")
# All that some tool takes for a space or a line end, but for the line feed.
SPACES = [chr(code) for code in range(0x110000) if chr(code).isspace() and chr(code) != "\n"] + ["\u2581", "  ", " \r"]
# What reads as something else to some tool, or cannot be seen.
MARKS = [
    *CONTROL_SYMBOLS,
    "<",
    "s>",
    "@@",
    "@",
    "@-@",
    "##AT##-##AT##",
    "madeupword0000",
    "</w>",
    "#version:",
    "\u2047",
]
MARKS += ["#fairseq:overwrite", "&lt;", "&amp;", "|", "\\", "-", ".", "'", '"', "…", "½", "ﬁ", "Σ", "İ", "\u0301", "😀"]
MARKS += ["\ufeff", "\u200b", "\xad", "\0", "\x7f", "\u2585", "\u3164", "\ufffd", "\ue000", "\U0010ffff"]
WORDS = st.lists(st.sampled_from([*MARKS, "a", "b", "Hund", "1"]), min_size=1, max_size=3).map("".join)
LINES = st.lists(st.one_of(WORDS, st.sampled_from(SPACES)), max_size=9).map(
    lambda parts: "".join(parts[:4]) + " ".join(parts[4:])
)
PAIRS = st.tuples(LINES, LINES)
VISIBLE = st.tuples(LINES.map("{}b".format), LINES.map("a{}".format))  # a test set without a blank line, for more often
TESTS = st.one_of(st.lists(PAIRS, min_size=1, max_size=6), st.lists(VISIBLE, min_size=1, max_size=6))
PLAIN = [("der Hund sieht den Baum </s> @@ .", "the dog sees the tree <s> @@ .")] * 4

# Tokenizer, lower case, and the protocols by which a perfect translation has to have 100: of text/, and of raw/.
KINDS = {
    "plain": (
        ("none", False),
        ("tokenized", "compounds", "tokenized-lowercase"),
        ("detokenized", "detokenized-lowercase"),
    ),
    "lower case": (("none", True), ("tokenized-lowercase",), ("detokenized-lowercase",)),
    "moses": (("moses", True), ("tokenized", "tokenized-lowercase", "compounds"), ()),
}


def run_in_process(command, cwd, stdout, **options_of_run):
    """fairseq-preprocess without the seconds that a new process takes to import it."""
    assert command[1:3] == ["-m", "fairseq_cli.preprocess"]
    arguments = options.get_preprocessing_parser().parse_args(command[3:])
    arguments.workers = 1
    handlers = list(preprocess.logger.handlers)
    with contextlib.chdir(cwd):
        preprocess.main(arguments)
    for handler in set(preprocess.logger.handlers) - set(handlers):
        preprocess.logger.removeHandler(handler)
        handler.close()
    return subprocess.CompletedProcess(command, 0)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(binarize.subprocess, "run", run_in_process)
    monkeypatch.setattr(preprocess.logger, "level", logging.ERROR)


def write(folder, splits):
    folder.mkdir()
    for split, pairs in splits.items():
        for language, lines in zip(LANGUAGES, zip(*pairs, strict=True), strict=True):
            (folder / f"{split}.{language}").write_bytes("".join(f"{line}\n" for line in lines).encode())


def encode(text, destination, tool, splits):
    if tool == "subword_nmt":
        subword_bpe.encode_corpus(text, destination, LANGUAGES, splits, 30, workers=1)
        return
    characters = {
        letter for language in LANGUAGES for line in read_lines(text / f"train.{language}") for letter in line
    }
    sentencepiece_bpe.encode_corpus(text, destination, LANGUAGES, splits, len(characters) + 14, "identity")


def perfect_translations(bpe, binary, split, number, tool):
    """What fairseq-generate prints for a model that translates without a fault, in another order."""
    dictionary = Dictionary.load(str(binary / "dict.en.txt"))
    name = f"test{number or ''}.de-en.en"
    sentences = data_utils.load_indexed_dataset(str(binary / name), dictionary)
    encoded = read_lines(bpe / f"{split}.en")
    assert len(sentences) == len(encoded)
    for position in reversed(range(len(encoded))):
        tokens = sentences[position]
        assert tokens[-1] == dictionary.eos()
        assert not {dictionary.bos(), dictionary.pad(), dictionary.eos()} & set(tokens[:-1].tolist())
        text = data_utils.post_process(encoded[position], tool)
        if dictionary.unk() not in tokens:  # a model has no other words
            assert dictionary.string(tokens, tool) == text
        yield f"H-{position}\t-0.1\t{text}"
        yield f"D-{position}\t-0.1\t{text}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tool", ["subword_nmt", "sentencepiece"])
@given(train=st.lists(PAIRS, min_size=50, max_size=50), test=TESTS)
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_odd_text_ends_early_or_a_perfect_translation_has_100(tool, kind, train, test):
    (tokenizer, lowercase), of_text, of_raw = KINDS[kind]
    steps = Steps(LANGUAGES, tokenizer, lowercase)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        splits = {"train": PLAIN + train, "valid": PLAIN, "test": PLAIN, "test 2014, a": PLAIN[:1] + test}
        write(folder / "given", splits)
        try:
            names = parallel_text.write_corpus(folder, folder / "given", steps, workers=1)
        except ValueError as error:
            assert "test 2014, a." in str(error) and "line " in str(error) and "blank" in str(error)
            return
        assert names == ["train", "valid", "test", "test 2014, a"]
        encode(folder / "text", folder / "bpe", tool, names)
        binarize.binarize(folder / "bpe", folder / "bin", LANGUAGES, folder / "log")
        assert read_lines(folder / "bin" / "test_sets.txt") == names[2:]
        for number, split in enumerate(names[2:]):
            lines = perfect_translations(folder / "bpe", folder / "bin", split, number, tool)
            (folder / "generate.log").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            translations = read_translations(read_lines(folder / "generate.log"), len(splits[split]))
            assert translations == read_lines(folder / "text" / f"{split}.en")
            (folder / "hypothesis").write_text("".join(f"{line}\n" for line in translations), encoding="utf-8")
            for place, protocols in (("text", of_text), ("raw", of_raw)):
                for protocol in protocols:
                    bleu = score(folder / "hypothesis", folder / place / f"{split}.en", protocol=protocol).bleu
                    assert bleu == pytest.approx(100), protocol
