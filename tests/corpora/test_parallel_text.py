"""Parallel text of one's own."""

import gzip
import logging
import sys

import pytest

from fairseq_powernorm.corpora import moses, parallel_text
from fairseq_powernorm.corpora.parallel_lines import find_splits
from fairseq_powernorm.corpora.parallel_text import Steps

LANGUAGES = ("de", "en")


def prepare(text, destination, **steps):
    return parallel_text.write_corpus(destination, text, Steps(LANGUAGES, **steps), workers=1)


def lines_of(path):
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def write(folder, name, *lines):
    content = "".join(f"{line}\n" for line in lines).encode()
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


@pytest.fixture
def text(tmp_path):
    """Three splits beside the test set ``test.b``, partly packed, and files that do not belong to it."""
    folder = tmp_path / "text"
    for language in LANGUAGES:
        write(folder, f"train.{language}.gz", "a", "b", "c")
        write(folder, f"valid.{language}", "a")
        write(folder, f"test.b.{language}", "y", "ü \u2028b\r c ")
        write(folder, f"test.a.{language}.gz", "x")
        write(folder, f"other.{language}", "x")
    write(folder, "train.fr", "x")
    return folder


def test_splits_in_the_order_of_their_names(text, tmp_path):
    destination = tmp_path / "out"
    assert prepare(text, destination) == ["train", "valid", "test.a", "test.b"]
    assert (destination / "text" / "train.de").read_text() == "a\nb\nc\n"
    for folder in ("text", "raw"):
        assert (destination / folder / "test.b.en").read_text() == "y\nü b c\n"  # one space, whatever it was
    for folder, splits in {"text": ("train", "valid", "test.a", "test.b"), "raw": ("test.a", "test.b")}.items():
        assert sorted(path.name for path in (destination / folder).iterdir()) == sorted(
            f"{split}.{language}" for split in splits for language in LANGUAGES
        )


def test_training_pairs_without_words_are_left_out_on_both_sides(text, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write(text, "train.de.gz", "a", "\u200b\ufeff \t", "c")
    prepare(text, tmp_path / "out")
    assert (tmp_path / "out" / "text" / "train.en").read_text() == "a\nc\n"
    assert "train: 2 pairs of 3" in caplog.messages
    assert "train: 1 pairs left out because a side is blank (lines 2)" in caplog.messages


@pytest.mark.parametrize("line", ["", " ", "\u200b", "\xad\u2060", "\u3164"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_test_set_needs_words_in_every_line(text, tmp_path, language, line):
    write(text, f"test.b.{language}", "x", line)
    with pytest.raises(ValueError, match=rf"test.b.{language}, line 2: blank, without a visible character"):
        prepare(text, tmp_path / "out")


def test_what_is_odd_is_said_with_its_lines(text, tmp_path, caplog):
    write(text, "train.de.gz", "\ufeffa", "b\rb", "</s> c")
    write(text, "train.en.gz", "a", "b", "x<pad>y")
    prepare(text, tmp_path / "out")
    assert lines_of(tmp_path / "out" / "text" / "train.de") == ["a", "b b", "</s> c"]
    said = "\n".join(caplog.messages)
    assert f"{text}/train.de.gz begins with a byte order mark, which is left out" in said
    assert "train: 1 pairs with other white space than U+0020" in said and "became U+0020 (lines 2)" in said
    assert "train: 1 pairs with <s>, <pad>, </s> or <unk>" in said and "(lines 3)" in said


def test_tokenized_and_lowercased_text_beside_the_references_as_they_were(text, tmp_path):
    sentence = 'Er sagte: "Gut.\xa0Oder?"'
    for language in LANGUAGES:
        write(text, f"test.b.{language}", sentence, "A<b")
    prepare(text, tmp_path / "out", tokenizer="moses", lowercase=True)
    expected = [moses.tokenize(line.replace("\xa0", " "), "de").lower() for line in (sentence, "A<b")]
    assert lines_of(tmp_path / "out" / "text" / "test.b.de") == expected
    assert lines_of(tmp_path / "out" / "raw" / "test.b.de") == [sentence.replace("\xa0", " "), "A<b"]


def test_training_pairs_are_left_out_by_length_and_ratio(text, tmp_path, caplog):
    write(text, "train.de.gz", "a b c d", "a b", "a | b")
    write(text, "train.en.gz", "a b c", "a b c d e", "a | b")
    prepare(text, tmp_path / "out", max_words=4, max_ratio=2)
    assert lines_of(tmp_path / "out" / "text" / "train.de") == ["a b c d", "a | b"]  # bars stay, as in the test sets
    assert any("1 pairs left out because of their length or ratio (lines 2)" in message for message in caplog.messages)
    prepare(text, tmp_path / "out", max_ratio=1.2)
    assert lines_of(tmp_path / "out" / "text" / "train.de") == ["a | b"]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"tokenizer": "perl"}, "unknown tokenizer 'perl'; known are none, moses"),
        ({"max_words": 0}, "expected at least 1 word"),
        ({"max_ratio": 0.5}, "a ratio of 1, got inf and 0.5"),
    ],
)
def test_bad_steps(steps, message):
    with pytest.raises(ValueError, match=message):
        Steps(LANGUAGES, **steps)
    with pytest.raises(ValueError, match="no rules for language 'xx'"):
        Steps(("de", "xx"), tokenizer="moses")


