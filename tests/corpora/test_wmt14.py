"""WMT14's preparation: Moses' chain byte for byte, archives to splits and references, interruption."""

import io
import tarfile
from dataclasses import replace
from hashlib import md5
from pathlib import Path

import pytest

from fairseq_powernorm.corpora import wmt14
from fairseq_powernorm.files import read_lines

MOSES = Path(__file__).resolve().parents[3] / "shared" / "data" / "moses"


@pytest.mark.realdata
@pytest.mark.parametrize("language", wmt14.LANGUAGES)
def test_the_model_s_text_is_moses_own(language):
    raw, expected = (read_lines(MOSES / f"{name}.{language}") for name in ("raw", "tokenized_aggressive"))
    assert [wmt14.prepare_line(line, language) for line in raw] == expected


@pytest.mark.realdata
def test_the_references_are_moses_own():
    raw, expected = (read_lines(MOSES / f"{name}.de") for name in ("raw", "tokenized"))
    assert wmt14.tokenize_references([(line,) for line in raw], "de") == [(line,) for line in expected]


def pack(path, contents):
    with tarfile.open(path, "w:gz") as tar:
        for name, text in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))


def sgml(language):
    return "".join(f'<seg id="{number}">Das ist’s in {language}, {number}-mal.</seg>\n' for number in (1, 2))


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """The five archives in small, in their layout, with the module's checksums taken off."""
    folder = tmp_path / "copy at hand"
    folder.mkdir()
    texts = {}
    for remote, pattern in wmt14.TRAINING_TEXT.items():
        lines = {"en": f"A well-known line of {remote.name}.\n\n", "de": "Eine „bekannte“ Zeile.\nleer\n"}
        texts[remote.name] = {pattern.format(language=language): lines[language] for language in wmt14.LANGUAGES}
    development = dict.fromkeys(wmt14.DEVELOPMENT_TEXT, "Ein Satz.\n" * 2)
    texts[wmt14.DEVELOPMENT.name] = development
    texts[wmt14.TEST.name] = {name: sgml(language) for language, name in wmt14.TEST_TEXT.items()}
    for name, contents in texts.items():
        pack(folder / name, {"../escaping": "x", **contents, "other/file": "y"})
    bare = {remote: replace(remote, size=None, sha256=None, md5=None) for remote in (*wmt14.TRAINING_TEXT, wmt14.TEST)}
    patterns = {bare[remote]: pattern for remote, pattern in wmt14.TRAINING_TEXT.items()}
    monkeypatch.setattr(wmt14, "TRAINING_TEXT", patterns)
    monkeypatch.setattr(wmt14, "TEST", bare[wmt14.TEST])
    monkeypatch.setattr(
        wmt14, "DEVELOPMENT_TEXT", {name: md5(text.encode()).hexdigest() for name, text in development.items()}
    )
    monkeypatch.setattr(wmt14, "SENTENCES", {"valid": 2, "test": 2})
    return folder


def test_from_the_archives_to_tokens_and_references(archives, tmp_path):
    data = tmp_path / "data"
    wmt14.write_corpus(data, archives)
    assert read_lines(data / "tokenized" / "train.de") == ["Eine &quot; bekannte &quot; Zeile ."] * 3
    assert read_lines(data / "tokenized" / "train.en")[0].startswith("A well @-@ known line of training @-@ parallel")
    assert read_lines(data / "raw" / "test.de")[0] == "Das ist’s in de, 1-mal."
    assert read_lines(data / "reference" / "test.de")[0] == "Das ist ’ s in de , 1-mal ."
    assert read_lines(data / "tokenized" / "test.de")[0] == "Das ist &apos; s in de , 1 @-@ mal ."
    assert not (tmp_path / "escaping").exists() and not list(data.rglob("other"))


def test_stopped_and_started_again(archives, tmp_path, monkeypatch):
    data = tmp_path / "data"
    wmt14.write_corpus(data, archives)
    parts = sorted((data / "tokenized" / "parts").iterdir())
    expected = {path.name: path.read_bytes() for path in (data / "tokenized").glob("*.*")}
    parts[0].unlink()  # as if killed within the first corpus
    (data / "tokenized" / "train.de").unlink()
    before = {path: path.stat().st_mtime_ns for path in parts[2:]}
    wmt14.write_corpus(data, archives)
    assert {path.name: path.read_bytes() for path in (data / "tokenized").glob("*.*")} == expected
    assert {path: path.stat().st_mtime_ns for path in parts[2:]} == before


def test_a_missing_archive_ends_before_anything_is_copied(archives, tmp_path):
    (archives / wmt14.TEST.name).unlink()
    with pytest.raises(OSError, match=r"test-full.tgz"):
        wmt14.write_corpus(tmp_path / "data", archives)
    assert not list((tmp_path / "data").rglob("*.tgz"))


def test_another_validation_set_is_refused(archives, tmp_path, monkeypatch):
    monkeypatch.setattr(wmt14, "DEVELOPMENT_TEXT", dict.fromkeys(wmt14.DEVELOPMENT_TEXT, "0" * 32))
    with pytest.raises(ValueError, match=r"newstest2013.de of dev.tgz: MD5 is .*, expected 0000"):
        wmt14.write_corpus(tmp_path / "data", archives)
    assert not (tmp_path / "data" / "tokenized").exists()


def test_a_disk_too_small_for_the_whole_ends_before_the_first_byte(archives, tmp_path, limit_disk):
    limit_disk(int(wmt14.DISK_BYTES) - 1)
    with pytest.raises(OSError, match=r"not enough room on the disk: 10.000 GB needed"):
        wmt14.write_corpus(tmp_path / "data", archives)
    assert not (tmp_path / "data").exists()
