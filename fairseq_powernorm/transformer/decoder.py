"""fairseq's decoder with the norms of a :class:`~fairseq_powernorm.norms.spec.StackSpec`."""

from typing import Any

from fairseq.models.transformer import TransformerDecoderBase
from torch import Tensor, nn

from ..norms.registry import build_from_spec
from ..norms.spec import StackSpec
from ..norms.token_norm import hand_padding_mask
from .decoder_layer import PowerNormTransformerDecoderLayer
from .layer_wrappers import wrap_layer
from .norm_placement import number_of_layer


class PowerNormTransformerDecoder(TransformerDecoderBase):
    """A stock decoder with given norms; ``layer_norm``, the output norm, exists in pre-norm only."""

    def __init__(self, cfg, dictionary, embed_tokens: nn.Module, spec: StackSpec, no_encoder_attn: bool = False):
        """Args:
        cfg: fairseq's TransformerConfig.
        dictionary: the target language's dictionary.
        embed_tokens: the input embedding.
        spec: the norms of the four sites.
        no_encoder_attn: build no cross-attention.
        """
        self.spec, self.layers_built = spec, 0  # before super().__init__, which builds the layers
        super().__init__(cfg, dictionary, embed_tokens, no_encoder_attn=no_encoder_attn)
        if self.layer_norm is not None:
            assert spec.output is not None
            self.layer_norm: nn.Module | None = build_from_spec(spec.output, cfg.decoder.embed_dim)

    def build_decoder_layer(self, cfg, no_encoder_attn: bool = False) -> nn.Module:
        """Builds one layer with norms of its own."""
        self.layers_built += 1
        number = number_of_layer(cfg.decoder.layers_to_keep, self.layers_built)
        return wrap_layer(PowerNormTransformerDecoderLayer(cfg, self.spec, number, no_encoder_attn), cfg)

    def extract_features_scriptable(
        self,
        prev_output_tokens: Tensor,
        encoder_out: dict[str, list[Tensor]] | None,
        incremental_state: dict[str, dict[str, Tensor | None]] | None = None,
        *others,
        **options,
    ) -> tuple[Tensor, dict[str, Any]]:
        """As the stock decoder: prev_output_tokens (B, T) → features (B, T, C) and a dictionary."""
        padding_mask = prev_output_tokens.eq(self.padding_idx)
        if incremental_state is not None:
            padding_mask = padding_mask[:, -1:]  # the stock decoder feeds the last position only
        with hand_padding_mask(padding_mask, self.layer_norm):
            return super().extract_features_scriptable(
                prev_output_tokens, encoder_out, incremental_state, *others, **options
            )
