"""The language models that ``--arch powernorm_lm_…`` builds, for fairseq's task ``language_modeling``."""

import argparse
import dataclasses
import logging

import torch
from fairseq import utils
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models import FairseqLanguageModel, register_model
from fairseq.models.transformer import Embedding, TransformerConfig
from fairseq.models.transformer_lm import DEFAULT_MAX_TARGET_POSITIONS, TransformerLanguageModelConfig
from fairseq.modules import AdaptiveInput, CharacterTokenEmbedder
from torch import nn

from ..flags.initialization import add_init_flags, initialize_by_flags
from ..flags.norms import add_norm_flags, stack_spec, unused_flags
from ..flags.values import FlagError
from ..kernels.operators import describe
from ..norms.registry import describe_stack
from .decoder import PowerNormTransformerDecoder
from .fairseq_patches.plain_settings import plain_value
from .hydra_flags import as_namespace

logger = logging.getLogger(__name__)

LANGUAGE_MODEL_NAME = "powernorm_lm"


def cutoffs(args: argparse.Namespace, flag: str, types: int) -> list[int]:
    """The bands of words of ``--adaptive-input-cutoff`` or ``--adaptive-softmax-cutoff``.

    Args:
        args: the model's flags.
        flag: which of the two, with ``_``.
        types: the dictionary's.

    Raises:
        FlagError: a band begins after the last word.
    """
    text = getattr(args, flag)
    values = utils.eval_str_list(text, type=int)
    if values[-1] > types:
        raise FlagError(
            f"--{flag.replace('_', '-')} {text}: the dictionary has {types} types; the last cutoff has to be within it"
        )
    return values


def check_flags(args: argparse.Namespace, types: int) -> None:
    """Raises ``FlagError`` where fairseq would stop at an assertion: cutoffs outside the dictionary, and weights to be
    tied that have different shapes."""
    if args.adaptive_softmax_cutoff is not None:
        cutoffs(args, "adaptive_softmax_cutoff", types)
    if not args.tie_adaptive_weights:
        return
    if not args.adaptive_input:
        raise FlagError("--tie-adaptive-weights needs --adaptive-input")
    if args.decoder_input_dim != args.decoder_output_dim:
        raise FlagError(
            f"--tie-adaptive-weights needs one size, got --decoder-input-dim {args.decoder_input_dim} and "
            f"--decoder-output-dim {args.decoder_output_dim}"
        )
    for name in ("factor", "cutoff"):
        values = {flag: getattr(args, f"adaptive_{flag}_{name}") for flag in ("input", "softmax")}
        if values["input"] != values["softmax"]:
            given = " and ".join(f"--adaptive-{flag}-{name} {value}" for flag, value in values.items())
            raise FlagError(f"--tie-adaptive-weights needs the same bands of words, got {given}")


def build_embedding(args: argparse.Namespace, dictionary) -> nn.Module:
    """The table of words of the flags: of characters, adaptive (Baevski and Auli 2019), or plain."""
    types = len(dictionary)
    if args.character_embeddings:
        filters = plain_value(args.character_filters)
        sizes = (args.character_embedding_dim, args.decoder_embed_dim, args.char_embedder_highway_layers)
        return CharacterTokenEmbedder(dictionary, filters, *sizes)
    if args.adaptive_input:
        return AdaptiveInput(
            types,
            dictionary.pad(),
            args.decoder_input_dim,
            args.adaptive_input_factor,
            args.decoder_embed_dim,
            cutoffs(args, "adaptive_input_cutoff", types),
            args.quant_noise_pq,
            args.quant_noise_pq_block_size,
        )
    return Embedding(types, args.decoder_input_dim, dictionary.pad())


@register_model(LANGUAGE_MODEL_NAME)
class PowerNormLanguageModel(FairseqLanguageModel):
    """fairseq's Transformer language model with the norm of each site chosen by flag (:mod:`fairseq_powernorm.flags`).

    With ``--norm-type layer`` it computes, bit for bit, what stock ``transformer_lm`` does, and their checkpoints have
    the same keys. It declares fairseq's own flags without their dataclass: models that are registered by one know no
    others.
    """

    decoder_class: type[PowerNormTransformerDecoder] = PowerNormTransformerDecoder
    takes_init_flags = True

    @classmethod
    def add_args(cls, parser) -> None:
        """Adds the stock language model's flags, the norms' and the initializations'."""
        gen_parser_from_dataclass(parser, TransformerLanguageModelConfig(), delete_default=True)
        add_norm_flags(parser, language_model=True)
        if cls.takes_init_flags:
            add_init_flags(parser)

    @classmethod
    def build_model(cls, args, task) -> "PowerNormLanguageModel":
        """Builds the model.

        Raises:
            FlagError: flags that contradict each other or the dictionary.
            ValueError: ``FAIRSEQ_POWERNORM_KERNELS`` asks for what there is not.
        """
        args = as_namespace(args)
        if args.decoder_layers_to_keep:
            args.decoder_layers = len(args.decoder_layers_to_keep.split(","))
        if getattr(args, "max_target_positions", None) is None:
            args.max_target_positions = getattr(args, "tokens_per_sample", DEFAULT_MAX_TARGET_POSITIONS)
        device_type = "cuda" if torch.cuda.is_available() and not getattr(args, "cpu", False) else "cpu"
        spec = stack_spec(args, "decoder")
        output = args.decoder_normalize_before and not args.no_decoder_final_norm
        shown = spec if output else dataclasses.replace(spec, output=None)
        logger.info("norms of the language model: %s", describe_stack(shown))
        if unused := unused_flags(args):
            logger.info("ignored, as no norm of this model uses them: %s", ", ".join(unused))
        logger.info("batch norms are trained by %s", describe(device_type))
        check_flags(args, len(task.target_dictionary))
        embed_tokens = build_embedding(args, task.source_dictionary)
        cfg = TransformerConfig.from_namespace(args)
        model = cls(cls.decoder_class(cfg, task.target_dictionary, embed_tokens, spec, no_encoder_attn=True))
        initialize_by_flags(model, args)
        return model
