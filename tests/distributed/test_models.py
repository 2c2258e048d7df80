"""Whole models over several ranks with --norm-sync are one process with all sentences."""

import functools
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fairseq_powernorm.norms.registry import norms_with

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

WORKER = Path(__file__).with_name("worker.py")
NORMS = norms_with("sync")


def run_ranks(ranks, folder):
    outputs = [folder / f"{ranks}_{rank}.pt" for rank in range(ranks)]
    workers = [
        subprocess.Popen([sys.executable, WORKER, str(rank), str(ranks), str(folder / f"store_{ranks}"), str(output)])
        for rank, output in enumerate(outputs)
    ]
    assert [worker.wait(timeout=200) for worker in workers] == [0] * ranks
    return [torch.load(output) for output in outputs]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One process with all sentences."""
    return run_ranks(1, tmp_path_factory.mktemp("whole"))[0]


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_equal_one_process(ranks, whole, tmp_path):
    """20 updates, unequal numbers of sentences, and at times a rank with none; two ranks in torch's
    DistributedDataParallel, three in fairseq's legacy one."""
    parts = run_ranks(ranks, tmp_path)
    for norm in NORMS:
        expected, found = whole[norm], [part[norm] for part in parts]
        losses = torch.tensor([part["losses"] for part in found], dtype=torch.float64).sum(0)
        torch.testing.assert_close(losses, torch.tensor(expected["losses"], dtype=torch.float64))
        for part in found:
            for key, value in part["state"].items():
                message = functools.partial("{}: {}: {}".format, norm, key)
                torch.testing.assert_close(value, expected["state"][key], msg=message)
