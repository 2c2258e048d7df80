"""A model whose norms were replaced, in torch's DistributedDataParallel: ranks equal one process with all sentences."""

import textwrap

import pytest
import torch

WORKER = textwrap.dedent(
    """
    import os
    import sys
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel
    from fairseq_powernorm import one_update, padding_mask, replace_norms

    rank, ranks, store, output = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).double()
    replace_norms(model, "power", batch_first=True, sync=True, warmup_updates=3)
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    x, lengths = torch.randn(4, 5, 8, dtype=torch.float64), torch.tensor([5, 2, 4, 3])
    mask = torch.arange(5) >= lengths.unsqueeze(1)
    mine = slice(0, 4) if ranks == 1 else slice(3 * rank, 3 + rank)  # three sentences, and one
    for step in range(6):
        with one_update(parallel, loss_scale=ranks, num_updates=step):
            with padding_mask(mask[mine], parallel):
                y = parallel(x[mine], src_key_padding_mask=mask[mine])
            (ranks * y[~mask[mine]].pow(4).sum() / lengths.sum()).backward()  # the wrapper takes the ranks' mean
        optimizer.step()
        optimizer.zero_grad()
    torch.save(model.state_dict(), output)
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)
    """
)


@pytest.mark.distributed
@pytest.mark.slow
def test_ranks_equal_one_process(tmp_path, run_ranks):
    states = {ranks: run_ranks(ranks, tmp_path, "-c", WORKER) for ranks in (1, 2)}
    (whole,) = states[1]
    for part in states[2]:
        for key, value in whole.items():
            torch.testing.assert_close(part[key], value)
    assert (whole["layers.0.norm1.running_square_mean"] != 1).all()