def test_what_an_earlier_preparation_left_is_no_split(text, tmp_path):
    (tmp_path / "out").mkdir()
    for folder in ("text", "raw"):
        write(tmp_path / "out" / folder, "test.old.de", "x")
    prepare(text, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("test.old.de"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "valid.en").unlink(), "holds no valid.en, nor valid.en.gz"),
        (lambda folder: (folder / "test.b.de").unlink(), "holds no test.b.de"),
        (lambda folder: [path.unlink() for path in folder.glob("test*")], "holds no test set, such as test.de"),
        (lambda folder: write(folder, "train.de", "a"), "holds train.de and train.de.gz: which is meant"),
        (lambda folder: write(folder, "valid.en", "a", "b"), "differ in length: .*valid.de ends after 1 lines"),
        (lambda folder: (folder / "valid.en").write_bytes(b"\xff\n"), "line 1: not valid UTF-8"),
        (lambda folder: (folder / "train.de.gz").write_bytes(b"plain"), "train.de.gz: damaged, or not gzip"),
        (
            lambda folder: (folder / "train.de.gz").write_bytes((folder / "train.de.gz").read_bytes()[:12]),
            "train.de.gz: damaged",
        ),
        (lambda folder: write(folder, "valid.de", " "), "valid holds no pair with words on both sides"),
    ],
)
def test_bad_text_is_named(text, tmp_path, change, message):
    change(text)
    with pytest.raises(ValueError, match=message):
        prepare(text, tmp_path / "out")
    with pytest.raises(ValueError, match=message):  # before anything is written
        parallel_text.check_corpus(text, Steps(LANGUAGES))


def test_names_of_test_sets_may_hold_anything_that_fits_a_line(text, tmp_path):
    for language in LANGUAGES:
        write(text, f"test 2014, a.{language}", "x")
    assert prepare(text, tmp_path / "out")[2] == "test 2014, a"
    for language in LANGUAGES:
        write(text, f"test\n.{language}", "x")
    with pytest.raises(ValueError, match=r"a test set of the name 'test\\n'; a name takes printable characters"):
        prepare(text, tmp_path / "out")


def test_text_is_not_written_over_itself(text):
    before = {path: path.read_bytes() for path in text.iterdir()}
    with pytest.raises(ValueError, match="is both the text and where it is to be written"):
        prepare(text, text / "..")
    assert before == {path: path.read_bytes() for path in text.iterdir()}


def test_errors_name_the_file_that_can_be_mended(text, tmp_path):
    write(text, "train.de.gz", "a", "b")
    with pytest.raises(ValueError, match=f"{text}/train.de.gz ends after 2 lines"):
        prepare(text, tmp_path / "out")


@pytest.mark.parametrize("languages", ["de", "de,de", "de,", "de,en,fr"])
def test_two_languages_are_needed(text, monkeypatch, languages):
    monkeypatch.setattr(sys, "argv", ["x", "--from", str(text), "--languages", languages])
    with pytest.raises(ValueError, match="expected --languages to be two"):
        parallel_text.main()


def test_the_command_only_looks_without_a_destination(text, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x", "--from", str(text), "--languages", "de,en"])
    parallel_text.main()
    assert capsys.readouterr().out == "train\nvalid\ntest.a\ntest.b\n"
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_splits(text / "none", LANGUAGES)
