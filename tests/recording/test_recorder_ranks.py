"""Two ranks: their record against one of a single process, and against float64 arithmetic."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from fairseq_powernorm.norms.update import one_update
from fairseq_powernorm.recording.quantities import QUANTITIES
from fairseq_powernorm.recording.record import read_record
from fairseq_powernorm.recording.recorder import NormRecorder

pytestmark = pytest.mark.distributed


def helpers():
    spec = importlib.util.spec_from_file_location("ranks", Path(__file__).parent / "ranks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def single(ranks, folder, part, divisor):
    """What one process records of a part of the sentences."""
    norms = ranks.model()
    recorder = NormRecorder(norms, folder, interval=1)
    recorder.summed_over = divisor
    for update in (1, 2):
        x, mask, grad = ranks.batch(update)
        with one_update(norms) as under_way, recorder.record(under_way, update):
            for norm in norms.values():
                norm(x[:, part].clone().requires_grad_(), mask[part]).backward(grad[:, part])
    averages = {site.key: np.stack(site.averages) for sites in recorder.sites.values() for site in sites}
    return read_record(folder), averages


def test_two_ranks(tmp_path, run_ranks):
    ranks = helpers()
    run_ranks(2, tmp_path, Path(__file__).parent / "ranks.py", tmp_path / "record")
    found = read_record(tmp_path / "record")
    assert len(found) == 2 * (1 + 2 + 2)
    whole, _ = single(ranks, tmp_path / "whole", slice(0, 6), 2 + 3)
    averages, own = [], []
    for rank in range(2):
        part = slice(ranks.SHARES[rank], ranks.SHARES[rank + 1])
        rows, moved = single(ranks, tmp_path / f"part{rank}", part, rank + 2)
        averages.append(moved)
        own.append(rows)
    for row in found:
        source = whole if row["norm"] == "sync" else own[row["rank"]]
        expected = next(each for each in source if (each["norm"], each["update"]) == (row["norm"], row["update"]))
        assert row["tokens"] == expected["tokens"]
        for name in QUANTITIES:
            assert row[name] == pytest.approx(expected[name], rel=1e-6, abs=1e-9), (row["norm"], name)
    with np.load(tmp_path / "record" / "averages" / "update2.npz") as arrays:
        for key in ("own:input", "layer:input"):  # the mean of both ranks'
            np.testing.assert_allclose(arrays[key], (averages[0][key] + averages[1][key]) / 2, rtol=1e-6)
