"""fairseq's encoder layer with its norms handed in, and the padding mask handed to them."""

from fairseq.modules.transformer_layer import TransformerEncoderLayerBase
from torch import Tensor

from ..norms.token_norm import hand_padding_mask
from .norm_placement import LayerNorms, PlacedNorms
from .residual_connections import ChosenResidual


class PowerNormTransformerEncoderLayer(PlacedNorms, ChosenResidual, TransformerEncoderLayerBase):
    """A stock encoder layer whose norms are given.

    Attributes:
        self_attn_layer_norm: the norm of self-attention (fairseq's name, so that stock checkpoints load).
        final_layer_norm: the norm of the feed-forward block.
    """

    def __init__(self, cfg, norms: LayerNorms, return_fc: bool = False):
        """Args:
        cfg: fairseq's TransformerConfig.
        norms: of ``cfg.encoder.embed_dim`` channels, and the inner one of ``cfg.encoder.ffn_embed_dim``.
        return_fc: also return the feed-forward block's result.
        """
        super().__init__(cfg, return_fc=return_fc)
        self.place(norms)

    def forward(self, x: Tensor, encoder_padding_mask: Tensor | None, attn_mask: Tensor | None = None):
        """As the stock layer: x (T, B, C), encoder_padding_mask (B, T) or None → (T, B, C)."""
        self.expect_branches(("self_attn", "ffn"))
        with hand_padding_mask(encoder_padding_mask, *self.children()):
            return super().forward(x, encoder_padding_mask, attn_mask)
