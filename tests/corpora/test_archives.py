"""Unpacking: nothing outside the folder, and nothing at all from an archive that is damaged or refused."""

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


def test_all_files_come_out_in_their_order(path, tmp_path):
    assert extract(write_archive(path, plain_files()), tmp_path / "to") == [tmp_path / "to" / name for name in FILES]
    assert {name: (tmp_path / "to" / name).read_bytes() for name in FILES} == FILES
    assert files_below(tmp_path / "to") == sorted(FILES) and os.listdir(tmp_path / "to") == ["corpus"]


def test_only_the_members_wanted_come_out(path, tmp_path):
    write_archive(path, plain_files())
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
    with pytest.raises(ValueError, match="member 'corpus' is a folder"):
        extract(path, tmp_path / "to", {"corpus"})


def test_a_file_that_exists_is_replaced_only_by_a_whole_one(path, tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "train.en").write_bytes(b"old")
    write_archive(path, [*plain_files(), member("../x")])
    with pytest.raises(ValueError, match="leaves the folder"):
        extract(path, tmp_path)
    assert (tmp_path / "corpus" / "train.en").read_bytes() == b"old"
    extract(path, tmp_path, {"corpus/train.en"})
    assert (tmp_path / "corpus" / "train.en").read_bytes() == FILES["corpus/train.en"]


BAD = {
    "parent": ([member("../escaped")], "'../escaped' is a path that leaves the folder"),
    "parent inside": ([member("corpus/../../escaped")], "leaves the folder"),
    "parent folder": ([member("../escaped", tarfile.DIRTYPE)], "leaves the folder"),
    "absolute": ([member("/tmp/escaped")], "'/tmp/escaped' is a path that leaves the folder"),
    "through a link": (
        [member("way", tarfile.SYMTYPE, linkname=".."), member("way/escaped")],
        r"'way' is a link to '\.\.'",
    ),
    "link inside": ([member("a"), member("b", tarfile.SYMTYPE, linkname="a")], "'b' is a link to 'a'"),
    "hard link": ([member("way", tarfile.LNKTYPE, linkname="/etc/passwd")], "'way' is a link to '/etc/passwd'"),
    "character device": ([member("null", tarfile.CHRTYPE, devmajor=1, devminor=3)], "'null' is neither"),
    "block device": ([member("disk", tarfile.BLKTYPE)], "'disk' is neither"),
    "pipe": ([member("pipe", tarfile.FIFOTYPE)], "'pipe' is neither"),
    "no name": ([member("./")], "a file without a name|neither"),
    "twice": ([member("a"), member("./a", content=b"other")], "'a' is there twice"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("first", [True, False])
def test_what_could_escape_is_refused_and_nothing_written(path, tmp_path, case, first):
    bad, message = BAD[case]
    write_archive(path, [*bad, *plain_files()] if first else [*plain_files(), *bad])
    before = files_below(tmp_path)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: member .*({message}).*nothing was unpacked"):
        extract(path, tmp_path / "deep" / "to")
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("case", ["parent", "through a link", "hard link", "character device"])
def test_what_could_escape_is_ignored_among_the_unwanted_but_refused_if_wanted(path, tmp_path, case):
    bad = BAD[case][0]
    write_archive(path, [*bad, *plain_files()])
    extract(path, tmp_path / "deep" / "to", {"corpus/train.en"})
    assert files_below(tmp_path) == [path.name, "deep/to/corpus/train.en"]
    with pytest.raises(ValueError, match=r"leaves the folder|is a link|is neither"):
        extract(path, tmp_path / "deep" / "to", {bad[0][0].name})


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_archive_is_one_line_and_leaves_no_file(path, tmp_path, kept):
    write_archive(path, [*plain_files(), member("last", content=os.urandom(100_000))])
    size = path.stat().st_size if path.suffix == ".tgz" else 512 * (path.stat().st_size // 512 - 16)
    os.truncate(path, int(size * kept))
    with pytest.raises(ValueError, match=r"damaged, or not a .tar or .tar.gz") as raised:
        extract(path, tmp_path / "to")
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)
    assert files_below(tmp_path / "to") == []


def test_an_archive_cut_between_two_members_is_noticed(tmp_path):
    path = write_archive(tmp_path / "archive.tar", [member("a"), member("b")])
    os.truncate(path, 2 * 512)  # header and content of a
    with pytest.raises(ValueError, match="does not end as an archive does"):
        extract(path, tmp_path / "to")
    assert files_below(tmp_path / "to") == []


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    path = write_archive(tmp_path / "archive.tar", [member("a"), member("b")])
    content = bytearray(path.read_bytes())
    content[2 * 512] ^= 1  # in the name of b: its checksum is wrong now
    path.write_bytes(content)
    with pytest.raises(ValueError, match="does not end as an archive does"):
        extract(path, tmp_path / "to")
    assert files_below(tmp_path / "to") == []


def test_damaged_compression_is_named(tmp_path):
    tar = write_archive(tmp_path / "archive.tar", [member("a", content=os.urandom(300_000))]).read_bytes()
    damaged = bytearray(gzip.compress(tar[150_000:]))
    damaged[10] |= 0b111  # after the header: a block of the kind that deflate does not have
    path = tmp_path / "archive.tgz"
    path.write_bytes(gzip.compress(tar[:150_000]) + damaged)
    with pytest.raises(ValueError, match=r"damaged, .*\(Error -3 while decompressing data"):
        extract(path, tmp_path / "to")
    assert files_below(tmp_path / "to") == []


def test_the_checksum_is_compared_however_far_behind_the_last_member(tmp_path):
    packed = bytearray(
        gzip.compress(write_archive(tmp_path / "archive.tar", plain_files()).read_bytes() + bytes(10**6))
    )
    path = tmp_path / "archive.tgz"
    path.write_bytes(packed)
    extract(path, tmp_path / "whole")
    packed[-8] ^= 1  # the checksum
    path.write_bytes(packed)
    with pytest.raises(ValueError, match="CRC check failed"):
        extract(path, tmp_path / "to")
    assert files_below(tmp_path / "to") == []


def test_damaged_content_is_found_by_the_checksum_at_the_end(tmp_path):
    path = write_archive(tmp_path / "archive.tgz", plain_files())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged, or not a .tar or .tar.gz \((CRC|Error|.*invalid)"):
        extract(path, tmp_path / "to")
    assert files_below(tmp_path / "to") == []


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>not found</html>" * 100, gzip.compress(b"no tar" * 1000)],
    ids=["empty", "a web page", "gzip of something else"],
)
def test_what_is_no_archive_is_named(path, tmp_path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged, or not a .tar or .tar.gz")):
        extract(path, tmp_path / "to")


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent.tgz"):
        extract(tmp_path / "absent.tgz", tmp_path / "to")


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
        extract(path, tmp_path / "to")
    extract(path, tmp_path / "to", {"corpus/train.en"})  # what is not wanted needs no room
    assert files_below(tmp_path / "to") == ["corpus/train.en"]


def test_a_disk_that_fills_up_is_one_line_and_leaves_no_file(path, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    write_archive(path, plain_files())
    with pytest.raises(OSError, match=f"No space left on device; nothing was unpacked: '{re.escape(str(path))}'"):
        extract(path, tmp_path / "to")
    assert files_below(tmp_path / "to") == []
