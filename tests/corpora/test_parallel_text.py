"""Parallel text of one's own."""

import gzip
import logging
import sys

import pytest

from fairseq_powernorm.corpora import parallel_text

LANGUAGES = ["de", "en"]


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
        write(folder, f"test.b.{language}", "", "ü \u2028 b")
        write(folder, f"test.a.{language}.gz", "x")
        write(folder, f"other.{language}", "x")
    write(folder, "train.fr", "x")
    return folder


def test_splits_in_the_order_of_their_names(text, tmp_path):
    destination = tmp_path / "out"
    assert parallel_text.write_corpus(destination, text, LANGUAGES) == ["train", "valid", "test.a", "test.b"]
    assert (destination / "train.de").read_text() == "a\nb\nc\n"
    assert (destination / "test.b.en").read_text() == "\nü \u2028 b\n"  # test sets stay whole
    assert sorted(path.name for path in destination.iterdir()) == sorted(
        f"{split}.{language}" for split in ("train", "valid", "test.a", "test.b") for language in LANGUAGES
    )


def test_training_pairs_without_words_are_left_out_on_both_sides(text, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write(text, "train.de.gz", "a", " \t", "c")
    parallel_text.write_corpus(tmp_path / "out", text, LANGUAGES)
    assert (tmp_path / "out" / "train.en").read_text() == "a\nc\n"
    assert "train: 2 pairs, 1 without words on one side left out" in caplog.messages


def test_what_an_earlier_preparation_left_is_no_split(text, tmp_path):
    write(tmp_path / "out", "test.old.de", "x")
    parallel_text.write_corpus(tmp_path / "out", text, LANGUAGES)
    assert not (tmp_path / "out" / "test.old.de").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "valid.en").unlink(), "holds no valid.en, nor valid.en.gz"),
        (lambda folder: (folder / "test.b.de").unlink(), "holds no test.b.de"),
        (lambda folder: [path.unlink() for path in folder.glob("test*")], "holds no test set, such as test.de"),
        (lambda folder: write(folder, "train.de", "a"), "holds train.de and train.de.gz: which is meant"),
        (lambda folder: write(folder, "valid.en", "a", "b"), "differ in length"),
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
        parallel_text.write_corpus(tmp_path / "out", text, LANGUAGES)


def test_text_is_not_written_over_itself(text):
    before = {path: path.read_bytes() for path in text.iterdir()}
    with pytest.raises(ValueError, match="is both the text and where it is to be written"):
        parallel_text.write_corpus(text / ".." / text.name, text, LANGUAGES)
    assert before == {path: path.read_bytes() for path in text.iterdir()}


def test_errors_name_the_file_that_can_be_mended(text, tmp_path):
    write(text, "train.de.gz", "a", "b")
    with pytest.raises(ValueError, match=f"{text}/train.de.gz has 2 lines, {text}/train.en.gz has 3 lines"):
        parallel_text.write_corpus(tmp_path / "out", text, LANGUAGES)


@pytest.mark.parametrize("languages", ["de", "de,de", "de,", "de,en,fr"])
def test_two_languages_are_needed(text, monkeypatch, languages):
    monkeypatch.setattr(sys, "argv", ["x", "--from", str(text), "--languages", languages])
    with pytest.raises(ValueError, match="expected --languages to be two"):
        parallel_text.main()


def test_the_command_only_looks_without_a_destination(text, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x", "--from", str(text), "--languages", "de,en"])
    parallel_text.main()
    assert capsys.readouterr().out == "train,valid,test.a,test.b\n"
    with pytest.raises(FileNotFoundError, match="no such folder"):
        parallel_text.find_splits(text / "none", LANGUAGES)
