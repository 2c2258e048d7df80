"""Layouts: where tokens, channels and padding lie. Nothing else in the package knows.

fairseq's layers hold activations as (T, B, C) and the padding mask as (B, T), True at padding. The norms' arithmetic
sees rows: (N, C) with one row a position, and the padding as an (N, 1) column beside it.
"""

import torch
from torch import Tensor

from .kernels.plain import count_tokens, zero_padding

__all__ = ["count_tokens", "to_rows", "zero_padding"]


def to_rows(x: Tensor, padding_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Views activations as rows and brings the padding mask into the same order.

    Args:
        x: (T, B, C) activations, or rows (N, C).
        padding_mask: True at padding; (B, T) for (T, B, C), (N,) for rows, or None if every position is a token.

    Returns:
        ``rows`` (N, C), and ``padding``, an (N, 1) bool column, or None.

    Raises:
        ValueError: ``x`` has another number of dimensions, or the mask another shape or dtype.
    """
    if x.dim() not in (2, 3):
        raise ValueError(f"expected activations (T, B, C) or rows (N, C), got shape {tuple(x.shape)}")
    rows = x.reshape(-1, x.size(-1))
    if padding_mask is None:
        return rows, None
    expected = (x.size(1), x.size(0)) if x.dim() == 3 else (x.size(0),)
    if tuple(padding_mask.shape) != expected:
        raise ValueError(
            f"expected a padding mask of shape {expected} for activations of shape {tuple(x.shape)}, "
            f"got {tuple(padding_mask.shape)}"
        )
    if padding_mask.dtype not in (torch.bool, torch.uint8):
        raise ValueError(f"expected a bool padding mask, True at padding, got dtype {padding_mask.dtype}")
    padding = padding_mask.t() if x.dim() == 3 else padding_mask
    return rows, padding.reshape(-1, 1).bool()
