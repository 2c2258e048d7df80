"""Statistics over ranks: processes with parts of a batch equal one process with all of it."""

import textwrap

import pytest
import torch

from fairseq_powernorm.norms.distributed import sum_over_ranks
from fairseq_powernorm.norms.registry import norms_with

WORKER = textwrap.dedent(
    """
    import os
    import sys
    import torch
    import torch.distributed as dist
    from fairseq_powernorm import build_norm
    from fairseq_powernorm.norms.update import average_over_ranks

    names, rank, ranks, store, output = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    collectives = []
    all_reduce = dist.all_reduce
    dist.all_reduce = lambda *args, **kwargs: collectives.append(1) or all_reduce(*args, **kwargs)


    def run(name):
        torch.manual_seed(0)
        collectives.clear()
        norm = build_norm(name, 5, sync=True).double()
        results = []
        for step in range(20):
            generator = torch.Generator().manual_seed(step)
            x = torch.randn(12, 5, dtype=torch.float64, generator=generator) * 2 + 1
            grad = torch.randn(12, 5, dtype=torch.float64, generator=generator)
            # unequal shares, and in every fourth step none at all for the last rank
            shares = {1: [0, 12], 2: [0, 7, 12], 3: [0, 4, 9, 12]}[ranks]
            borders = [0] + [12] * ranks if step % 4 == 3 else shares
            mine = slice(borders[rank], borders[rank + 1])
            mask = torch.zeros(12, dtype=torch.bool)
            if mine.start == mine.stop:
                mine, mask = slice(0, 2), torch.ones(12, dtype=torch.bool)
            rows = x[mine].clone().requires_grad_()
            norm.zero_grad()
            y = norm(rows, mask[mine])
            y.backward(grad[mine])
            real = ~mask[mine]
            results.append({"y": y.detach()[real], "dx": rows.grad[real], "dweight": norm.weight.grad.clone(),
                            **{key: buffer.clone() for key, buffer in norm.named_buffers()}})
        counted = len(collectives)
        own = build_norm(name, 5)  # no sync: every rank has statistics of its own, until they are averaged
        own(x[rank : rank + 6].float()).backward(grad[rank : rank + 6].float())
        before = {key: buffer.clone() for key, buffer in own.named_buffers()}
        average_over_ranks(torch.nn.ModuleList([own, norm]))
        shared = {key: buffer.clone() for key, buffer in own.named_buffers()}
        return {"results": results, "collectives": counted, "before": before, "shared": shared,
                "averaging": len(collectives) - counted}


    torch.save({name: run(name) for name in names.split(",")}, output)
    # A rank that ends early can take another one down in its last moments, and gloo's threads may outlive their
    # interpreter ("terminate called without an active exception"): neither is what is tested.
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)
    """
)


OWN_STATISTICS = textwrap.dedent(
    """
    import copy
    import os
    import sys
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel
    from fairseq_powernorm import build_norm
    from fairseq_powernorm.norms.registry import NORMS

    rank, ranks, store, output = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    torch.manual_seed(0)
    ours = [build_norm(name, 5) for name, norm in NORMS.items() if norm.statistics]

    class SideBySide(torch.nn.ModuleList):
        def forward(self, x):
            return sum(norm(x) for norm in self)

    model = SideBySide([torch.nn.BatchNorm1d(5), *ours])
    alone = copy.deepcopy(model)
    parallel = DistributedDataParallel(model)  # with torch's defaults
    for step in range(6):
        torch.manual_seed(10 * step + rank)
        x = torch.randn(12, 5) * (1 + rank)
        for each in (parallel, alone):
            each.train(step != 4)  # it broadcasts in evaluation too
            each(x).square().sum().backward()
    torch.save({"found": dict(model.named_buffers()), "alone": dict(alone.named_buffers())}, output)
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)
    """
)


