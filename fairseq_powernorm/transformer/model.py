"""The model that ``--arch powernorm_…`` builds."""

import argparse
import logging

import torch
from fairseq.models import register_model
from fairseq.models.transformer import TransformerConfig
from fairseq.models.transformer.transformer_legacy import TransformerModel
from omegaconf import OmegaConf
from torch import nn

from ..flags import add_norm_flags, stack_spec
from ..kernels.operators import describe
from ..norms.registry import describe_stack
from . import restarts, trainer_hooks
from .decoder import PowerNormTransformerDecoder
from .encoder import PowerNormTransformerEncoder
from .plain_settings import forbid_eval

logger = logging.getLogger(__name__)

MODEL_NAME = "powernorm_transformer"


def as_command_line(model: type[TransformerModel], args) -> argparse.Namespace:
    """The flags of a model as fairseq-train has them, from those or from the configuration of ``fairseq-hydra-train``
    (``+model._name=powernorm_iwslt_de_en +model.norm_type=power``), whose values pass no parser.

    Raises:
        ValueError: a flag does not take a value.
    """
    if not OmegaConf.is_config(args):
        return args
    parser = argparse.ArgumentParser(argument_default=argparse.SUPPRESS)
    model.add_args(parser)
    given = OmegaConf.to_container(args, resolve=True)
    for action in parser._actions:
        value = given.get(action.dest)
        if value is None or isinstance(value, bool):
            continue
        try:
            given[action.dest] = parser._get_value(action, str(value))
            parser._check_value(action, given[action.dest])
        except argparse.ArgumentError as error:
            raise ValueError(str(error).replace("argument ", "")) from None
    return argparse.Namespace(**{**vars(parser.parse_args([])), **given})


@register_model(MODEL_NAME)
class PowerNormTransformerModel(TransformerModel):
    """fairseq's Transformer with the norm of each site chosen by flag (:mod:`fairseq_powernorm.flags`).

    With ``--norm-type layer`` it computes, bit for bit, what stock ``transformer`` with
    ``--encoder-normalize-before --decoder-normalize-before`` does, and their checkpoints have the same keys.
    """

    @classmethod
    def hub_models(cls) -> dict[str, str]:
        """No trained models to download."""
        return {}

    @staticmethod
    def add_args(parser) -> None:
        """Adds the stock Transformer's flags and the norms'."""
        TransformerModel.add_args(parser)
        add_norm_flags(parser)

    @classmethod
    def build_model(cls, args, task) -> "PowerNormTransformerModel":
        """Builds the model, and lets a trainer of this process tell its norms what they have to know.

        Raises:
            ValueError: ``FAIRSEQ_POWERNORM_KERNELS`` asks for what there is not.
        """
        args = as_command_line(cls, args)
        device_type = "cuda" if torch.cuda.is_available() and not getattr(args, "cpu", False) else "cpu"
        for stack in ("encoder", "decoder"):
            logger.info("norms of the %s: %s", stack, describe_stack(stack_spec(args, stack)))
        logger.info("batch norms are trained by %s", describe(device_type))
        forbid_eval()
        restarts.install()
        trainer_hooks.install()
        return super().build_model(args, task)

    @classmethod
    def build_encoder(cls, args, src_dict, embed_tokens: nn.Embedding) -> PowerNormTransformerEncoder:
        """Builds the encoder with the norms of the flags."""
        cfg = TransformerConfig.from_namespace(args)
        return PowerNormTransformerEncoder(cfg, src_dict, embed_tokens, stack_spec(cfg, "encoder"))

    @classmethod
    def build_decoder(cls, args, tgt_dict, embed_tokens: nn.Embedding) -> PowerNormTransformerDecoder:
        """Builds the decoder with the norms of the flags."""
        cfg = TransformerConfig.from_namespace(args)
        return PowerNormTransformerDecoder(
            cfg, tgt_dict, embed_tokens, stack_spec(cfg, "decoder"), no_encoder_attn=cfg.no_cross_attention
        )
