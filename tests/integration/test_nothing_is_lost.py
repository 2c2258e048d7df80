"""No checkpoint is renamed, removed or written over unless its own bytes prove that it is cut off; and every state of
ours obeys the flag by which fairseq resets its like."""

import copy
import os
import shutil
import sys

import fairseq_cli.train as program
import pytest
import torch

from fairseq_powernorm.checkpoints import average, convert, fold
from fairseq_powernorm.checkpoints.io import load_checkpoint
from fairseq_powernorm.checkpoints.resume import PATIENCE, CannotResume, repair_last_checkpoint
from fairseq_powernorm.transformer import recalibrate

pytestmark = pytest.mark.slow

FLAGS = [
    *("--source-lang", "de", "--target-lang", "en", "--cpu", "--num-workers", "0", "--seed", "1", "--no-progress-bar"),
    *("--arch", "powernorm_tiny", "--norm-type", "power", "--encoder-embed-dim", "8", "--encoder-ffn-embed-dim", "8"),
    *("--encoder-layers", "1", "--encoder-attention-heads", "2", "--decoder-embed-dim", "8"),
    *("--decoder-ffn-embed-dim", "8", "--decoder-layers", "1", "--decoder-attention-heads", "2"),
    *("--share-all-embeddings", "--optimizer", "adam", "--lr", "0.01", "--max-tokens", "400"),
    *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"),
]
LAST = "checkpoint_last.pt"


class NotLetThrough:
    """An object of a task of one's own, in a checkpoint of one's own."""


@pytest.fixture(scope="module")
def trained(letters, tmp_path_factory):
    """A folder after two epochs. (A fixture of a module cannot use `trainings`.)"""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def folder(trained, trainings, tmp_path):
    """A copy of it, for a test to ruin."""
    if not (trained / LAST).exists():
        trainings.train(trainings.configuration([*FLAGS, "--max-epoch", "2"]), trained)
    return shutil.copytree(trained, tmp_path / "run")


def unsafe(path):
    state = load_checkpoint(path)
    state["extra_state"]["mine"] = NotLetThrough()
    torch.save(state, path)


def linked_to(target=None):
    def ruin(path):
        path.unlink()
        path.symlink_to(target or path.name)

    return ruin


def folder_instead(path):
    path.unlink()
    path.mkdir()
    (path / "precious").write_text("work")


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-999])


# What is no proof: a file whose class is not let through, of another kind, on a disk that does not answer, …
UNREADABLE = {
    "a class that is not let through": unsafe,
    "no checkpoint": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"),
    "another file of torch's": lambda path: torch.save({"weights": torch.ones(3)}, path),
    "a link whose disk is not mounted": linked_to("/nowhere/checkpoint_last.pt"),
    "an input/output error": linked_to("/proc/self/mem"),
    "a link to itself": linked_to(),
    "a folder": folder_instead,
}


def contents(folder):
    """Names, links and bytes of all below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[path.relative_to(folder)] = os.readlink(path)
        else:
            found[path.relative_to(folder)] = path.read_bytes() if path.is_file() else None
    return found


def start(trainings, folder, **checkpoint_options):
    cfg = copy.deepcopy(trainings.configuration([*FLAGS, "--max-epoch", "3"]))
    cfg.checkpoint.update(checkpoint_options)
    trainings.train(cfg, folder)


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("which", ["last", "the one that would replace it", "named"])
def test_a_training_stops_before_what_it_cannot_read(folder, trainings, kind, which):
    options = {}
    UNREADABLE[kind](folder / (LAST if which == "last" else "checkpoint2.pt"))
    if which == "named":
        options = {"restore_file": str(folder / "checkpoint2.pt")}
    elif which != "last":
        for name in (LAST, "checkpoint1.pt", "checkpoint_best.pt"):
            cut_off(folder / name)
    before = contents(folder)
    with pytest.raises(CannotResume, match=r"^[^\n]*nothing was changed[^\n]*$"):
        start(trainings, folder, **options)
    assert contents(folder) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a user without the permission")
@pytest.mark.parametrize("where", ["the file", "the folder"])
def test_a_missing_permission(folder, where):
    for parent in (folder, *folder.parents):
        if parent.owner() == "root" and len(parent.parts) > 2:
            parent.chmod(0o755)
    folder.chmod(0o777 if where == "the file" else 0o700)
    (folder / LAST).chmod(0o600)
    before = contents(folder)
    os.seteuid(65534)
    try:
        with pytest.raises(CannotResume, match="Permission denied"):
            repair_last_checkpoint(folder)
    finally:
        os.seteuid(0)
    assert contents(folder) == before


def test_too_little_memory(folder, trainings, monkeypatch):
    before = contents(folder)

    def load(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", load)
        with pytest.raises(CannotResume, match="not enough memory"):
            start(trainings, folder)
    assert contents(folder) == before


def test_a_whole_one_is_trained_on_and_a_cut_off_one_is_kept(folder, trainings):
    """That the tests above can fail."""
    cut_off(folder / LAST)
    half = (folder / LAST).read_bytes()
    start(trainings, folder)
    assert (folder / "checkpoint_last.pt.damaged").read_bytes() == half
    assert load_checkpoint(folder / LAST)["extra_state"]["train_iterator"]["epoch"] == 4


@pytest.mark.parametrize("tool", [average, fold, recalibrate, convert], ids=lambda tool: tool.__name__)
def test_tools_write_over_nothing(folder, trainings, monkeypatch, tool):
    """Neither over another checkpoint without --force, nor with it where they fail."""
    before = contents(folder)
    option = {average: "--inputs", convert: "--input"}.get(tool, "--checkpoint")
    unsafe(bad := folder.parent / shutil.copy(folder / LAST, folder.parent / "bad.pt"))
    for source in (folder / LAST, bad):
        for force in ([], ["--force"] if source == bad else []):
            words = ["tool", option, source, "--output", folder / "checkpoint2.pt", *force]
            monkeypatch.setattr(sys, "argv", [str(word) for word in words])
            with pytest.raises(SystemExit):
                tool.command()
            assert contents(folder) == before


RESETS = {"reset_meters": False, "reset_optimizer": False, "reset_lr_scheduler": True, "reset_dataloader": True}


@pytest.mark.parametrize("flag", [*RESETS, "restore_file", "finetune_from_model", "the second start of it"])
def test_patience_obeys_the_flags_that_reset_the_best_metric(folder, trainings, flag, tmp_path):
    """A loss that nothing reaches is in the checkpoint as fairseq's best, and in our count."""
    state = load_checkpoint(folder / LAST)
    state["extra_state"].update({"best": -9.0, PATIENCE: {"best": -9.0, "validations_since": 5}})
    torch.save(state, folder / LAST)
    kept, options = RESETS.get(flag, True), {flag: True}
    if flag in ("restore_file", "finetune_from_model"):
        kept = flag == "restore_file"
        options = {flag: str(shutil.move(folder / LAST, tmp_path / "other.pt"))}
    elif flag not in RESETS:
        options = {"finetune_from_model": str(folder / "checkpoint1.pt")}
    start(trainings, folder, patience=9, **options)
    count, best = program.should_stop_early, load_checkpoint(folder / LAST)["extra_state"]["best"]
    assert ((count.best == -9.0), (count.num_runs >= 6), (best == -9.0)) == (kept, kept, kept)
