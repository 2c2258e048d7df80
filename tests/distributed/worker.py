"""One rank of test_models.py: trains models of several norms on this rank's sentences.

    python worker.py RANK RANKS STORE OUTPUT

With one rank it is the whole batch, without any wrapper; with two, in torch's DistributedDataParallel; with three, in
fairseq's legacy one.
"""

import importlib.util
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from fairseq.distributed import LegacyDistributedDataParallel
from torch.nn.parallel import DistributedDataParallel

from fairseq_powernorm.norms.registry import norms_with
from fairseq_powernorm.norms.update import one_update

FOLDER = Path(__file__).resolve().parents[1] / "transformer"
NORMS = norms_with("sync")
SHARES = {1: (6,), 2: (4, 2), 3: (3, 1, 2)}
"""Sentences of each rank; in every fourth step the last rank has none."""


def helpers():
    """The helpers of tests/transformer/conftest.py."""
    spec = importlib.util.spec_from_file_location("helpers", FOLDER / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shares(ranks, step):
    """The borders of the ranks' sentences."""
    sizes = list(SHARES[ranks])
    if step % 4 == 3 and ranks > 1:
        sizes = [sizes[0] + sizes[-1], *sizes[1:-1], 0]
    return [sum(sizes[:rank]) for rank in range(ranks + 1)]


def train(models, norm, rank, ranks):
    """The losses of 20 updates and the state behind them."""
    legacy = ranks == 3
    flags = ["--norm-type", norm, "--decoder-norm-type", norm, "--norm-sync", "--norm-warmup-updates", "5"]
    flags += ["--norm-rep-batch-alpha", "0.1", "--norm-progressive-rep-batch-alpha", "0.1"]  # at 1 activations blow up
    flags += ["--norm-progressive-rep-batch-updates", "15"]
    off = [f"--{kind}dropout" for kind in ("", "attention-", "activation-")]
    model = models.build(*flags, *(word for name in off for word in (name, "0"))).double()
    parallel = model
    if ranks > 1:
        parallel = (
            LegacyDistributedDataParallel(model, dist.group.WORLD)
            if legacy
            else DistributedDataParallel(model)  # which broadcasts rank 0's buffers, unlike fairseq's trainer
        )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    parallel.train()
    losses = []
    for step in range(20):
        source, lengths, target = models.sample([6, 3, 5, 2, 6, 4], seed=step)
        borders = shares(ranks, step)
        mine = slice(borders[rank], borders[rank + 1])
        empty = mine.start == mine.stop
        if empty:
            mine = slice(0, 1)  # what fairseq does with a rank that has no data: a stopgap whose gradient is 0
        real = target.ne(models.dictionary().pad())
        model.set_num_updates(step)
        with one_update(model) as update:
            update.ignored = empty
            logits = parallel(source[mine], lengths[mine], target[mine])[0].log_softmax(-1)
            loss = (logits.square().mean(-1) * real[mine]).sum() * (0.0 if empty else 1.0)
            (loss / real.sum()).backward()
            if legacy:
                parallel.all_reduce_grads()
        for parameter in model.parameters():
            parameter.grad.mul_(ranks)  # both wrappers give the mean over the ranks; fairseq's trainer does this too
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        losses.append(float(loss.detach()))
    return {"losses": losses, "state": {key: value.clone() for key, value in model.state_dict().items()}}


def main():
    """Trains, and writes what came out."""
    rank, ranks, store, output = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(1)
    if ranks > 1:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    models = helpers()
    torch.save({norm: train(models, norm, rank, ranks) for norm in NORMS}, output)
    if ranks > 1:
        dist.barrier()
        dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # gloo's threads may outlive their interpreter


main()
