"""One idea of a space: every tool against ours, character by character."""

import io
import re
import unicodedata

import pytest
import sentencepiece
from fairseq.tokenizer import tokenize_line
from hypothesis import given
from hypothesis import strategies as st

from fairseq_powernorm.corpora.plain_text import (
    CONTROL_SYMBOLS,
    OTHER_SPACES,
    is_blank,
    names_control_symbol,
    single_spaces,
    split_control_symbols,
)
from fairseq_powernorm.scoring.protocols import PROTOCOLS

# Everything that is a space, a control or a format character to Unicode, and sentencepiece's sign with its neighbours.
CHARACTERS = [
    chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in {"Cc", "Cf", "Zl", "Zp", "Zs"}
]
CHARACTERS += [chr(code) for code in range(0x2580, 0x2588)]


@pytest.fixture(scope="module")
def identity():
    """sentencepiece without merges, and without a normalisation of its own."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c"] * 9),
        model_writer=model,
        model_type="bpe",
        vocab_size=7,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def words_of_tools(line, identity):
    """The words of a line to each tool."""
    yield "fairseq", tokenize_line(line)
    yield "str.split", line.split()
    yield "regular expressions", [word for word in re.split(r"\s+", line) if word]
    yield "sentencepiece", [word for word in re.split("[ \u2581]+", line) if word]
    yield "subword-nmt", [word for word in line.strip("\r\n ").split(" ") if word]
    for name, protocol in PROTOCOLS.items():
        if protocol.tokenize == "none":
            yield name, protocol.prepare([line])[0].split()


def test_every_character_that_a_tool_takes_for_a_space_is_one(identity):
    """And no other: a line of ours has the same words to all tools, whatever stood in it."""
    disputed = set()
    for character in CHARACTERS:
        given = f"a{character}b"
        line = single_spaces(given)
        assert len({len(words) for _, words in words_of_tools(line, identity)}) == 1, f"U+{ord(character):04X}"
        assert len(line.splitlines()) == 1
        if any(len(words) > 1 for _, words in words_of_tools(given, identity)):
            assert line == "a b" and (character == " " or OTHER_SPACES.fullmatch(character))
            disputed.add(character)
        else:
            assert line == given and len(given.splitlines()) == 1 and not OTHER_SPACES.search(given)
    assert len(disputed) == 30 and {"\r", "\x0c", "\x1c", "\x85", "\xa0", "\u2028", "\u2581"} < disputed


def test_a_line_stays_one_line():
    everything = single_spaces("".join(f"x{character}" for character in CHARACTERS))
    assert len(everything.splitlines()) == 1
    assert len(io.TextIOWrapper(io.BytesIO(everything.encode()), encoding="utf-8").readlines()) == 1
    assert not OTHER_SPACES.search(everything) and "  " not in everything


@pytest.mark.parametrize(
    "line", ["", " ", "\t\r", "\ufeff", "\u200b\u200d", "\xad", "\u3164", "\u2800", "\0\x7f", "\ufe0f"]
)
def test_blank_lines(line):
    assert is_blank(line) and not is_blank(f"{line}.")


@pytest.mark.parametrize("line", ["a", "。", "ก", "😀", "́a", "▁", "<s>", "\ue000"])
def test_lines_that_show_something(line):
    assert not is_blank(line)


@given(st.lists(st.sampled_from([*CONTROL_SYMBOLS, "a", "<", "s>", "<<unk>>"])))
def test_no_piece_is_a_control_symbol_and_nothing_is_lost(pieces):
    parts = split_control_symbols(pieces, mark="")
    assert "".join(parts) == "".join(pieces) and not set(parts) & set(CONTROL_SYMBOLS)
    marked = split_control_symbols(pieces, mark="@@")
    assert "".join(f"{part} " for part in marked).replace("@@ ", "") == "".join(f"{piece} " for piece in pieces)


def test_words_that_name_a_control_symbol():
    assert names_control_symbol("x</s>y") and names_control_symbol("<unk>")
    assert not names_control_symbol("a < s > b") and not names_control_symbol("")
