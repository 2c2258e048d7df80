"""A restart finds a checkpoint that can be loaded, and early stopping goes on where it was."""

import argparse
import os
import shutil

import pytest
import torch

from fairseq_powernorm.checkpoints.io import load_checkpoint
from fairseq_powernorm.checkpoints.resume import PATIENCE, Patience, read_patience, repair_last_checkpoint


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
    (folder / "checkpoint3.pt").write_bytes(b"PK\3\4 not whole either")
    assert repair_last_checkpoint(folder) == path
    assert load_checkpoint(path)["extra_state"]["val_loss"] == 4.5
    assert "going on from checkpoint2.pt" in caplog.text
    assert (folder / "checkpoint_last.pt.damaged").exists()


def test_without_another_training_begins_anew(tmp_path, caplog):
    """All that is damaged is kept, and what was kept before is not overwritten."""
    for name in ("checkpoint_last.pt", "checkpoint_best.pt"):
        (tmp_path / name).write_bytes(b"PK\3\4 half " + name.encode())
    (tmp_path / "checkpoint_last.pt.damaged").write_bytes(b"kept before")
    assert repair_last_checkpoint(tmp_path) is None
    assert "training begins anew" in caplog.text
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {
        "checkpoint_last.pt.damaged": b"kept before",
        "checkpoint_last.pt.damaged2": b"PK\3\4 half checkpoint_last.pt",
        "checkpoint_best.pt.damaged": b"PK\3\4 half checkpoint_best.pt",
    }


def test_the_newest_by_its_updates_whenever_it_was_copied(folder):
    """A folder that was copied has other times of writing."""
    os.utime(folder / "checkpoint1.pt", (2e9, 2e9))
    last = folder / "checkpoint_last.pt"
    last.write_bytes(last.read_bytes()[:-9])
    repair_last_checkpoint(folder)
    assert load_checkpoint(last)["optimizer_history"][-1]["num_updates"] == 20


def test_killed_while_it_replaces(folder, monkeypatch):
    """The damaged file keeps its name until the whole one takes its place: the next start sees it again."""
    last = folder / "checkpoint_last.pt"
    last.write_bytes(half := last.read_bytes()[:-9])
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            repair_last_checkpoint(folder)
    assert last.read_bytes() == half
    assert repair_last_checkpoint(folder) == last and load_checkpoint(last)["extra_state"]["val_loss"] == 4.5


def test_a_file_system_without_links(folder, monkeypatch):
    last = folder / "checkpoint_last.pt"
    last.write_bytes(half := last.read_bytes()[:-9])
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "Operation not permitted")))
    assert repair_last_checkpoint(folder) == last
    assert (folder / "checkpoint_last.pt.damaged").read_bytes() == half


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


def test_a_checkpoint_that_says_it_is_believed(tmp_path):
    write(tmp_path, 1, 5.0, 4.0, "checkpoint_last.pt")
    state = load_checkpoint(tmp_path / "checkpoint_last.pt")
    state["extra_state"][PATIENCE] = {"best": 4.0, "validations_since": 7}
    torch.save(state, tmp_path / "checkpoint_last.pt")
    assert read_patience(tmp_path) == Patience(4.0, 7)


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
    (tmp_path / "run" / "checkpoint_2_25.pt.tmp").write_bytes(last.read_bytes())  # half as well
    shutil.copy(tmp_path / "run" / "checkpoint_best.pt", tmp_path / "run" / "checkpoint_2_30.pt.tmp")  # a whole one
    assert repair_last_checkpoint(tmp_path / "run") == last
    names = ["checkpoint_2_30.pt.tmp", "checkpoint_best.pt", "checkpoint_last.pt", "checkpoint_last.pt.damaged"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == names
    assert last.read_bytes() == (tmp_path / "run" / "checkpoint_best.pt").read_bytes()
