"""One rank of test_recorder_ranks.py: records two updates of norms with and without statistics over all ranks.

python ranks.py RANK RANKS STORE FOLDER
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from fairseq_powernorm import build_norm
from fairseq_powernorm.norms.update import one_update
from fairseq_powernorm.recording.recorder import NormRecorder

T, B, C, SHARES = 5, 6, 4, (0, 4, 6)


def batch(update):
    """All ranks' sentences of an update: x (T, B, C), the padding mask, and a gradient."""
    generator = torch.Generator().manual_seed(update)
    mask = torch.arange(T) >= torch.randint(1, T + 1, (B, 1), generator=generator)
    x, grad = (torch.randn(T, B, C, generator=generator) * 2 + 1 for _ in range(2))
    return x, mask, grad.masked_fill(mask.t().unsqueeze(-1), 0)


def model():
    """A norm over all ranks, one of each rank's own, and one that keeps nothing."""
    return nn.ModuleDict(
        {"sync": build_norm("batch", C, sync=True), "own": build_norm("power", C), "layer": build_norm("layer", C)}
    )


def main():
    folder, rank, ranks, store, output = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=ranks)
    norms = model()
    recorder = NormRecorder(norms, folder, interval=1)
    for update in (1, 2):
        x, mask, grad = batch(update)
        mine = slice(SHARES[rank], SHARES[rank + 1])
        with one_update(norms) as under_way, recorder.record(under_way, update):
            recorder.summed_over = rank + 2
            for norm in norms.values():
                norm(x[:, mine].clone().requires_grad_(), mask[mine]).backward(grad[:, mine])
    recorder.average_over_ranks()
    recorder.save(2)
    torch.save(None, output)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
