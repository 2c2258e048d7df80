"""Merges and subwords are subword-nmt's own; interruption and bad codes."""

import io
from pathlib import Path

import pytest
from fairseq.data.data_utils import post_process
from subword_nmt.apply_bpe import BPE
from subword_nmt.learn_bpe import learn_bpe

from fairseq_powernorm.corpora import subword_bpe
from fairseq_powernorm.corpora.demo.corpus import write_corpus
from fairseq_powernorm.corpora.plain_text import CONTROL_SYMBOLS, single_spaces
from fairseq_powernorm.corpora.subword_bpe import encode_corpus, learn_merges, read_codes
from fairseq_powernorm.files import read_lines

IWSLT14 = Path(__file__).resolve().parents[3] / "shared" / "data" / "iwslt14"


@pytest.fixture
def text(tmp_path):
    write_corpus(tmp_path / "text", train=400, valid=30, test=30, seed=5)
    return tmp_path / "text"


def encode(text, destination, **options):
    encode_corpus(text, destination, ["de", "en"], ["train", "valid", "test"], 300, workers=2, **options)


def test_equal_to_subword_nmt(text, tmp_path):
    encode(text, tmp_path / "bpe")
    both = "".join((text / f"train.{language}").read_text(encoding="utf-8") for language in ("de", "en"))
    codes = io.StringIO()
    learn_bpe(io.StringIO(both), codes, 300)
    assert (tmp_path / "bpe" / "codes").read_text(encoding="utf-8") == codes.getvalue()
    encoder = BPE(io.StringIO(codes.getvalue()))
    for name in ("train.de", "valid.en", "test.de"):
        lines = (text / name).read_text(encoding="utf-8").splitlines(keepends=True)
        expected = "".join(encoder.process_line(line) for line in lines)
        assert (tmp_path / "bpe" / name).read_text(encoding="utf-8") == expected
        assert "@@ " in expected and expected.replace("@@ ", "") == "".join(lines)


def test_what_is_there_is_not_done_again(text, tmp_path):
    encode(text, tmp_path / "bpe")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "bpe").iterdir()}
    (tmp_path / "bpe" / "test.en").unlink()  # as if killed before it was there
    encode(text, tmp_path / "bpe")
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "bpe").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"test.de", "test.en"}


def test_given_codes_replace_others_and_what_was_made_with_them(text, tmp_path):
    encode(text, tmp_path / "bpe")
    given = tmp_path / "given"
    given.write_text("#version: 0.2\ne n</w>\n", encoding="utf-8")
    learnt = (tmp_path / "bpe" / "train.de").read_bytes()
    encode(text, tmp_path / "bpe", codes=given)
    assert (tmp_path / "bpe" / "codes").read_bytes() == given.read_bytes()
    assert (tmp_path / "bpe" / "train.de").read_bytes() != learnt


def test_other_merges_are_not_taken_for_those_asked_for(text, tmp_path):
    encode(text, tmp_path / "bpe", learn_only=True)
    with pytest.raises(ValueError, match=r"codes holds 300 merges, asked for 200 to be learnt; remove .*bpe, or give"):
        encode_corpus(text, tmp_path / "bpe", ["de", "en"], ["train"], 200)
    encode(text, tmp_path / "given", codes=tmp_path / "bpe" / "codes", learn_only=True)
    with pytest.raises(ValueError, match="holds merges that were given, asked for 300"):
        encode(text, tmp_path / "given")
    with pytest.raises(ValueError, match="expected a number of merges above 0, got 0"):
        encode_corpus(text, tmp_path / "none", ["de", "en"], ["train"], 0)
    assert not (tmp_path / "none").exists()


def test_nothing_that_was_given_lies_where_other_codes_empty_the_folder(text, tmp_path):
    encode(text, tmp_path / "bpe")
    (tmp_path / "bpe" / "mine").write_text("#version: 0.2\na b\n")
    before = {path: path.read_bytes() for path in (tmp_path / "bpe").iterdir()}
    with pytest.raises(ValueError, match=r"mine lies in .*bpe, where the subwords go; name another folder"):
        encode(text, tmp_path / "bpe", codes=tmp_path / "bpe" / "mine")
    with pytest.raises(ValueError, match=r"bpe lies in .*bpe, where the subwords go"):
        encode(tmp_path / "bpe", tmp_path / "bpe")
    assert before == {path: path.read_bytes() for path in (tmp_path / "bpe").iterdir()}
    encode(text, tmp_path / "bpe", codes=tmp_path / "bpe" / "codes")  # its own


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("e n</w>\n", "not a file of BPE merges"),
        ("", "not a file"),
        ("#version: 0.2\na b\na b c\n", "line 3: 'a b c'"),
        ("#version: 0.2\n", "holds no merges"),
    ],
)
def test_bad_codes(tmp_path, content, message):
    path = tmp_path / "codes"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_codes(path)


def test_text_without_words(tmp_path):
    (tmp_path / "x").write_text(" \n\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no words in"):
        learn_merges([tmp_path / "x"], 10, workers=1)


@pytest.mark.realdata
def test_the_official_subwords_of_iwslt14(tmp_path):
    for path in sorted((IWSLT14 / "tokenized").glob("*.de")):
        split = path.name.removesuffix(".de")
        encode_corpus(
            IWSLT14 / "tokenized", tmp_path / split, ["de", "en"], [split], 10000, IWSLT14 / "bpe" / "code", workers=2
        )
        for language in ("de", "en"):
            ours = (tmp_path / split / f"{split}.{language}").read_bytes()
            assert ours == (IWSLT14 / "bpe" / f"{split}.{language}").read_bytes()


def test_a_process_does_not_remember_every_word(text, tmp_path, monkeypatch):
    monkeypatch.setattr(subword_bpe, "WORDS_REMEMBERED", 50)
    encode(text, tmp_path / "bpe")
    codes = tmp_path / "bpe" / "codes"
    read_codes(codes).cache.clear()
    for number in range(40):
        rows = [(f"wort{number}n{each}",) for each in range(10)]
        assert subword_bpe.encode(rows, codes) == [(read_codes(codes).process_line(line),) for (line,) in rows]
        assert len(read_codes(codes).cache) <= 60


@pytest.mark.parametrize("character", ["\u2028", "\f", "\x85", "\r", "\x1c", "\xa0"])
def test_what_fairseq_takes_for_a_space_parts_words(text, tmp_path, character):
    path = text / "train.de"
    path.write_text(path.read_text(encoding="utf-8").replace(" ", f"{character} x"), encoding="utf-8", newline="")
    encode(text, tmp_path / "bpe")
    encoded = read_lines(tmp_path / "bpe" / "train.de")
    assert not any(character in line for line in encoded)
    assert [f"{line} ".replace("@@ ", "").rstrip() for line in encoded] == list(map(single_spaces, read_lines(path)))


@pytest.mark.parametrize("line", ["<s> a</s> <pad>", "@@ a@@ b", "a@@@ @ @@@@", "<unk>@@ x", "</w> a</w>"])
def test_subwords_that_read_as_something_else_are_split(tmp_path, line):
    """Merged to whole words, they would be control symbols, or go on with the next word."""
    path = tmp_path / "text"
    path.write_text(f"{line} c\n" * 9, encoding="utf-8")
    (tmp_path / "codes").write_text(learn_merges([path], 100, workers=1), encoding="utf-8")
    ((encoded,),) = subword_bpe.encode([(line,)], tmp_path / "codes")
    assert post_process(encoded, "subword_nmt") == line
    assert not set(encoded.split(" ")) & set(CONTROL_SYMBOLS)
