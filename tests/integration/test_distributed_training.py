"""``fairseq-train`` by several processes on the CPU."""

import sys

import pytest
import torch

from fairseq_powernorm.checkpoints.io import load_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.distributed]

PLAIN = ["--dropout", "0", "--attention-dropout", "0", "--activation-dropout", "0", "--disable-validation"]


def with_sgd(flags):
    """Adam blows the differences of rounding up."""
    start = flags.index("--optimizer")
    return [*flags[:start], "--optimizer", "sgd", *flags[start + 4 :]]


def train(commands, corpus, folder, ranks, *arguments, edit=list, torchrun=False):
    """The state of the model in the last checkpoint."""
    command = [corpus / "bin", "--user-dir", "fairseq_powernorm", "--arch", "powernorm_tiny"]
    command += [*edit(commands.train_flags), *PLAIN, "--save-dir", folder, *arguments]
    if torchrun:
        several = ["--distributed-backend", "gloo", "--ddp-backend", "legacy_ddp"]
        starter = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", ranks, "-m"]
        done = commands.run([*starter, "fairseq_cli.train", *command, *several])
        assert done.returncode == 0, done.stderr[-3000:]
    elif ranks > 1:
        commands.train_on_ranks(ranks, *command)
    else:
        done = commands.fairseq("train", *command)
        assert done.returncode == 0, done.stderr[-3000:]
    return load_checkpoint(folder / "checkpoint_last.pt")["model"]


def test_synchronised_ranks_equal_micro_batches(commands, corpus, tmp_path):
    """Two ranks take by turns the batches that one process accumulates; there are 31, so the last update leaves one of
    them without."""
    flags = ["--norm-sync", "--max-epoch", "1", "--lr", "0.1", "--max-tokens", "1100", "--decoder-norm-type", "power"]
    flags += ["--norm-warmup-updates", "0"]  # in a warm-up a micro-batch is normalised by itself
    expected = train(commands, corpus, tmp_path / "one", 1, *flags, "--update-freq", "2", edit=with_sgd)
    found = train(commands, corpus, tmp_path / "two", 2, *flags, edit=with_sgd)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")
    found_again = train(commands, corpus, tmp_path / "torchrun", 2, *flags, edit=with_sgd, torchrun=True)
    assert all(torch.equal(found_again[key], value) for key, value in found.items())


def test_ranks_of_their_own_go_on_bit_for_bit(commands, corpus, tmp_path):
    """Without --norm-sync what is saved is the ranks' mean, and all of them go on from it."""
    flags = ["--norm-type", "power", "--decoder-norm-type", "batch", "--save-interval-updates", "6"]
    whole = train(commands, corpus, tmp_path / "whole", 2, *flags, "--max-update", "12")
    for stop in ("6", "12"):
        parts = train(commands, corpus, tmp_path / "parts", 2, *flags, "--max-update", stop)
    assert whole.keys() == parts.keys()
    for key, value in whole.items():
        assert torch.equal(value, parts[key]), key
