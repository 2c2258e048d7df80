"""A decoder layer with multi-linear attention in the place of self-attention (Ma et al. 2019), norms handed in."""

import torch
from fairseq import utils
from fairseq.modules import FairseqDropout
from torch import Tensor, nn

from ..functional.multilinear_attention import causal_scores, combine, reversed_sinusoids
from ..norms.token_norm import hand_padding_mask


class MultilinearAttention(nn.Module):
    """Causal multi-linear attention: (T, B, C) → (T, B, C), T up to the length that it is built for.

    :mod:`fairseq_powernorm.functional.multilinear_attention` has the equations. A segment that is shorter gives the
    outputs that a full one begins with.

    Attributes:
        cores: (N, R), softmax of small random numbers at the start (the public code starts from whatever the memory
            held).
        content_bias, position_bias: u and t (R,), which all layers of a model share.
    """

    sinusoids: Tensor

    def __init__(self, channels: int, rank: int, cores: int, positions: int, dropout: float):
        """Args:
        channels: C.
        rank: R, the channels of queries, keys and values.
        cores: N ≥ 1.
        positions: L, the longest segment; the output projection has C·L² weights.
        dropout: of the sinusoids.
        """
        super().__init__()
        self.positions = positions
        self.qkv_proj = nn.Linear(channels, 3 * rank, bias=False)
        self.position_proj = nn.Linear(channels, rank, bias=False)
        self.out_proj = nn.Linear(positions**2, channels, bias=False)
        self.cores = nn.Parameter(torch.empty(cores, rank))
        self.content_bias = nn.Parameter(torch.empty(rank))
        self.position_bias = nn.Parameter(torch.empty(rank))
        self.dropout_module = FairseqDropout(dropout, module_name=type(self).__name__)
        sinusoids = reversed_sinusoids(positions, channels).to(self.cores.dtype)
        self.register_buffer("sinusoids", sinusoids, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """See the class.

        Raises:
            ValueError: a longer segment.
        """
        length = x.size(0)
        if length > self.positions:
            raise ValueError(f"a segment of {length} tokens; multi-linear attention was built for {self.positions}")
        q, k, v = self.qkv_proj(x).chunk(3, dim=-1)
        p = self.position_proj(self.dropout_module(self.sinusoids[:length]))
        scores = causal_scores(q, k, v, p, self.content_bias, self.position_bias, self.cores)
        return combine(scores, self.out_proj.weight)


class TensorizedDecoderLayer(nn.Module):
    """Multi-linear attention, its norm before (pre-norm) or after (post-norm) it, then the feed-forward block, whose
    norm is after it in both, as in the public code.

    Attributes:
        self_attn_layer_norm: the norm of attention.
        final_layer_norm: the norm of the feed-forward block.
    """

    def __init__(self, cfg, self_attn_norm: nn.Module, ffn_norm: nn.Module):
        """Args:
        cfg: fairseq's TransformerConfig, with the flags of :mod:`.tensorized_language_model`.
        self_attn_norm: norm of ``cfg.decoder.embed_dim`` channels.
        ffn_norm: the same for the feed-forward block.
        """
        super().__init__()
        channels, dropout = cfg.decoder.embed_dim, cfg.dropout
        sizes = (cfg.attention_channels, cfg.attention_cores, cfg.max_target_positions)
        self.self_attn = MultilinearAttention(channels, *sizes, dropout)
        self.normalize_before = cfg.decoder.normalize_before
        self.self_attn_layer_norm = self_attn_norm
        self.fc1 = nn.Linear(channels, cfg.decoder.ffn_embed_dim)
        self.fc2 = nn.Linear(cfg.decoder.ffn_embed_dim, channels)
        self.final_layer_norm = ffn_norm
        self.activation_fn = utils.get_activation_fn(cfg.activation_fn)
        self.dropout_module = FairseqDropout(dropout, module_name=type(self).__name__)
        self.activation_dropout_module = FairseqDropout(cfg.activation_dropout, module_name=type(self).__name__)

    def forward(self, x: Tensor, *_unused, self_attn_padding_mask: Tensor | None = None, **_others):
        """As stock layers: x (T, B, C), self_attn_padding_mask (B, T) or None → (T, B, C), no attention, no state.

        Attention is causal by itself: padding, which comes last in a segment, has no influence on what is before it.
        """
        with hand_padding_mask(self_attn_padding_mask, self.self_attn_layer_norm, self.final_layer_norm):
            attended = self.self_attn(self.self_attn_layer_norm(x) if self.normalize_before else x)
            x = x + self.dropout_module(attended)
            if not self.normalize_before:
                x = self.self_attn_layer_norm(x)
            hidden = self.activation_dropout_module(self.activation_fn(self.fc1(x)))
            return self.final_layer_norm(x + self.dropout_module(self.fc2(hidden))), None, None
