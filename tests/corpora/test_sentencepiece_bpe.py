"""The joint BPE, and what raw text is refused for."""

import pytest
import sentencepiece
from fairseq.data.data_utils import post_process

from fairseq_powernorm.corpora import multi30k
from fairseq_powernorm.corpora.demo.corpus import write_corpus
from fairseq_powernorm.corpora.plain_text import CONTROL_SYMBOLS, single_spaces
from fairseq_powernorm.corpora.sentencepiece_bpe import encode_corpus
from fairseq_powernorm.files import read_lines


@pytest.fixture
def raw(tmp_path):
    write_corpus(tmp_path / "raw", train=300, valid=10, test=10, seed=1)
    return tmp_path / "raw"


def encode(raw, destination, vocabulary=200):
    encode_corpus(raw, destination, ["de", "en"], ["train", "valid", "test"], vocabulary)


def test_pieces_are_the_text_again(raw, tmp_path):
    encode(raw, tmp_path / "bpe")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "bpe" / "bpe.model"))
    assert processor.vocab_size() == 200
    for split in ("train", "valid", "test"):
        for language in ("de", "en"):
            lines = (raw / f"{split}.{language}").read_text(encoding="utf-8").splitlines()
            pieces = (tmp_path / "bpe" / f"{split}.{language}").read_text(encoding="utf-8").splitlines()
            assert [processor.decode(line.split(" ")) for line in pieces] == lines


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: (raw / "valid.de").write_text("one\n"), "differ in length"),
        (lambda raw: (raw / "test.en").write_bytes(b"\xff\n" * 10), r"test.en, line 1: not valid UTF-8"),
        (lambda raw: (raw / "train.de").write_text("a\n" * 299 + " \n"), r"train.de, line 300: empty"),
        (lambda raw: (raw / "train.de").write_text("a\n" * 299 + "\n"), r"train.de, line 300: empty"),
    ],
)
def test_bad_text_is_named_and_nothing_written(raw, tmp_path, damage, message):
    damage(raw)
    with pytest.raises(ValueError, match=message):
        encode(raw, tmp_path / "bpe")
    assert not (tmp_path / "bpe").exists()


def test_unknown_characters_of_a_control_symbol_are_apart(raw, tmp_path):
    """A run of characters that were not learnt is one piece."""
    lines = read_lines(raw / "test.en")
    lines[3] = "a<unk> <pad> </s>b <s>\r\u2581\xa0… \u2028x"
    (raw / "test.en").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
    encode_corpus(raw, tmp_path / "bpe", ["de", "en"], ["train", "valid", "test"], 200, "identity")
    encoded = read_lines(tmp_path / "bpe" / "test.en")
    assert not set(encoded[3].split(" ")) & set(CONTROL_SYMBOLS)
    assert [post_process(line, "sentencepiece") for line in encoded] == list(map(single_spaces, lines))


def test_more_pieces_than_the_text_can_give(raw, tmp_path):
    with pytest.raises(ValueError, match="cannot learn 100000 pieces"):
        encode(raw, tmp_path / "bpe", vocabulary=100_000)
    assert not (tmp_path / "bpe").exists()


@pytest.mark.realdata
def test_multi30k_from_its_archives(real_data, tmp_path):
    multi30k.write_corpus(tmp_path, source=real_data / "multi30k")
    assert (tmp_path / "train.de").read_text(encoding="utf-8").startswith("Zwei junge weiße Männer")
    for split, (_, pairs) in multi30k.SPLITS.items():
        assert len((tmp_path / f"{split}.en").read_text(encoding="utf-8").splitlines()) == pairs