PENALTY = textwrap.dedent(
    """
    import os
    import sys
    import torch
    import torch.distributed as dist
    from fairseq_powernorm import build_norm
    from fairseq_powernorm.norms.regularized_batch_norm import norm_penalty

    penalty, rank, ranks, store, output = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    norm = build_norm("regularized-batch", 5, sync=True, penalty=penalty, mean_weight=2.0, variance_weight=3.0).double()
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(12, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    mine = slice(0, 12) if ranks == 1 else (slice(0, 7), slice(7, 12))[rank]
    rows = x[mine].clone().requires_grad_()
    loss = (norm(rows) * grad[mine]).sum()
    share = norm_penalty(norm)
    (loss + share).backward()
    torch.save({"dx": rows.grad, "penalty": share.detach()}, output)
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)
    """
)


def test_without_a_process_group_sums_stay():
    sums = [torch.ones(3), torch.tensor(2.0)]
    assert sum_over_ranks(sums) is sums


@pytest.fixture(scope="module")
def by_ranks(tmp_path_factory, run_ranks):
    """What all norms came to on 1, 2 and 3 ranks, each number started once."""
    folder = tmp_path_factory.mktemp("ranks")
    return {ranks: run_ranks(ranks, folder, "-c", WORKER, ",".join(norms_with("sync"))) for ranks in (1, 2, 3)}


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("name", norms_with("sync"))
def test_ranks_equal_one_process(name, ranks, by_ranks):
    parts, whole = [part[name] for part in by_ranks[ranks]], by_ranks[1][0][name]
    for step, expected in enumerate(whole["results"]):
        found = [part["results"][step] for part in parts]
        # One process leaves out what stands at "no tokens"; with shares the rows come back in order.
        torch.testing.assert_close(torch.cat([part["y"] for part in found]), expected["y"])
        torch.testing.assert_close(torch.cat([part["dx"] for part in found]), expected["dx"])
        torch.testing.assert_close(sum(part["dweight"] for part in found), expected["dweight"])
        for key in expected.keys() - {"y", "dx", "dweight"}:
            for part in found:
                torch.testing.assert_close(part[key], expected[key])
    assert all(part["collectives"] == 2 * 20 for part in parts)  # one a pass
    # Where every rank has its own, all get the mean, in one collective.
    for key, buffer in parts[0]["before"].items():
        if not buffer.is_floating_point():
            continue  # a counter
        mean = torch.stack([part["before"][key] for part in parts]).mean(0)
        assert not torch.allclose(parts[0]["before"][key], mean)
        for part in parts:
            torch.testing.assert_close(part["shared"][key], mean)
            assert torch.equal(part["shared"][key], parts[0]["shared"][key])
    assert all(part["averaging"] == 1 for part in parts)


@pytest.mark.distributed
@pytest.mark.slow
def test_every_rank_keeps_its_own_statistics_under_torchs_default(tmp_path, run_ranks):
    """``DistributedDataParallel`` copies rank 0's buffers to the others before each pass: torch's own BatchNorm's, but
    not those of our norms without ``sync``."""
    first, second = run_ranks(2, tmp_path, "-c", OWN_STATISTICS)
    for part in (first, second):
        for key, value in part["found"].items():
            if not key.startswith("0."):
                assert torch.equal(value, part["alone"][key]), key
    for key, value in first["found"].items():
        if key.startswith("0."):
            continue
        assert torch.equal(value, second["found"][key]) == (not value.is_floating_point()), key
    assert not torch.equal(second["found"]["0.running_mean"], second["alone"]["0.running_mean"])  # it does broadcast


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.parametrize("penalty", ["diff", "symkl"])
def test_ranks_share_the_penalty_of_their_statistics(penalty, tmp_path, run_ranks):
    """With ``sync`` every rank adds its part of it, and the gradients together are those of one process."""
    parts = run_ranks(2, tmp_path, "-c", PENALTY, penalty)
    (whole,) = run_ranks(1, tmp_path, "-c", PENALTY, penalty)
    torch.testing.assert_close(torch.cat([part["dx"] for part in parts]), whole["dx"])
    torch.testing.assert_close(sum(part["penalty"] for part in parts), whole["penalty"])
