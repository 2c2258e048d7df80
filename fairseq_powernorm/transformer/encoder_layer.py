"""fairseq's encoder layer with its two norms handed in, and the padding mask handed to them."""

from fairseq.modules.transformer_layer import TransformerEncoderLayerBase
from torch import Tensor

from ..norms.token_norm import TokenNorm, hand_padding_mask
from .residual_connections import ChosenResidual


class PowerNormTransformerEncoderLayer(ChosenResidual, TransformerEncoderLayerBase):
    """A stock encoder layer whose norms are given.

    Attributes:
        self_attn_layer_norm: the norm of self-attention (fairseq's name, so that stock checkpoints load).
        final_layer_norm: the norm of the feed-forward block.
    """

    def __init__(self, cfg, self_attn_norm: TokenNorm, ffn_norm: TokenNorm, return_fc: bool = False):
        """Args:
        cfg: fairseq's TransformerConfig.
        self_attn_norm: norm of ``cfg.encoder.embed_dim`` channels.
        ffn_norm: the same for the feed-forward block.
        return_fc: also return the feed-forward block's result.
        """
        super().__init__(cfg, return_fc=return_fc)
        self.self_attn_layer_norm = self_attn_norm
        self.final_layer_norm = ffn_norm

    def forward(self, x: Tensor, encoder_padding_mask: Tensor | None, attn_mask: Tensor | None = None):
        """As the stock layer: x (T, B, C), encoder_padding_mask (B, T) or None → (T, B, C)."""
        self.expect_branches(("self_attn", "ffn"))
        with hand_padding_mask(encoder_padding_mask, self.self_attn_layer_norm, self.final_layer_norm):
            return super().forward(x, encoder_padding_mask, attn_mask)
