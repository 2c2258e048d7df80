"""Sums over all ranks, for statistics that belong to the whole batch (``--norm-sync``)."""

import torch
import torch.distributed as dist
from torch import Tensor


def number_of_ranks() -> int:
    """The processes of the default process group; 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(sums: list[Tensor]) -> list[Tensor]:
    """Sums each tensor over all ranks of the default process group in one collective.

    The tensors (any shapes, one dtype and device) travel packed in a single all-reduce. Every rank has to take part
    in every call, with zeros if it holds no tokens. Without an initialised process group, or with one rank, it is the
    identity.
    """
    if number_of_ranks() == 1 or not sums:
        return sums
    packed = torch.cat([tensor.reshape(-1) for tensor in sums])
    dist.all_reduce(packed)
    pieces = packed.split([tensor.numel() for tensor in sums])
    return [piece.view_as(tensor) for piece, tensor in zip(pieces, sums, strict=True)]


def mean_over_ranks(tensors: list[Tensor]) -> list[Tensor]:
    """The mean of each tensor over all ranks, each rank counting alike; as :func:`sum_over_ranks` otherwise."""
    ranks = number_of_ranks()
    return tensors if ranks == 1 else [total / ranks for total in sum_over_ranks(tensors)]
