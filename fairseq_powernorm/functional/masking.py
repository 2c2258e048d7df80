"""Layouts: where tokens, channels and padding lie. Nothing else in the package knows.

fairseq's layers hold activations as (T, B, C) and the padding mask as (B, T), True at padding. The norms' arithmetic
takes a token at a position of any number of leading dimensions, (..., C), and the padding in the same order.
"""

import torch
from torch import Tensor

from ..kernels.plain import count_tokens, zero_padding

__all__ = ["count_tokens", "rows_of_padding", "to_rows", "zero_padding"]


def rows_of_padding(x: Tensor, padding_mask: Tensor | None, batch_first: bool = False) -> Tensor | None:
    """Brings the padding mask into the order of the activations; a view of it.

    Args:
        x: (T, B, C) activations, or rows (N, C); with ``batch_first`` (B, …, C), any number of dimensions above 1.
        padding_mask: True at padding; (B, T) for (T, B, C), (N,) for rows, or None if every position is a token.
        batch_first: whether the mask has the order of the activations already: (B, …) for (B, …, C).

    Returns:
        A bool for each position, (T, B), (N,) or (B, …), or None.

    Raises:
        ValueError: ``x`` has another number of dimensions, or the mask another shape or dtype.
    """
    if x.dim() not in (2, 3) and not (batch_first and x.dim() > 3):
        raise ValueError(f"expected activations (T, B, C) or rows (N, C), got shape {tuple(x.shape)}")
    if padding_mask is None:
        return None
    padding = padding_mask if batch_first or padding_mask.dim() > 2 else padding_mask.t()
    if padding.shape != x.shape[:-1]:
        expected = tuple(x.shape[:-1] if batch_first else x.shape[-2::-1])
        raise ValueError(
            f"expected a padding mask of shape {expected} for activations of shape {tuple(x.shape)}, "
            f"got {tuple(padding_mask.shape)}"
        )
    if padding.dtype is torch.bool:
        return padding
    if padding.dtype is torch.uint8:
        return padding.bool()
    raise ValueError(f"expected a bool padding mask, True at padding, got dtype {padding_mask.dtype}")


def to_rows(x: Tensor, padding_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Views activations as rows: (N, C), and the padding as an (N, 1) bool column, or None.

    Args and errors as for :func:`rows_of_padding`.
    """
    padding = rows_of_padding(x, padding_mask)
    return x.reshape(-1, x.size(-1)), None if padding is None else padding.reshape(-1, 1)
