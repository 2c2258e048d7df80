"""fairseq's decoder layer with its norms handed in, and the padding mask handed to them."""

from fairseq.modules.transformer_layer import TransformerDecoderLayerBase
from torch import Tensor

from ..norms.token_norm import hand_padding_mask
from .norm_placement import LayerNorms, PlacedNorms
from .residual_connections import ChosenResidual


class PowerNormTransformerDecoderLayer(PlacedNorms, ChosenResidual, TransformerDecoderLayerBase):
    """A stock decoder layer whose norms are given.

    Attributes:
        self_attn_layer_norm: the norm of self-attention (fairseq's name, so that stock checkpoints load).
        encoder_attn_layer_norm: the norm of cross-attention, None without an encoder.
        final_layer_norm: the norm of the feed-forward block.
    """

    def __init__(self, cfg, norms: LayerNorms, no_encoder_attn: bool = False):
        """Args:
        cfg: fairseq's TransformerConfig.
        norms: of ``cfg.decoder.embed_dim`` channels, and the inner one of ``cfg.decoder.ffn_embed_dim``; those of
            cross-attention are left out if ``no_encoder_attn``.
        no_encoder_attn: build no cross-attention.
        """
        super().__init__(cfg, no_encoder_attn)
        self.place(norms)

    def forward(
        self,
        x: Tensor,
        encoder_out: Tensor | None = None,
        encoder_padding_mask: Tensor | None = None,
        incremental_state: dict[str, dict[str, Tensor | None]] | None = None,
        prev_self_attn_state: list[Tensor] | None = None,
        prev_attn_state: list[Tensor] | None = None,
        self_attn_mask: Tensor | None = None,
        self_attn_padding_mask: Tensor | None = None,
        need_attn: bool = False,
        need_head_weights: bool = False,
    ):
        """As the stock layer: x (T, B, C), self_attn_padding_mask (B, T) or None → (T, B, C), attention, state."""
        attends = self.encoder_attn is not None and encoder_out is not None
        self.expect_branches(("self_attn", "encoder_attn", "ffn") if attends else ("self_attn", "ffn"))
        with hand_padding_mask(self_attn_padding_mask, *self.children()):
            return super().forward(
                x,
                encoder_out,
                encoder_padding_mask,
                incremental_state,
                prev_self_attn_state=prev_self_attn_state,
                prev_attn_state=prev_attn_state,
                self_attn_mask=self_attn_mask,
                self_attn_padding_mask=self_attn_padding_mask,
                need_attn=need_attn,
                need_head_weights=need_head_weights,
            )
