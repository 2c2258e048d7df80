"""The preset language models: sizes and dropouts of Table 2's experiments (Ma et al. 2019), norms by flag, pre-norm."""

from fairseq.models import register_model_architecture
from fairseq.models.transformer_lm import base_lm_architecture
from omegaconf import OmegaConf

from ..flags.initialization import fill_in_init_defaults
from ..flags.norms import fill_in_defaults
from .architectures import set_default
from .hydra_flags import OTHER_GROUPS, as_command_line
from .language_model import LANGUAGE_MODEL_NAME, PowerNormLanguageModel
from .norm_flags_of_checkpoints import inherit_norm_flags

PTB = {
    "decoder_embed_dim": 256,
    "decoder_ffn_embed_dim": 2100,
    "decoder_layers": 3,
    "decoder_attention_heads": 8,
    "dropout": 0.3,
    "activation_dropout": 0.3,
    "share_decoder_input_output_embed": True,
}
WIKITEXT103_BANDS = "20000,40000,200000"
WIKITEXT103 = {
    "decoder_embed_dim": 256,
    "decoder_ffn_embed_dim": 2100,
    "decoder_layers": 6,
    "decoder_attention_heads": 8,
    "dropout": 0.1,
    "activation_dropout": 0.1,
    "adaptive_input": True,
    "adaptive_input_cutoff": WIKITEXT103_BANDS,
    "adaptive_input_factor": 1,
    "adaptive_softmax_cutoff": WIKITEXT103_BANDS,
    "adaptive_softmax_factor": 1,
    "tie_adaptive_weights": True,
}
"""All bands of words have vectors of one size, and the embedding is the softmax's matrix."""


def preset(args, sizes: dict, model: type[PowerNormLanguageModel] = PowerNormLanguageModel) -> None:
    """Fills in an architecture, in place, where the command line has not.

    Args:
        args: the model's namespace, or its group in the configuration of fairseq-hydra-train.
        sizes: flags and their values.
        model: says which flags there are.

    Raises:
        FlagError: see ``fill_in_defaults`` and ``fill_in_init_defaults``; or a checkpoint to fine-tune cannot be read.
    """
    if OmegaConf.is_config(args):
        flags = as_command_line(model, args, (*OTHER_GROUPS, "task"))
        preset(flags, sizes, model)
        args.update(vars(flags))
        return
    tables = getattr(args, "adaptive_input", None) or getattr(args, "character_embeddings", None)
    for name, value in sizes.items():
        if not (tables and name == "share_decoder_input_output_embed"):  # there is no one matrix to share
            set_default(args, name, value)
    inherit_norm_flags(args)
    fill_in_defaults(args)
    fill_in_init_defaults(args)
    base_lm_architecture(args)
    args.decoder_normalize_before = args.norm_position != "post"  # stock fairseq's are pre-norm, whatever is asked for
    args.no_cross_attention = True


@register_model_architecture(LANGUAGE_MODEL_NAME, "powernorm_lm_ptb")
def powernorm_lm_ptb(args) -> None:
    """The Penn Treebank model: 256/2100/8 heads, 3 layers, dropout 0.3, one matrix for words in and out."""
    preset(args, PTB)


@register_model_architecture(LANGUAGE_MODEL_NAME, "powernorm_lm_wikitext103")
def powernorm_lm_wikitext103(args) -> None:
    """The WikiText-103 model: 256/2100/8 heads, 6 layers, dropout 0.1, adaptive softmax tied to the embedding."""
    preset(args, WIKITEXT103)
