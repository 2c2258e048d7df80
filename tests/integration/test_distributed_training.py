"""``fairseq-train`` by several processes on the CPU."""

import os
import socket
import subprocess
import sys

import pytest
import torch

from fairseq_powernorm.checkpoints.io import load_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.distributed]

PLAIN = ["--dropout", "0", "--attention-dropout", "0", "--activation-dropout", "0", "--disable-validation"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def with_sgd(flags):
    """Adam blows the differences of rounding up."""
    start = flags.index("--optimizer")
    return [*flags[:start], "--optimizer", "sgd", *flags[start + 4 :]]


def train(commands, corpus, root, folder, ranks, *arguments, edit=list, torchrun=False):
    """The state of the model in the last checkpoint."""
    port = free_port()
    command = ["-m", "fairseq_cli.train", corpus / "bin", "--user-dir", "fairseq_powernorm"]
    command += ["--arch", "powernorm_tiny", *edit(commands.train_flags), *PLAIN, "--save-dir", folder, *arguments]
    if ranks > 1:
        command += ["--distributed-backend", "gloo", "--ddp-backend", "legacy_ddp"]
    if torchrun:
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", ranks, *command]
        ranks = 1
    processes = []
    for rank in range(ranks):
        several = ["--distributed-world-size", ranks, "--distributed-rank", rank, "--distributed-no-spawn"]
        several += ["--distributed-init-method", f"tcp://127.0.0.1:{port}", "--device-id", 0]
        words = [str(word) for word in [sys.executable, *command, *(several if ranks > 1 else [])]]
        with open(folder.parent / f"{folder.name}.{rank}.log", "ab") as log:
            processes.append(
                subprocess.Popen(words, cwd=root, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
            )
    codes = [process.wait(timeout=200) for process in processes]
    assert codes == [0] * ranks, (folder.parent / f"{folder.name}.0.log").read_text()[-3000:]
    return load_checkpoint(folder / "checkpoint_last.pt")["model"]


def test_synchronised_ranks_equal_micro_batches(commands, corpus, root, tmp_path):
    """Two ranks take by turns the batches that one process accumulates; there are 31, so the last update leaves one of
    them without."""
    flags = ["--norm-sync", "--max-epoch", "1", "--lr", "0.1", "--max-tokens", "1100", "--decoder-norm-type", "power"]
    flags += ["--norm-warmup-updates", "0"]  # in a warm-up a micro-batch is normalised by itself
    expected = train(commands, corpus, root, tmp_path / "one", 1, *flags, "--update-freq", "2", edit=with_sgd)
    found = train(commands, corpus, root, tmp_path / "two", 2, *flags, edit=with_sgd)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")
    found_again = train(commands, corpus, root, tmp_path / "torchrun", 2, *flags, edit=with_sgd, torchrun=True)
    assert all(torch.equal(found_again[key], value) for key, value in found.items())


def test_ranks_of_their_own_go_on_bit_for_bit(commands, corpus, root, tmp_path):
    """Without --norm-sync what is saved is the ranks' mean, and all of them go on from it."""
    flags = ["--norm-type", "power", "--decoder-norm-type", "batch", "--save-interval-updates", "6"]
    whole = train(commands, corpus, root, tmp_path / "whole", 2, *flags, "--max-update", "12")
    for stop in ("6", "12"):
        parts = train(commands, corpus, root, tmp_path / "parts", 2, *flags, "--max-update", stop)
    assert whole.keys() == parts.keys()
    for key, value in whole.items():
        assert torch.equal(value, parts[key]), key
