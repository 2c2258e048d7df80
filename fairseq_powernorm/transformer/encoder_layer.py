"""fairseq's encoder layer with chosen norms, and the padding mask handed to them."""

from fairseq.modules.transformer_layer import TransformerEncoderLayerBase
from torch import Tensor

from ..norms.spec import StackSpec
from ..norms.token_norm import hand_padding_mask
from .norm_placement import PlacedNorms
from .residual_connections import ChosenResidual


class PowerNormTransformerEncoderLayer(PlacedNorms, ChosenResidual, TransformerEncoderLayerBase):
    """A stock encoder layer whose norms are chosen.

    Attributes:
        self_attn_layer_norm: the norm of self-attention (fairseq's name, so that stock checkpoints load).
        final_layer_norm: the norm of the feed-forward block.
    """

    def __init__(self, cfg, spec: StackSpec, number: int):
        """Args:
        cfg: fairseq's TransformerConfig.
        spec: the norms of the stack.
        number: of the layer, from 1.
        """
        super().__init__(cfg)
        self.place(spec, cfg, cfg.encoder, number)

    def forward(self, x: Tensor, encoder_padding_mask: Tensor | None, attn_mask: Tensor | None = None):
        """As the stock layer: x (T, B, C), encoder_padding_mask (B, T) or None → (T, B, C)."""
        self.expect_branches(("self_attn", "ffn"))
        with hand_padding_mask(encoder_padding_mask, *self.children()):
            return super().forward(x, encoder_padding_mask, attn_mask)
