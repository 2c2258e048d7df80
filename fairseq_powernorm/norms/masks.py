"""Handing padding masks to the norms of any torch model, whose layers call ``norm(x)``."""

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from .token_norm import HANDED_TO_ALL, TokenNorm, hand_padding_mask


@contextlib.contextmanager
def padding_mask(mask: Tensor | None, modules: nn.Module | Iterable[nn.Module] | None = None) -> Iterator[None]:
    """Within the block norms leave out of their statistics what stands where ``mask`` is True::

        with padding_mask(~attention_mask.bool()):
            loss = model(input_ids, attention_mask=attention_mask).loss

        with padding_mask(source_mask, model.encoder), padding_mask(target_mask, model.decoder):
            loss = model(source, target)

    The forward pass belongs into the block; a backward pass may follow it, activation checkpointing included.
    Blocks can be nested: an inner one counts, one with ``modules`` counts before one without, and a mask that a norm is
    called with before both. Evaluation uses no statistics of the batch, so there the block changes nothing.

    Args:
        mask: bool, True at padding: (B, T) for norms of (B, T, C) and (T, B, C), (N,) for rows (N, C), (B, H, W) for
            images. None: no padding, for modules that see no tokens (a head on pooled vectors) within a larger block.
        modules: the norms of these, and below them. None: all norms, of all models and threads.

    Raises:
        ValueError: a mask of another type, or modules without a norm of this package.
    """
    if mask is not None and (not isinstance(mask, Tensor) or mask.dtype is not torch.bool):
        received = str(mask.dtype).removeprefix("torch.") if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(
            f"expected a bool padding mask, True at padding, got {received} (an attention mask that is 1 at tokens "
            "becomes one by ~attention_mask.bool())"
        )
    if modules is None:
        HANDED_TO_ALL.append(mask)
        try:
            yield
        finally:
            HANDED_TO_ALL.pop()
        return
    above = [modules] if isinstance(modules, nn.Module) else list(modules)
    norms = [norm for module in above for norm in module.modules() if isinstance(norm, TokenNorm)]
    if not norms:
        raise ValueError(
            f"no norm of this package in {', '.join(type(module).__name__ for module in above) or 'no modules'}; "
            "replace_norms puts them in"
        )
    with hand_padding_mask(mask, *norms):
        yield
