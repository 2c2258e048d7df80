"""Multi-linear attention (Ma et al. 2019, "A Tensorized Transformer for Language Modeling"), as a function.

With a query i, a key j, a value k and R channels, T positions a segment:

    G[i, j, k] = Σ_r ḡ_r [(q_i + u)_r k_jr + (q_i + t)_r p_jr] v_kr        ḡ: the mean of the cores' vectors
    o_i = W vec(G[i, :, :])                                                W (C, T²), row-major in (j, k)

There is no softmax. p_j are projected sinusoids, u and t two learned vectors. The equations were read off the public
code (BTD-Transformer/transformer_upload.py of szhangtju/The-compression-of-Transformer); no line of it is here. **That
code is not causal**: it computes a mask and never uses it, so that every position sees the whole segment, and what it
reaches is no perplexity of a language model. :func:`third_order_scores` is that arithmetic, and models use
:func:`causal_scores`, where G[i, j, k] = 0 unless j ≤ i and k ≤ i.
"""

import torch
from torch import Tensor


def third_order_scores(
    q: Tensor, k: Tensor, v: Tensor, p: Tensor, content_bias: Tensor, position_bias: Tensor, cores: Tensor
) -> Tensor:
    """G of all (i, j, k), **without a mask**: every position sees every other one.

    Args:
        q: (I, B, R).
        k: (J, B, R).
        v: (J, B, R).
        p: (J, R), the projected positions.
        content_bias: u (R,).
        position_bias: t (R,).
        cores: (N, R); G is linear in them, so N cores compute what their mean does.

    Returns:
        (B, I, J, J): batch, query, key, value.
    """
    mean = cores.mean(dim=0)
    by_content = ((q + content_bias) * mean).unsqueeze(1) * k  # (I, J, B, R)
    by_position = ((q + position_bias) * mean).unsqueeze(1) * p.unsqueeze(1)
    pairs = (by_content + by_position).permute(2, 0, 1, 3).flatten(1, 2)  # (B, I·J, R)
    return torch.bmm(pairs, v.permute(1, 2, 0)).unflatten(1, (q.size(0), k.size(0)))


def third_order_future(positions: int, device: torch.device | None = None) -> Tensor:
    """A bool (T, T, T), True where key or value comes after the query."""
    later = torch.ones(positions, positions, dtype=torch.bool, device=device).triu(1)  # (i, j)
    return later.unsqueeze(2) | later.unsqueeze(1)


def causal_scores(
    q: Tensor, k: Tensor, v: Tensor, p: Tensor, content_bias: Tensor, position_bias: Tensor, cores: Tensor
) -> Tensor:
    """As :func:`third_order_scores`, of one segment with itself, 0 wherever key or value comes after the query."""
    scores = third_order_scores(q, k, v, p, content_bias, position_bias, cores)
    return scores.masked_fill(third_order_future(q.size(0), q.device), 0)


def combine(scores: Tensor, weight: Tensor) -> Tensor:
    """o (I, B, C) of scores (B, I, J, J) and W (C, L²), L ≥ J: a shorter segment has the first slots of each axis."""
    slots = scores.size(-1)
    longest = round(weight.size(1) ** 0.5)
    used = weight.unflatten(1, (longest, longest))[:, :slots, :slots].flatten(1)
    return (scores.flatten(2) @ used.T).transpose(0, 1)


def reversed_sinusoids(positions: int, channels: int) -> Tensor:
    """(L, C): [sin, cos] of the positions L − 1 … 0, the last one being 0, in float64."""
    frequencies = 10000 ** -(torch.arange(0, channels, 2, dtype=torch.float64) / channels)
    angles = torch.arange(positions - 1, -1, -1, dtype=torch.float64).unsqueeze(1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
