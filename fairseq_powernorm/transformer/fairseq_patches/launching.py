"""Processes that torchrun has started are one training."""

import os
from collections.abc import Callable

from omegaconf import DictConfig

from ...flags.contradictions import ranks_of_torchrun


def infer_init_method(stock: Callable, cfg: DictConfig, force_distributed: bool = False) -> None:
    """Where torchrun has started several processes, each takes the place that torchrun gave it, with ``--cpu`` too.

    fairseq does so only with ``--distributed-world-size``, which is the number of this machine's CUDA devices unless
    given, and then it divides by that number.
    """
    ranks = ranks_of_torchrun()
    if ranks == 1 or cfg.distributed_init_method is not None:
        return stock(cfg, force_distributed)
    cfg.distributed_init_method = "env://"
    cfg.distributed_world_size, cfg.distributed_rank = ranks, int(os.environ["RANK"])
    cfg.device_id, cfg.distributed_no_spawn = int(os.environ["LOCAL_RANK"]), True
    return None
