"""What proves that a checkpoint is cut off or altered, and what does not."""

import io
import itertools
import pickle

import pytest
import torch

from fairseq_powernorm.checkpoints.damage import find_damage, zip_damage
from fairseq_powernorm.checkpoints.io import DamagedCheckpoint, load_checkpoint


@pytest.fixture(params=["zip", "legacy"])
def whole(request, tmp_path):
    """A checkpoint in torch's format, and in that of before 1.6."""
    path = tmp_path / "whole.pt"
    state = {"model": {"weight": torch.arange(999.0)}, "extra_state": {"epoch": 3}}
    torch.save(state, path, _use_new_zipfile_serialization=request.param == "zip")
    return path


def test_every_length(whole, tmp_path):
    assert find_damage(whole) is None
    content, path = whole.read_bytes(), tmp_path / "cut.pt"
    for size in [*range(0, 300, 7), *range(300, len(content), 501), len(content) - 2, len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(DamagedCheckpoint, match=r"cut\.pt: truncated"):
            load_checkpoint(path)


def test_every_byte_of_an_archive(tmp_path):
    torch.save({"model": {"weight": torch.arange(99.0)}}, tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    start = content.index(b"data/0")  # the header and the values of the tensor
    for position in range(start, start + 500, 3):
        altered = bytearray(content)
        altered[position] ^= 0x41
        (tmp_path / "altered.pt").write_bytes(altered)
        # Padding between members belongs to none: then there is nothing wrong.
        proof = find_damage(tmp_path / "altered.pt")
        try:
            same = torch.equal(load_checkpoint(tmp_path / "altered.pt")["model"]["weight"], torch.arange(99.0))
        except ValueError:
            same = False
        assert proof is not None or same, position


def test_no_altered_byte_is_more_than_a_proof(tmp_path):
    """The directory at the end too, where a byte asks for a password, a method of compression or another disk."""
    torch.save({"model": {"weight": torch.arange(3.0)}}, tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    proofs = 0
    for position, bits in itertools.product(range(len(content)), (0x01, 0x80, 0xFF)):
        altered = bytearray(content)
        altered[position] ^= bits
        proofs += zip_damage(io.BytesIO(altered)) is not None
    assert proofs > len(content)


def test_a_power_cut(tmp_path):
    (tmp_path / "zeros.pt").write_bytes(bytes(5000))
    assert "zero bytes" in find_damage(tmp_path / "zeros.pt")
    torch.save({"model": {"weight": torch.ones(9999)}}, tmp_path / "begins with zeros.pt")
    content = (tmp_path / "begins with zeros.pt").read_bytes()
    (tmp_path / "begins with zeros.pt").write_bytes(bytes(4096) + content[4096:])
    assert find_damage(tmp_path / "begins with zeros.pt").startswith("damaged")


def test_without_checksums_nothing_is_proved(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"model": {"weight": torch.ones(99)}}, tmp_path / "unchecked.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert find_damage(tmp_path / "unchecked.pt") is None
    load_checkpoint(tmp_path / "unchecked.pt")


@pytest.mark.parametrize(
    "content",
    [b"half", b"version https://git-lfs.github.com/spec/v1\n", pickle.dumps({"model": {}}), b"\x1f\x8b" + bytes(99)],
    ids=["text", "git-lfs", "pickle", "gzip"],
)
def test_what_begins_as_no_checkpoint_is_not_a_damaged_one(tmp_path, content):
    (tmp_path / "other.pt").write_bytes(content)
    assert find_damage(tmp_path / "other.pt") is None
    with pytest.raises(ValueError, match=r"other\.pt: not a checkpoint at all"):
        load_checkpoint(tmp_path / "other.pt")


def test_an_unknown_byte_within_a_pickle_is_no_proof(tmp_path):
    path = tmp_path / "legacy.pt"
    torch.save({"model": {"weight": torch.ones(9)}}, path, _use_new_zipfile_serialization=False)
    content = bytearray(path.read_bytes())
    content[40] = 0xFF
    path.write_bytes(content)
    assert find_damage(path) is None


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory_is_said(whole, monkeypatch, error):
    def load(*_, **__):
        raise error

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(OSError, match=r"not enough memory to read it: .*whole\.pt"):
        load_checkpoint(whole)
