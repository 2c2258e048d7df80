"""``fairseq-train`` on a CUDA device: low precision, and statistics over the ranks of NCCL."""

import json
import math
import sys

import pytest
import torch

from fairseq_powernorm.checkpoints.io import load_checkpoint
from fairseq_powernorm.norms.registry import NORMS

JOINING_UPDATES = [name for name, norm in NORMS.items() if norm.statistics and norm.joins_updates]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

UPDATES = 60


def train(commands, corpus, folder, *arguments, launcher=()):
    """The logged losses, and the state of the model in the last checkpoint."""
    flags = [flag for flag in commands.train_flags if flag != "--cpu"]
    done = commands.run(
        [
            *(sys.executable, "-m", *launcher, *(["-m"] if launcher else []), "fairseq_cli.train", corpus / "bin"),
            *("--user-dir", "fairseq_powernorm", "--arch", "powernorm_tiny", *flags, "--disable-validation"),
            *("--max-update", UPDATES, "--save-dir", folder, "--no-epoch-checkpoints", *arguments),
        ]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [
        line.split("| train_inner | ")[1] for line in (done.stdout + done.stderr).splitlines() if "inner |" in line
    ]
    return [float(json.loads(line)["loss"]) for line in lines], load_checkpoint(folder / "checkpoint_last.pt")["model"]


@pytest.mark.parametrize("norm", JOINING_UPDATES)
@pytest.mark.parametrize("precision", [["--fp16"], ["--fp16", "--memory-efficient-fp16"], ["--amp"]], ids=" ".join)
def test_low_precision(commands, corpus, tmp_path, precision, norm):
    """A loss scale that overflows at first; at the end the loss is that of float32 and nothing is NaN."""
    flags = ["--norm-type", norm, "--decoder-norm-type", norm]
    expected, _ = train(commands, corpus, tmp_path / "float32", *flags)
    found, state = train(commands, corpus, tmp_path / "low", *flags, *precision, "--fp16-init-scale", 2**20)
    assert all(bool(value.isfinite().all()) for value in state.values() if value.is_floating_point())
    assert all(value.dtype == torch.float32 for name, value in state.items() if "running" in name)
    assert math.isfinite(found[-1]) and found[-1] == pytest.approx(expected[-1], abs=0.3)


def test_synchronised_statistics_on_one_rank_of_nccl(commands, corpus, tmp_path):
    """Through torchrun, as on many."""
    flags = ["--norm-sync", "--decoder-norm-type", "batch"]
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "1")
    expected, _ = train(commands, corpus, tmp_path / "alone", *flags)
    found, _ = train(commands, corpus, tmp_path / "torchrun", *flags, launcher=launcher)
    assert found == pytest.approx(expected, abs=0.05)
