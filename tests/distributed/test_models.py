"""Whole models over several ranks with --norm-sync are one process with all sentences."""

import functools
from pathlib import Path

import pytest
import torch

from fairseq_powernorm.norms.registry import norms_with

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

WORKER = Path(__file__).with_name("worker.py")
NORMS = norms_with("sync")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, run_ranks):
    """One process with all sentences."""
    return run_ranks(1, tmp_path_factory.mktemp("whole"), WORKER)[0]


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_equal_one_process(ranks, whole, tmp_path, run_ranks):
    """20 updates, unequal numbers of sentences, and at times a rank with none; two ranks in torch's
    DistributedDataParallel, three in fairseq's legacy one."""
    parts = run_ranks(ranks, tmp_path, WORKER)
    for norm in NORMS:
        expected, found = whole[norm], [part[norm] for part in parts]
        losses = torch.tensor([part["losses"] for part in found], dtype=torch.float64).sum(0)
        torch.testing.assert_close(losses, torch.tensor(expected["losses"], dtype=torch.float64))
        for part in found:
            for key, value in part["state"].items():
                message = functools.partial("{}: {}: {}".format, norm, key)
                torch.testing.assert_close(value, expected["state"][key], msg=message)
