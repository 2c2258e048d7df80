"""Several ranks: sums over all of them (``--norm-sync``), and statistics that every rank keeps for itself."""

import weakref
from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

_WRAPPERS_SEEN: "weakref.WeakSet[DistributedDataParallel]" = weakref.WeakSet()


def number_of_ranks() -> int:
    """The processes of the default process group; 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(sums: list[Tensor]) -> list[Tensor]:
    """Sums each tensor over all ranks of the default process group in one collective.

    The tensors (any shapes, one dtype and device) travel packed in a single all-reduce. Every rank has to take part
    in every call, with zeros if it holds no tokens. Without an initialised process group, or with one rank, it is the
    identity.

    Raises:
        RuntimeError: a sum that is to be differentiated, which only a second derivative asks for.
    """
    if number_of_ranks() == 1 or not sums:
        return sums
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in sums):
        raise RuntimeError("statistics over several ranks (sync) have no second derivative; use sync=False")
    packed = torch.cat([tensor.reshape(-1) for tensor in sums])
    dist.all_reduce(packed)
    pieces = packed.split([tensor.numel() for tensor in sums])
    return [piece.view_as(tensor) for piece, tensor in zip(pieces, sums, strict=True)]


def mean_over_ranks(tensors: list[Tensor]) -> list[Tensor]:
    """The mean of each tensor over all ranks, each rank counting alike; as :func:`sum_over_ranks` otherwise."""
    ranks = number_of_ranks()
    return tensors if ranks == 1 else [total / ranks for total in sum_over_ranks(tensors)]


def exclude_from_broadcasts(own_buffers: Callable[[nn.Module], Iterable[str]]) -> None:
    """Keeps torch's ``DistributedDataParallel`` from overwriting statistics that every rank keeps for itself.

    By default (``broadcast_buffers=True``) it copies all buffers of rank 0 to the other ranks before every forward
    pass. A norm calls this in its training pass: the wrapper whose forward pass this is leaves the buffers out from its
    next pass on. Its first broadcast comes before any training, as that of its constructor does.

    Args:
        own_buffers: gives the names of these buffers in a module; none for a module of another kind.
    """
    wrapper = DistributedDataParallel._active_ddp_module
    if wrapper is None or wrapper in _WRAPPERS_SEEN:
        return
    _WRAPPERS_SEEN.add(wrapper)
    for name, module in wrapper.module.named_modules():
        prefix = f"{name}." if name else ""
        wrapper.parameters_to_ignore.update(prefix + buffer for buffer in own_buffers(module))
