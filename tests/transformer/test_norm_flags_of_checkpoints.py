"""A training keeps the norms of the checkpoint that it starts from, or says so."""

import logging
from argparse import Namespace

import pytest
import torch

from fairseq_powernorm.flags.values import FlagError
from fairseq_powernorm.transformer.norm_flags_of_checkpoints import check_same_norms


def saved(models, path, *flags, without=(), **changes):
    """A checkpoint of a model with these flags, as far as what starts from it looks at it."""
    args = models.parse(*flags)
    for name in without:
        delattr(args, name)
    for name, value in changes.items():
        setattr(args, name, value)
    torch.save({"cfg": {"model": args}, "model": {}}, path)
    return str(path)


BARE = ("--norm-group-scaling", "0", "--norm-warmup-updates", "0")
UNIFIED = ("--norm-type", "unified")
SCHEDULE = ("--lr-scheduler", "inverse_sqrt", "--warmup-updates", "9")


def test_a_checkpoint_of_before_does_not_become_another_model(models, tmp_path):
    """Before there was `auto`, a command without the two flags trained the bare norm."""
    path = saved(models, tmp_path / "checkpoint_last.pt", *BARE)
    with pytest.raises(ValueError, match=r"other norms .* add --norm-warmup-updates 0 --norm-group-scaling 0; for a"):
        check_same_norms(models.parse(*SCHEDULE), path, fine_tuning=False)
    check_same_norms(models.parse(*SCHEDULE, *BARE), path, fine_tuning=False)


def test_a_checkpoint_older_than_the_flags_is_one_of_the_bare_norm(models, tmp_path):
    names = ("norm_group_scaling", "norm_warmup_updates")
    path = saved(models, tmp_path / "checkpoint_last.pt", without=names)
    check_same_norms(models.parse(*BARE), path, fine_tuning=False)
    with pytest.raises(ValueError, match="--norm-group-scaling 0"):
        check_same_norms(models.parse(), path, fine_tuning=False)


@pytest.mark.parametrize(
    ("stored", "asked", "advice"),
    [
        (["--norm-alpha-bwd", "0.8"], [], "add --norm-alpha-bwd 0.8"),
        ([], ["--encoder-norm-ffn", "pn-v"], "leave out --encoder-norm-ffn"),
        (["--norm-type", "batch"], ["--norm-type", "pn-v"], "add --norm-type batch"),
        (["--norm-position", "post"], [], "add --norm-position post"),
        ([], ["--norm-sync"], None),  # where the statistics are taken belongs to the hardware
        (["--norm-type", "layer"], ["--norm-type", "layer", "--norm-alpha-bwd", "0.8"], None),  # LayerNorm has none
        (["--norm-group-scaling", "2"], ["--norm-group-scaling", "heads"], None),  # of which there are 2
        (["--norm-depth-scaling"], [], "add --norm-depth-scaling"),
        (
            ["--norm-type", "unified", "--norm-unified-window", "3"],
            ["--norm-type", "unified"],
            "--norm-unified-window 3",
        ),
        (["--norm-unified-window", "3"], [], None),  # power has none
        (
            ["--norm-type", "unified"],
            ["--norm-type", "unified", "--max-update", "90"],
            "--norm-unified-warmup-updates 1",
        ),
    ],
)
def test_what_makes_another_model(models, tmp_path, stored, asked, advice):
    path = saved(models, tmp_path / "checkpoint_last.pt", *stored)
    if advice is None:
        check_same_norms(models.parse(*asked), path, fine_tuning=False)
        return
    with pytest.raises(ValueError, match=advice):
        check_same_norms(models.parse(*asked), path, fine_tuning=False)


