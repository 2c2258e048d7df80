"""The Tensorized Transformer of Table 2 (Ma et al. 2019), made causal: ``--arch powernorm_tensorized_lm_…``.

The public code behind Table 2 sees the whole segment at every position, so nothing that it printed can be compared with
a language model's perplexity, and nothing that is printed here with Table 2.
"""

from fairseq.models import register_model, register_model_architecture
from torch import Tensor, nn

from ..flags.values import FlagError, reader
from ..norms.registry import build_from_spec
from ..norms.token_norm import TokenNorm
from .decoder import PowerNormTransformerDecoder
from .language_model import PowerNormLanguageModel
from .language_model_architectures import PTB, WIKITEXT103, preset
from .layer_wrappers import wrap_layer
from .tensorized_layer import TensorizedDecoderLayer

TENSORIZED_NAME = "powernorm_tensorized_lm"
STANDARD_DEVIATION = 0.02
"""Of weights, cores' logits and shared biases at the start; γ starts at N(1, 0.02)."""


def start_as_published(module: nn.Module) -> None:
    """Initialises one module as Ma et al.'s training does: weights N(0, 0.02), γ N(1, 0.02), biases 0."""
    if isinstance(module, TokenNorm) and module.weight is not None:
        nn.init.normal_(module.weight, 1.0, STANDARD_DEVIATION)
    elif isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, 0.0, STANDARD_DEVIATION)
        if (bias := getattr(module, "bias", None)) is not None:
            nn.init.zeros_(bias)


class TensorizedDecoder(PowerNormTransformerDecoder):
    """A decoder of :class:`TensorizedDecoderLayer`; it computes the whole segment anew for every token it generates."""

    def __init__(self, cfg, dictionary, embed_tokens, spec, no_encoder_attn: bool = True):
        """As :class:`PowerNormTransformerDecoder`; without an encoder. ``layer_norm``, the output norm, exists only
        where ``--decoder-norm-output`` names one."""
        super().__init__(cfg, dictionary, embed_tokens, spec, no_encoder_attn=no_encoder_attn)
        self.apply(start_as_published)
        if cfg.adaptive_input:  # the published model has no projections between words and channels
            for band in embed_tokens.embeddings:
                nn.init.eye_(band[1].weight)
        if self.adaptive_softmax is not None:
            for band in self.adaptive_softmax.tail:
                nn.init.eye_(band[0].weight)
        attentions = [self.layers[number].self_attn for number in range(self.num_layers)]
        for attention in attentions:
            nn.init.normal_(attention.cores, 0.0, STANDARD_DEVIATION)
            attention.cores.data = attention.cores.data.softmax(dim=-1)
            for name in ("content_bias", "position_bias"):
                setattr(attention, name, getattr(attentions[0], name))
        for bias in (attentions[0].content_bias, attentions[0].position_bias):
            nn.init.normal_(bias, 0.0, STANDARD_DEVIATION)
        words = embed_tokens.embeddings[0][0] if cfg.adaptive_input else embed_tokens
        if isinstance(words, nn.Embedding):
            nn.init.zeros_(words.weight[self.padding_idx])

    def build_decoder_layer(self, cfg, no_encoder_attn: bool = True) -> nn.Module:
        """Builds one layer with norms of its own."""
        norms = (build_from_spec(site, cfg.decoder.embed_dim) for site in (self.spec.self_attn, self.spec.ffn))
        return wrap_layer(TensorizedDecoderLayer(cfg, *norms), cfg)

    def extract_features_scriptable(
        self, prev_output_tokens: Tensor, encoder_out=None, incremental_state=None, *others, **options
    ):
        """As the stock decoder, of the whole segment: there is no state that a next token could start from."""
        return super().extract_features_scriptable(prev_output_tokens, encoder_out, None, *others, **options)


@register_model(TENSORIZED_NAME)
class TensorizedLanguageModel(PowerNormLanguageModel):
    """A causal Tensorized Transformer; segments are at most as long as ``--tokens-per-sample`` of its training."""

    decoder_class = TensorizedDecoder
    takes_init_flags = False  # it starts as published

    @classmethod
    def add_args(cls, parser) -> None:
        """Adds the language model's flags and those of multi-linear attention."""
        super().add_args(parser)
        positive = reader(int, "a number above 0", lambda value: value >= 1)
        parser.add_argument(
            "--attention-channels", type=positive, metavar="R", help="of queries, keys and values (default: 40)"
        )
        parser.add_argument("--attention-cores", type=positive, metavar="N", help="cores of a layer (default: 1)")


def preset_tensorized(args, sizes: dict) -> None:
    """Fills in a tensorized architecture, in place, where the command line has not.

    Raises:
        FlagError: as :func:`preset`; or a flag of norms that its layers have no place for.
    """
    own = {
        "decoder_attention_heads": 1,
        "attention_channels": 40,
        "attention_cores": 1,
        "no_token_positional_embeddings": True,
    }
    preset(args, {**sizes, **own}, TensorizedLanguageModel)
    for flag, given in (
        ("--norm-position peri", args.norm_position == "peri"),
        ("--norm-depth-scaling", args.norm_depth_scaling),
        ("--decoder-norm-ffn-inner", args.decoder_norm_ffn_inner is not None),
    ):
        if given:
            raise FlagError(f"{flag}: the layers of a tensorized model have no place for it")
    args.no_decoder_final_norm = args.decoder_norm_output is None or args.norm_position == "post"


@register_model_architecture(TENSORIZED_NAME, "powernorm_tensorized_lm_ptb")
def powernorm_tensorized_lm_ptb(args) -> None:
    """The Penn Treebank model: 256/2100, 3 layers, one core of 40 channels, dropout 0.3."""
    preset_tensorized(args, PTB)


@register_model_architecture(TENSORIZED_NAME, "powernorm_tensorized_lm_wikitext103")
def powernorm_tensorized_lm_wikitext103(args) -> None:
    """The WikiText-103 model: 256/2100, 6 layers, one core of 40 channels, dropout 0.1, adaptive softmax."""
    preset_tensorized(args, WIKITEXT103)
