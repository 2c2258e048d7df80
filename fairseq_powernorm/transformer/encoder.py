"""fairseq's encoder with the norms of a :class:`~fairseq_powernorm.norms.spec.StackSpec`."""

from fairseq.models.transformer import TransformerEncoderBase
from torch import Tensor, nn

from ..norms.registry import build_from_spec
from ..norms.spec import StackSpec
from ..norms.token_norm import hand_padding_mask
from .encoder_layer import PowerNormTransformerEncoderLayer
from .layer_wrappers import wrap_layer
from .norm_placement import number_of_layer


class PowerNormTransformerEncoder(TransformerEncoderBase):
    """A stock encoder with given norms; ``layer_norm``, the output norm, exists in pre-norm only."""

    def __init__(self, cfg, dictionary, embed_tokens: nn.Embedding, spec: StackSpec):
        """Args:
        cfg: fairseq's TransformerConfig.
        dictionary: the source language's dictionary.
        embed_tokens: embedding of ``cfg.encoder.embed_dim`` channels.
        spec: the norms of the three sites.
        """
        self.spec, self.layers_built = spec, 0  # before super().__init__, which builds the layers
        super().__init__(cfg, dictionary, embed_tokens)
        if self.layer_norm is not None:
            assert spec.output is not None
            self.layer_norm: nn.Module | None = build_from_spec(spec.output, embed_tokens.embedding_dim)

    def build_encoder_layer(self, cfg) -> nn.Module:
        """Builds one layer with norms of its own."""
        self.layers_built += 1
        number = number_of_layer(cfg.encoder.layers_to_keep, self.layers_built)
        return wrap_layer(PowerNormTransformerEncoderLayer(cfg, self.spec, number), cfg)

    def forward_scriptable(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor | None = None,
        return_all_hiddens: bool = False,
        token_embeddings: Tensor | None = None,
    ) -> dict[str, list[Tensor]]:
        """As the stock encoder: src_tokens (B, T) → a dictionary with ``encoder_out`` [(T, B, C)] and the rest."""
        with hand_padding_mask(src_tokens.eq(self.padding_idx), self.layer_norm):
            return super().forward_scriptable(src_tokens, src_lengths, return_all_hiddens, token_embeddings)
