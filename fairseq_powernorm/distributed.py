"""Sums over all ranks, for statistics that belong to the whole batch (``--norm-sync``)."""

import torch
import torch.distributed as dist
from torch import Tensor


def sum_over_ranks(sums: list[Tensor]) -> list[Tensor]:
    """Sums each tensor over all ranks of the default process group in one collective.

    The tensors (any shapes, one dtype and device) travel packed in a single all-reduce. Every rank has to take part
    in every call, with zeros if it holds no tokens. Without an initialised process group, or with one rank, it is the
    identity.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return sums
    packed = torch.cat([tensor.reshape(-1) for tensor in sums])
    dist.all_reduce(packed)
    pieces = packed.split([tensor.numel() for tensor in sums])
    return [piece.view_as(tensor) for piece, tensor in zip(pieces, sums, strict=True)]
