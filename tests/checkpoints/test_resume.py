"""A restart finds a checkpoint that can be loaded, and early stopping goes on where it was."""

import argparse
import shutil

import pytest
import torch

from fairseq_powernorm.checkpoints.io import load_checkpoint
from fairseq_powernorm.checkpoints.resume import Patience, read_patience, repair_last_checkpoint


def write(folder, epoch, metric, best, name=None):
    """A checkpoint as fairseq writes it at the end of an epoch: its iterator names the next one."""
    state = {
        "args": argparse.Namespace(arch="x"),
        "model": {"weight": torch.full((1000,), float(epoch))},
        "optimizer_history": [{"num_updates": 10 * epoch}],
        "extra_state": {"train_iterator": {"epoch": epoch + 1}, "val_loss": metric, "best": best},
    }
    torch.save(state, folder / (name or f"checkpoint{epoch}.pt"))


@pytest.fixture
def folder(tmp_path):
    for epoch, metric in ((1, 5.0), (2, 4.5)):
        write(tmp_path, epoch, metric, metric)
    shutil.copy(tmp_path / "checkpoint2.pt", tmp_path / "checkpoint_last.pt")
    return tmp_path


def test_a_whole_checkpoint_is_left_alone(folder):
    before = (folder / "checkpoint_last.pt").read_bytes()
    assert repair_last_checkpoint(folder) == folder / "checkpoint_last.pt"
    assert (folder / "checkpoint_last.pt").read_bytes() == before and not list(folder.glob("*.damaged"))


def test_nothing_to_continue_from(tmp_path):
    assert repair_last_checkpoint(tmp_path) is None and repair_last_checkpoint(tmp_path / "none") is None


@pytest.mark.parametrize("damage", ["empty", "truncated", "zeroed"])
def test_a_damaged_one_is_replaced_by_the_newest_whole(folder, damage, caplog):
    path = folder / "checkpoint_last.pt"
    content = bytearray(path.read_bytes())
    middle = content.find(b"\x00\x00\x00\x40" * 100) + 40  # in the values of `weight`: no structure is lost
    content[middle : middle + 100] = bytes(100)
    path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "zeroed": bytes(content)}[damage])
    (folder / "checkpoint3.pt").write_bytes(b"PK not whole either")
    assert repair_last_checkpoint(folder) == path
    assert load_checkpoint(path)["extra_state"]["val_loss"] == 4.5
    assert "going on from checkpoint2.pt" in caplog.text
    assert (folder / "checkpoint_last.pt.damaged").exists()


def test_without_another_training_begins_anew(tmp_path, caplog):
    (tmp_path / "checkpoint_last.pt").write_bytes(b"half")
    assert repair_last_checkpoint(tmp_path) is None
    assert not (tmp_path / "checkpoint_last.pt").exists() and "training begins anew" in caplog.text


def fairseq_rule(metrics):
    """fairseq's own counting, from the first epoch on."""
    best, since = None, 0
    for metric in metrics:
        best, since = (metric, 0) if best is None or metric < best else (best, since + 1)
    return Patience(best, since)


@pytest.mark.parametrize(
    "metrics",
    [[5.0], [5.0, 4.0], [5.0, 4.0, 4.0], [5.0, 4.0, 4.2, 4.1], [3.0, 4.0, 4.0, 3.0], [4.0, 3.0, 3.5, 3.0, 3.0]],
)
def test_early_stopping_is_counted_as_fairseq_counts(tmp_path, metrics):
    for epoch, metric in enumerate(metrics, start=1):
        write(tmp_path, epoch, metric, min(metrics[:epoch]))
    shutil.copy(tmp_path / f"checkpoint{len(metrics)}.pt", tmp_path / "checkpoint_last.pt")
    assert read_patience(tmp_path) == fairseq_rule(metrics)


def test_a_checkpoint_newer_than_the_last_does_not_count(tmp_path):
    """Killed between writing an epoch's checkpoint and copying it to checkpoint_last.pt."""
    for epoch, metric in enumerate([4.0, 4.5, 4.6], start=1):
        write(tmp_path, epoch, metric, 4.0)
    shutil.copy(tmp_path / "checkpoint2.pt", tmp_path / "checkpoint_last.pt")
    assert read_patience(tmp_path) == Patience(4.0, 1)


def test_old_epochs_that_were_removed(tmp_path):
    """--keep-last-epochs 3: the best is gone, and every epoch that is left was no better."""
    for epoch in (5, 6, 7):
        write(tmp_path, epoch, 4.5, 4.0)
    shutil.copy(tmp_path / "checkpoint7.pt", tmp_path / "checkpoint_last.pt")
    assert read_patience(tmp_path) == Patience(4.0, 3)


def test_nothing_validated_yet(tmp_path):
    write(tmp_path, 1, None, None, "checkpoint_last.pt")
    assert read_patience(tmp_path) is None and read_patience(tmp_path / "none") is None


def test_the_best_one_will_do_and_leftovers_go(tmp_path, folder):
    """With --no-epoch-checkpoints there is no other."""
    (tmp_path / "run").mkdir()
    for name in ("checkpoint_best.pt", "checkpoint_last.pt"):
        shutil.copy(next(folder.glob("checkpoint[0-9]*.pt")), tmp_path / "run" / name)
    last = tmp_path / "run" / "checkpoint_last.pt"
    last.write_bytes(last.read_bytes()[:-99])
    (tmp_path / "run" / "checkpoint_2_25.pt.tmp").write_bytes(b"half")
    assert repair_last_checkpoint(tmp_path / "run") == last
    names = ["checkpoint_best.pt", "checkpoint_last.pt", "checkpoint_last.pt.damaged"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == names
    assert last.read_bytes() == (tmp_path / "run" / "checkpoint_best.pt").read_bytes()
