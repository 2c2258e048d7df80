"""Unpacking: the files asked for, nothing outside the folder, and nothing at all of what is damaged or refused."""

import errno
import gzip
import io
import os
import re
import tarfile

import pytest

from fairseq_powernorm.corpora.archives import extract

FILES = {"corpus/train.de": os.urandom(200_000), "corpus/train.en": b"some text\n" * 1000, "corpus/deep/er/a": b""}
MODES = {"tgz": "w:gz", "tar": "w"}


def member(name, type_=tarfile.REGTYPE, content=b"text", **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size = type_, len(content) if type_ == tarfile.REGTYPE else 0
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def write_archive(path, members):
    with tarfile.open(path, MODES[path.suffix[1:]]) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


def plain_files():
    return [member("corpus", tarfile.DIRTYPE), *(member(name, content=content) for name, content in FILES.items())]


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.fixture(params=["tgz", "tar"])
def path(request, tmp_path):
    return tmp_path / f"archive.{request.param}"


def test_only_the_members_wanted_come_out(path, tmp_path):
    write_archive(path, plain_files())
    assert extract(path, tmp_path / "all", reversed(FILES)) == [tmp_path / "all" / name for name in FILES]
    assert {name: (tmp_path / "all" / name).read_bytes() for name in FILES} == FILES
    assert files_below(tmp_path / "all") == sorted(FILES) and os.listdir(tmp_path / "all") == ["corpus"]
    assert extract(path, tmp_path / "to", {"./corpus/train.en"}) == [tmp_path / "to" / "corpus" / "train.en"]
    assert files_below(tmp_path / "to") == ["corpus/train.en"]
    assert extract(path, tmp_path / "none", set()) == []


def test_names_with_a_leading_dot_are_the_same_names(path, tmp_path):
    write_archive(path, [member("./a/b")])
    assert extract(path, tmp_path / "to", {"a/b"}) == [tmp_path / "to" / "a" / "b"]


def test_a_missing_member_is_named_and_nothing_unpacked(path, tmp_path):
    write_archive(path, plain_files())
    with pytest.raises(ValueError, match=re.escape(f"{path}: no member absent, corpus/train; nothing was unpacked")):
        extract(path, tmp_path / "to", {"corpus/train.de", "corpus/train", "absent"})
    assert files_below(tmp_path / "to") == []


def test_a_folder_is_no_file(path, tmp_path):
    write_archive(path, plain_files())
    with pytest.raises(ValueError, match="member 'corpus' is no plain file"):
        extract(path, tmp_path / "to", {"corpus"})


def test_a_file_that_exists_is_replaced_only_together_with_all(path, tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "train.en").write_bytes(b"old")
    write_archive(path, plain_files())
    with pytest.raises(ValueError, match="no member x"):
        extract(path, tmp_path, {"corpus/train.en", "x"})
    assert (tmp_path / "corpus" / "train.en").read_bytes() == b"old"
    extract(path, tmp_path, {"corpus/train.en"})
    assert (tmp_path / "corpus" / "train.en").read_bytes() == FILES["corpus/train.en"]


BAD = {
    "parent": (member("../escaped"), "'../escaped' leaves the folder"),
    "parent inside": (member("corpus/../../escaped"), "leaves the folder"),
    "absolute": (member("/tmp/escaped"), "'/tmp/escaped' leaves the folder"),
    "link": (member("corpus/way", tarfile.SYMTYPE, linkname=".."), "'corpus/way' is no plain file"),
    "hard link": (member("way", tarfile.LNKTYPE, linkname="/etc/passwd"), "'way' is no plain file"),
    "character device": (member("null", tarfile.CHRTYPE, devmajor=1, devminor=3), "'null' is no plain file"),
    "pipe": (member("pipe", tarfile.FIFOTYPE), "'pipe' is no plain file"),
    "twice": (member("./corpus/train.de", content=b"other"), "'corpus/train.de' is there twice"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("first", [True, False])
def test_what_could_escape_is_ignored_and_refused_where_it_is_wanted(path, tmp_path, case, first):
    bad, message = BAD[case]
    write_archive(path, [bad, *plain_files()] if first else [*plain_files(), bad])
    extract(path, tmp_path / "deep" / "to", {"corpus/train.en"})
    before = files_below(tmp_path)
    assert before == [path.name, "deep/to/corpus/train.en"]
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: .*({message}).*nothing was unpacked"):
        extract(path, tmp_path / "deep" / "to", {*FILES, bad[0].name, "more"})
    assert files_below(tmp_path) == before


def test_a_link_leads_no_file_out_of_the_folder(path, tmp_path):
    write_archive(path, [member("way", tarfile.SYMTYPE, linkname=".."), member("way/inside")])
    extract(path, tmp_path / "to", {"way/inside"})
    assert files_below(tmp_path) == [path.name, "to/way/inside"]


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_archive_is_one_line_and_leaves_no_file(path, tmp_path, kept):
    write_archive(path, [*plain_files(), member("last", content=os.urandom(100_000))])
    size = path.stat().st_size if path.suffix == ".tgz" else 512 * (path.stat().st_size // 512 - 16)
    os.truncate(path, int(size * kept))
    with pytest.raises(ValueError, match=r"damaged, or not a .tar or .tar.gz") as raised:
        extract(path, tmp_path / "to", {*FILES, "last"})
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)
    assert files_below(tmp_path / "to") == []


def test_damaged_compression_is_named(tmp_path):
    tar = write_archive(tmp_path / "archive.tar", [member("a", content=os.urandom(300_000))]).read_bytes()
    damaged = bytearray(gzip.compress(tar[150_000:]))
    damaged[10] |= 0b111  # after the header: a block of the kind that deflate does not have
    path = tmp_path / "archive.tgz"
    path.write_bytes(gzip.compress(tar[:150_000]) + damaged)
    with pytest.raises(ValueError, match=r"damaged, or not a .tar"):
        extract(path, tmp_path / "to", {"a"})
    assert files_below(tmp_path / "to") == []


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>not found</html>" * 100, gzip.compress(b"no tar" * 1000)],
    ids=["empty", "a web page", "gzip of something else"],
)
def test_what_is_no_archive_is_named(path, tmp_path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged, or not a .tar or .tar.gz")):
        extract(path, tmp_path / "to", {"a"})


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent.tgz"):
        extract(tmp_path / "absent.tgz", tmp_path / "to", {"a"})


def test_reading_stops_at_the_last_member_wanted(tmp_path):
    later = os.urandom(2_000_000)
    path = write_archive(tmp_path / "archive.tgz", [*plain_files(), member("later", content=later)])
    os.truncate(path, path.stat().st_size - 1_000_000)
    extract(path, tmp_path / "to", set(FILES))  # would fail if it read on
    assert files_below(tmp_path / "to") == sorted(FILES)


def test_a_disk_too_small_is_noticed_before_the_file_is_written(path, tmp_path, limit_disk):
    limit_disk(100_000)
    write_archive(path, plain_files())
    with pytest.raises(OSError, match=r"not enough room on the disk: 0.000 GB needed"):
        extract(path, tmp_path / "to", FILES)
    extract(path, tmp_path / "to", {"corpus/train.en"})  # what is not wanted needs no room
    assert files_below(tmp_path / "to") == ["corpus/train.en"]


def test_a_disk_that_fills_up_is_one_line_and_leaves_no_file(path, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    write_archive(path, plain_files())
    with pytest.raises(OSError, match=f"No space left on device; nothing was unpacked: '{re.escape(str(path))}'"):
        extract(path, tmp_path / "to", FILES)
    assert files_below(tmp_path / "to") == []
