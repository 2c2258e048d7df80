"""Moses' cleaning of a parallel corpus in Python."""

import itertools

import pytest

from fairseq_powernorm.corpora.cleaning import clean_pair
from fairseq_powernorm.files import read_lines


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a b", "a b"),
        ("  a \t\t b  ", "a b"),
        ("a\xa0\u3000b\u2028", "a b"),
        ("a\x1cb \x1f", "a\x1cb \x1f"),  # separators are no space in Perl
        ("a | b|c", "a bc"),
        ("&#124; a", "&#124; a"),
        ("a\u200bb \xad", "a\u200bb \xad"),
    ],
)
def test_what_is_printed(source, expected):
    assert clean_pair(source, "a b", 1, 80) == (expected, "a b")
    assert clean_pair("a b", source, 1, 80) == ("a b", expected)


@pytest.mark.parametrize("empty", ["", " ", "\t\xa0", "|", " | "])
def test_empty_lines_are_dropped(empty):
    assert clean_pair(empty, "a", 0, 80) is None
    assert clean_pair("a", empty, 0, 80) is None
    assert clean_pair(empty, empty, 0, 80) is None


def words(count):
    return " ".join(["ä"] * count)


@pytest.mark.parametrize(
    ("source", "target", "minimum", "maximum", "ratio", "kept"),
    [
        (1, 1, 1, 80, 9.0, True),
        (2, 2, 3, 80, 9.0, False),
        (3, 2, 3, 80, 9.0, False),
        (3, 3, 3, 80, 9.0, True),
        (80, 80, 1, 80, 9.0, True),
        (80, 81, 1, 80, 9.0, False),
        (9, 1, 1, 80, 9.0, True),  # the ratio itself is kept
        (10, 1, 1, 80, 9.0, False),
        (3, 2, 1, 175, 1.5, True),
        (5, 3, 1, 175, 1.5, False),
        (150, 100, 1, 175, 1.5, True),
        (151, 100, 1, 175, 1.5, False),
    ],
)
def test_lengths(source, target, minimum, maximum, ratio, kept):
    for pair in itertools.permutations((words(source), words(target))):
        assert clean_pair(*pair, minimum, maximum, ratio) == (pair if kept else None)


@pytest.mark.parametrize("letter", ["a", "ä", "中", "😀"])
def test_long_words_are_counted_in_characters(letter):
    for pair in itertools.permutations((f"b {letter * 1000} c", "b")):
        assert clean_pair(*pair, 1, 80) == pair
    for pair in itertools.permutations((f"b {letter * 1001} c", "b")):
        assert clean_pair(*pair, 1, 80) is None


def test_long_words_are_counted_without_bars():
    assert clean_pair("a" * 600 + "|" + "a" * 600, "b", 1, 80) is None


@pytest.mark.realdata
@pytest.mark.parametrize(("result", "limits"), [("clean_1_80", (1, 80)), ("clean_1_175_ratio1.5", (1, 175, 1.5))])
def test_real_text(real_data, result, limits):
    sides = [read_lines(real_data / "moses" / f"pairs.{language}") for language in ("de", "en")]
    pairs = [clean_pair(*pair, *limits) for pair in zip(*sides, strict=True)]
    cleaned = zip(*filter(None, pairs), strict=True)
    for language, lines in zip(("de", "en"), cleaned, strict=True):
        printed = "".join(f"{line}\n" for line in lines)
        assert printed.encode() == (real_data / "moses" / f"pairs.{result}.{language}").read_bytes()
