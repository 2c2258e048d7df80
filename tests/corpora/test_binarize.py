"""fairseq-preprocess, looked at before and after."""

import logging
import os

import pytest

from fairseq_powernorm.corpora import binarize
from fairseq_powernorm.corpora.parallel_lines import find_splits

LANGUAGES = ["de", "en"]
SPLITS = ("train", "valid", "test", "test, a b")


def write(folder, name, *lines):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes("".join(f"{line}\n" for line in lines).encode())


@pytest.fixture
def text(tmp_path):
    for split in SPLITS:
        for language in LANGUAGES:
            write(tmp_path / "it's a text", f"{split}.{language}", *(f"{split} {number}" for number in range(30)))
    return tmp_path / "it's a text"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with text/ and what the real fairseq-preprocess made of it, bin/."""
    folder = tmp_path_factory.mktemp("binarized, once")
    for split in SPLITS:
        for language in LANGUAGES:
            lines = [
                f"{language} {split.replace(' ', '')} {number % 7}" + " x" * (number % 3) for number in range(2500)
            ]
            write(folder / "text", f"{split}.{language}", *lines)
    binarize.binarize(folder / "text", folder / "bin", LANGUAGES, folder / "log" / "preprocess.log")
    return folder


def test_names_of_test_sets_reach_fairseq_by_number(prepared):
    made = {path.name for path in (prepared / "bin").iterdir()}
    assert {"dict.de.txt", "train.de-en.de.bin", "test.de-en.en.idx", "test1.de-en.de.bin"} <= made
    assert (prepared / "bin" / "test_sets.txt").read_text(encoding="utf-8") == "test\ntest, a b\n"
    assert "train.de: 2500 sents" in (prepared / "log" / "preprocess.log").read_text(encoding="utf-8")
    assert sorted(path.name for path in prepared.iterdir()) == ["bin", "log", "text"]


@pytest.mark.parametrize(
    ("name", "line", "new", "message"),
    [
        ("train.de", 1700, "de train", "line 1701: fairseq-preprocess read another line there"),
        ("test, a b.en", 0, "en test,a b", "line 1: fairseq-preprocess read other words there"),
        ("valid.en", 2499, "en valid 0 x x", "line 2500: fairseq-preprocess read another line there"),
        ("test.de", None, "one more", "line 2501: fairseq-preprocess read another line there"),
    ],
)
def test_binary_data_of_other_text_is_noticed(prepared, tmp_path, name, line, new, message):
    (tmp_path / "text").mkdir()
    for path in (prepared / "text").iterdir():
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        if path.name == name and line is None:
            lines.append(new)
        elif path.name == name:
            lines[line] = new
        write(tmp_path / "text", path.name, *lines)
    splits = find_splits(tmp_path / "text", LANGUAGES)
    with pytest.raises(ValueError, match=message):
        binarize.check_binary(splits, LANGUAGES, prepared / "bin")
    binarize.check_binary(find_splits(prepared / "text", LANGUAGES), LANGUAGES, prepared / "bin")


def test_fewer_lines_than_sentences_are_noticed(prepared, tmp_path):
    (tmp_path / "text").mkdir()
    for path in (prepared / "text").iterdir():
        write(
            tmp_path / "text",
            path.name,
            *path.read_text(encoding="utf-8").split("\n")[: 2500 if "train" in path.name else 9],
        )
    with pytest.raises(ValueError, match=r"valid.de has 9 lines, 2500 sentences were made of it"):
        binarize.check_binary(find_splits(tmp_path / "text", LANGUAGES), LANGUAGES, prepared / "bin")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "line 2: empty"),
        (" ", "line 2: empty"),
        ("a\rb", r"line 2: white space other than U\+0020, '\\r'"),
        ("a\xa0b", r"line 2: white space other than U\+0020"),
        ("a </s> b", "line 2: </s> is one of fairseq's control symbols"),
    ],
)
@pytest.mark.parametrize("name", ["train.de", "test, a b.en"])
def test_what_fairseq_would_read_otherwise_ends_before_anything_is_written(text, tmp_path, name, line, message):
    write(text, name, "a", line, *"b" * 28)
    with pytest.raises(ValueError, match=f"{name}, {message}"):
        binarize.binarize(text, tmp_path / "bin", LANGUAGES, tmp_path / "log")
    assert list(tmp_path.iterdir()) == [text]


def test_sides_of_different_lengths_end_it_too(text, tmp_path):
    write(text, "valid.en", "a")
    with pytest.raises(ValueError, match=r"valid.en ends after 1 lines"):
        binarize.binarize(text, tmp_path / "bin", LANGUAGES, tmp_path / "log")


def test_sentences_beyond_a_models_positions_are_said(text, caplog):
    caplog.set_level(logging.WARNING)
    write(text, "test.de", *["a"] * 29, "a " * 1023 + "a")
    write(text, "train.en", *["a"] * 29, "a " * 1023 + "a")
    binarize.check_text(find_splits(text, LANGUAGES))
    assert any("test.de, line 30: 1024 subwords" in message for message in caplog.messages)
    assert any("train: 1 sentences of more than 1023 subwords" in message for message in caplog.messages)


def test_a_preprocessing_that_fails_is_one_line_and_keeps_what_was_there(text, tmp_path, monkeypatch):
    write(tmp_path / "bin", "old", "x")
    monkeypatch.setattr(binarize.sys, "executable", "/bin/false")
    with pytest.raises(ValueError, match=f"fairseq-preprocess failed, see {tmp_path}/log"):
        binarize.binarize(text, tmp_path / "bin", LANGUAGES, tmp_path / "log")
    assert os.listdir(tmp_path / "bin") == ["old"]
