"""fairseq's decoder layer with chosen norms, and the padding mask handed to them."""

from fairseq.modules.transformer_layer import TransformerDecoderLayerBase
from torch import Tensor

from ..norms.spec import StackSpec
from ..norms.token_norm import hand_padding_mask
from .norm_placement import PlacedNorms
from .residual_connections import ChosenResidual


class PowerNormTransformerDecoderLayer(PlacedNorms, ChosenResidual, TransformerDecoderLayerBase):
    """A stock decoder layer whose norms are chosen.

    Attributes:
        self_attn_layer_norm: the norm of self-attention (fairseq's name, so that stock checkpoints load).
        encoder_attn_layer_norm: the norm of cross-attention, None without an encoder.
        final_layer_norm: the norm of the feed-forward block.
    """

    def __init__(self, cfg, spec: StackSpec, number: int, no_encoder_attn: bool = False):
        """Args:
        cfg: fairseq's TransformerConfig.
        spec: the norms of the stack.
        number: of the layer, from 1.
        no_encoder_attn: build no cross-attention.
        """
        super().__init__(cfg, no_encoder_attn)
        self.place(spec, cfg, cfg.decoder, number)

    def forward(
        self,
        x: Tensor,
        encoder_out: Tensor | None = None,
        *others,
        self_attn_padding_mask: Tensor | None = None,
        **options,
    ):
        """As the stock layer: x (T, B, C), self_attn_padding_mask (B, T) or None → (T, B, C), attention, state."""
        attends = self.encoder_attn is not None and encoder_out is not None
        self.expect_branches(("self_attn", "encoder_attn", "ffn") if attends else ("self_attn", "ffn"))
        with hand_padding_mask(self_attn_padding_mask, *self.children()):
            return super().forward(x, encoder_out, *others, self_attn_padding_mask=self_attn_padding_mask, **options)
