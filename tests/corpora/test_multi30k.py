"""Multi30k's archives: all that the splits need, and nothing written before each of them is right."""

import re
import shutil

import pytest

from fairseq_powernorm.corpora import multi30k


def test_every_split_has_its_archives():
    needed = {f"{name}.{language}.gz" for name, _ in multi30k.SPLITS.values() for language in multi30k.LANGUAGES}
    assert {archive.name for archive in multi30k.ARCHIVES} == needed


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent: no such folder"):
        multi30k.write_corpus(tmp_path / "to", tmp_path / "absent")
    assert not (tmp_path / "to").exists()


@pytest.mark.realdata
def test_a_missing_or_damaged_archive_is_named_before_any_text_is_written(real_data, tmp_path):
    copies = tmp_path / "copies"
    shutil.copytree(real_data / "multi30k", copies)
    last = copies / multi30k.ARCHIVES[-1].name
    content = last.read_bytes()
    last.unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"{last} does not exist")):
        multi30k.write_corpus(tmp_path / "to", copies)
    assert not (tmp_path / "to").exists()
    last.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=re.escape(f"{last}: SHA-256 is ")):
        multi30k.write_corpus(tmp_path / "to", copies)
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["archives"]
    assert not (tmp_path / "to" / "archives" / last.name).exists()
