"""The official preparation of IWSLT14, byte for byte; the archive to the splits; what is wrong ends early."""

import io
import tarfile
from pathlib import Path

import pytest

from fairseq_powernorm.corpora import iwslt14
from fairseq_powernorm.corpora.download import digest_of
from fairseq_powernorm.corpora.parallel_lines import map_lines

IWSLT14 = Path(__file__).resolve().parents[3] / "shared" / "data" / "iwslt14"


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["IWSLT14.TED.dev2010", "IWSLT14.TED.tst2010", "IWSLT14.TED.tst2011"])
def test_the_official_test_sets_byte_for_byte(name, tmp_path):
    for language in iwslt14.LANGUAGES:
        sentences = list(iwslt14.segments(IWSLT14 / "xml" / f"{name}.de-en.{language}.xml"))
        assert len(sentences) == iwslt14.TEST_SETS[name]
        prepared = iwslt14.prepare_sentences([(sentence,) for sentence in sentences], language)
        map_lines(list, prepared, [tmp_path / language], name, workers=1)
        assert (tmp_path / language).read_bytes() == (IWSLT14 / "tokenized" / f"{name}.de-en.{language}").read_bytes()


@pytest.mark.realdata
def test_the_known_md5s_are_those_of_the_official_validation_set():
    for language in iwslt14.LANGUAGES:
        path = IWSLT14 / "tokenized" / f"valid.{language}"
        assert digest_of(path, "md5") == iwslt14.MD5[path.name]
        assert len(path.read_bytes().splitlines()) == iwslt14.PAIRS["valid"]


def test_marks_are_removed_and_long_and_unequal_pairs_dropped():
    rows = [
        ("<title>Das Meer</title>", "<title>The sea</title>"),
        ("Ein Wort.", "One word, and then another, and many more of them."),
        ("", "Nothing."),
        ("wort " * 176, "word " * 176),
        ("„Ja“, sagte Dr. Müller.", '"Yes," said Dr. Miller.'),
    ]
    assert iwslt14.prepare_training_pairs(rows) == [
        ("das meer", "the sea"),
        ("„ ja “ , sagte dr. müller .", "&quot; yes , &quot; said dr. miller ."),
    ]
    assert iwslt14.is_not_text("<talkid>69</talkid>") and not iwslt14.is_not_text("<title>x</title>")


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """de-en.tgz in small: 46 pairs and a line that is none, and five sets of two sentences."""
    folder = tmp_path / "copy at hand"
    folder.mkdir()
    contents = {}
    for language, text in (("de", "Satz {}."), ("en", "Sentence {}.")):
        training = ["<url>http://x</url>", *(text.format(number) for number in range(1, 47))]
        contents[iwslt14.TRAINING_TEXT.format(language=language)] = "\n".join(training) + "\n"
        for name in iwslt14.TEST_SETS:
            segments = "".join(f'<seg id="{number}"> It’s {name} {number}. </seg>\n' for number in (1, 2))
            contents[iwslt14.TEST_SET_TEXT.format(name=name, language=language)] = f"<mteval>\n{segments}</mteval>\n"
    with tarfile.open(folder / "de-en.tgz", "w:gz") as tar:
        for name, text in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    monkeypatch.setattr(iwslt14, "TEST_SETS", dict.fromkeys(iwslt14.TEST_SETS, 2))
    return folder


def test_an_archive_that_is_not_the_known_one(archive, tmp_path):
    with pytest.raises(ValueError, match=r"de-en.tgz"):
        iwslt14.write_corpus(tmp_path / "data", archive)
    assert not (tmp_path / "data" / "tokenized").exists()


def test_from_the_archive_to_the_splits(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(iwslt14, "check", lambda folder: None)
    iwslt14.write_corpus(tmp_path / "data", archive, any_archive=True)
    tokenized = tmp_path / "data" / "tokenized"
    valid = (tokenized / "valid.en").read_text(encoding="utf-8").splitlines()
    train = (tokenized / "train.en").read_text(encoding="utf-8").splitlines()
    assert valid == ["sentence 23 .", "sentence 46 ."] and len(train) == 44 and train[22] == "sentence 24 ."
    test = (tokenized / "test.en").read_text(encoding="utf-8").splitlines()
    assert len(test) == 10 and test[3] == "it &apos;s iwslt14.tedx.dev2012 2 ."
    raw = (tmp_path / "data" / "raw" / "test.en").read_text(encoding="utf-8").splitlines()
    assert raw[3] == "It’s IWSLT14.TEDX.dev2012 2."
    assert sorted(path.name for path in tokenized.iterdir()) == sorted(
        f"{split}.{language}" for split in ("train", "valid", "test") for language in ("de", "en")
    )


def test_another_text_than_the_official_is_refused(archive, tmp_path):
    with pytest.raises(ValueError, match=r"train.de: 44 lines, expected 160239"):
        iwslt14.write_corpus(tmp_path / "data", archive, any_archive=True)
