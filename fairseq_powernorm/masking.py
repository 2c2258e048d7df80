"""Layouts: where tokens, channels and padding lie. Nothing else in the package knows.

fairseq's layers hold activations as (T, B, C) and the padding mask as (B, T), True at padding. The norms' arithmetic
sees rows: (N, C) with one row a position, and the padding as an (N, 1) column beside it.
"""

import torch
from torch import Tensor


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


def zero_padding(rows: Tensor, padding: Tensor | None) -> Tensor:
    """Rows (N, C) with zeros where ``padding`` (N, 1) is True; NaN and inf at padding go too, which a product with 0
    would keep."""
    return rows if padding is None else rows.masked_fill(padding, 0)


def count_tokens(rows: Tensor, padding: Tensor | None) -> Tensor:
    """The number of real tokens among the rows (N, C), as a scalar float tensor on their device: no host
    synchronisation."""
    dtype = torch.promote_types(rows.dtype, torch.float32)
    if padding is None:
        return torch.full((), rows.size(0), dtype=dtype, device=rows.device)
    return rows.size(0) - padding.sum(dtype=dtype)
