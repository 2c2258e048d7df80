"""Text of language models: checked copies, and one line for what is no such text."""

import gzip
import zipfile

import pytest

from fairseq_powernorm.corpora.binarize import check_text
from fairseq_powernorm.corpora.download import RemoteFile, digest_of
from fairseq_powernorm.corpora.language_model_text import CORPORA, SPLITS, Corpus, write_text
from fairseq_powernorm.corpora.parallel_lines import find_splits

TEXTS = {"train": " a b <unk> \n\n c \n", "valid": "a\n", "test": "b é\n"}
TOKENS = {"train": 7, "valid": 2, "test": 3}


def written(folder, pattern="{}.txt", packed=False, **changes):
    """A folder with the three texts."""
    folder.mkdir()
    for split, text in {**TEXTS, **changes}.items():
        content = text if isinstance(text, bytes) else text.encode()
        name = pattern.format(split)
        (folder / f"{name}.gz" if packed else folder / name).write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_text_of_one_s_own(tmp_path, packed, caplog):
    caplog.set_level("INFO")
    write_text(CORPORA["text"], tmp_path / "to", written(tmp_path / "from", packed=packed))
    assert {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "to").iterdir()} == {
        f"{split}.txt": text for split, text in TEXTS.items()
    }
    assert all(f"{split}.txt: {TOKENS[split]} tokens" in caplog.text for split in SPLITS)
    check_text(find_splits(tmp_path / "to", ["txt"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "valid.txt: empty, expected a text of one sentence a line"),
        ("\n \n", "valid.txt: empty"),
        (b"a\n\xff b\n", "valid.txt, line 2: not valid UTF-8"),
    ],
)
def test_what_is_no_text(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        write_text(CORPORA["text"], tmp_path / "to", written(tmp_path / "from", valid=text))
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["train.txt"]


def test_a_file_that_is_missing(tmp_path):
    (written(tmp_path / "from") / "test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected train.txt, valid.txt, test.txt, plain or .gz"):
        write_text(CORPORA["text"], tmp_path / "to", tmp_path / "from")
    with pytest.raises(FileNotFoundError, match="absent: no such folder"):
        write_text(CORPORA["ptb"], tmp_path / "to", tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"ptb.train.txt does not exist"):
        write_text(CORPORA["ptb"], tmp_path / "to", tmp_path / "from")
    assert not (tmp_path / "to" / "train.txt").exists()


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"md5": {"valid": "0" * 32}}, r"v_valid: the text's MD5 is \w+, expected 0{32}; damaged, or another version"),
        ({"tokens": {"valid": 9}}, "v_valid: 2 tokens with the ends of lines, expected 9; another version"),
    ],
)
def test_another_text_than_the_known_one(tmp_path, known, message):
    source = written(tmp_path / "from", "v_{}")
    with pytest.raises(ValueError, match=message):
        write_text(Corpus("v_{}", **known), tmp_path / "to", source)
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["train.txt"]


def zipped(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for split in names:
            archive.writestr(f"wiki/w.{split}.tokens", TEXTS[split])
        archive.writestr("../outside", "no")
    return Corpus("w.{}.tokens", archive=RemoteFile(path.name, (), md5=digest_of(path, "md5")), folder="wiki")


def test_an_archive_of_all_three(tmp_path):
    (tmp_path / "from").mkdir()
    write_text(zipped(tmp_path / "from" / "w.zip", SPLITS), tmp_path / "to", tmp_path / "from")
    assert (tmp_path / "to" / "test.txt").read_text(encoding="utf-8") == TEXTS["test"]
    assert not (tmp_path / "outside").exists()


def test_an_archive_without_a_text(tmp_path):
    (tmp_path / "from").mkdir()
    corpus = zipped(tmp_path / "from" / "w.zip", ["train", "valid"])
    with pytest.raises(ValueError, match=r"w.zip: damaged, or not the archive \(There is no item named 'wiki/w.test"):
        write_text(corpus, tmp_path / "to", tmp_path / "from")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a </s> b", "x.txt, line 2: </s> is one of fairseq's control symbols"),
        ("a\u00a0b", r"x.txt, line 2: white space other than U\+0020, '\\xa0'"),
        ("a\rb", r"x.txt, line 2: white space other than U\+0020, '\\r'"),
    ],
)
def test_words_that_fairseq_would_read_in_another_way(tmp_path, line, message):
    (tmp_path / "x.txt").write_bytes(f"a <unk>\n{line}\n".encode())
    with pytest.raises(ValueError, match=message):
        check_text({"test": [tmp_path / "x.txt"]})


@pytest.mark.realdata
@pytest.mark.parametrize(("corpus", "folder"), [("ptb", "ptb"), ("wikitext2", "wikitext-2")])
def test_the_known_texts(real_data, tmp_path, corpus, folder):
    write_text(CORPORA[corpus], tmp_path, real_data / folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.txt", "train.txt", "valid.txt"]
    check_text(find_splits(tmp_path, ["txt"]))