@pytest.mark.parametrize(
    "start",
    [
        ["--finetune-from-model", "{path}"],
        ["--restore-file", "{path}", "--reset-optimizer"],
    ],
)
def test_fine_tuning_takes_what_is_left_open_from_the_checkpoint(models, tmp_path, caplog, start):
    path = saved(models, tmp_path / "trained.pt", *BARE, "--norm-type", "pn-v", "--norm-alpha-fwd", "0.8")
    args = models.parse(*SCHEDULE, *(word.format(path=path) for word in start))
    assert (args.norm_type, args.norm_group_scaling, args.norm_warmup_updates) == ("pn-v", "0", 0)
    assert args.norm_alpha_fwd == 0.8
    args = models.parse("--norm-alpha-fwd", "0.7", *(word.format(path=path) for word in start))
    assert args.norm_alpha_fwd == 0.7
    with caplog.at_level(logging.WARNING):
        check_same_norms(args, path, fine_tuning=True)
    assert "to have them, add --norm-alpha-fwd 0.8" in caplog.text


def test_fine_tuning_takes_a_norm_s_own_settings_and_switches(models, tmp_path):
    settings = ["--norm-type", "group", "--norm-group-count", "8", "--norm-depth-scaling"]
    path = saved(models, tmp_path / "trained.pt", *settings)
    args = models.parse("--finetune-from-model", path)
    assert (args.norm_type, args.norm_group_count, args.norm_depth_scaling) == ("group", 8, True)
    assert models.parse("--finetune-from-model", path, "--norm-group-count", "4").norm_group_count == 4


def test_a_norm_that_is_chosen_for_a_stack_is_that_of_its_sites(models, tmp_path):
    path = saved(models, tmp_path / "mixed.pt", "--encoder-norm-ffn", "rms", "--decoder-norm-output", "rms")
    args = models.parse("--finetune-from-model", path, "--norm-type", "layer")
    assert (args.encoder_norm_ffn, args.decoder_norm_output) == (None, "rms")
    assert models.parse("--finetune-from-model", path).encoder_norm_ffn == "rms"


def test_a_folded_checkpoint_is_not_fine_tuned(models, tmp_path):
    path = saved(models, tmp_path / "folded.pt", encoder_norm_ffn="folded")
    with pytest.raises(FlagError, match=r"folded.pt is folded, for translating alone: fine-tune the checkpoint that"):
        models.parse("--finetune-from-model", path)


def test_a_restart_does_not_take_flags_silently(models, tmp_path):
    path = saved(models, tmp_path / "other.pt", *BARE)
    assert models.parse("--restore-file", path).norm_group_scaling == "auto"


def test_checkpoints_of_others_change_nothing(models, tmp_path):
    torch.save({"cfg": {"model": Namespace(arch="transformer")}, "model": {}}, tmp_path / "stock.pt")
    args = models.parse("--finetune-from-model", str(tmp_path / "stock.pt"))
    assert args.norm_type == "power"
    check_same_norms(args, str(tmp_path / "stock.pt"), fine_tuning=False)


def test_a_checkpoint_that_cannot_be_read_is_one_line(models, tmp_path):
    (tmp_path / "trained.pt").write_bytes(b"no checkpoint")
    with pytest.raises(FlagError, match=r"trained.pt: not a checkpoint at all"):
        models.parse("--finetune-from-model", str(tmp_path / "trained.pt"))


def test_a_training_that_goes_on_stops_before_anything_is_written(trainers, tmp_path):
    trainer = trainers.build("--save-dir", str(tmp_path))
    trainer.train_step([trainers.batch(1)])
    path = str(tmp_path / "checkpoint_last.pt")
    trainer.consolidate_optimizer()
    trainer.save_checkpoint(path, {"train_iterator": {"epoch": 1}, "val_loss": None})
    before = (tmp_path / "checkpoint_last.pt").read_bytes()
    trainers.build().load_checkpoint(path)
    with pytest.raises(ValueError, match="add --norm-group-scaling auto; for a new training"):
        trainers.build("--norm-group-scaling", "0").load_checkpoint(path)
    trainers.build("--norm-group-scaling", "0").load_checkpoint(path, reset_optimizer=True)
    assert (tmp_path / "checkpoint_last.pt").read_bytes() == before
