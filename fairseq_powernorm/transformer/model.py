"""The model that ``--arch powernorm_…`` builds."""

import logging

import torch
from fairseq.models import register_model
from fairseq.models.transformer import TransformerConfig
from fairseq.models.transformer.transformer_legacy import TransformerModel
from torch import nn

from ..flags.initialization import add_init_flags, initialize_by_flags
from ..flags.norms import add_norm_flags, stack_spec, unused_flags
from ..kernels.operators import describe
from ..norms.registry import describe_stack
from .decoder import PowerNormTransformerDecoder
from .encoder import PowerNormTransformerEncoder
from .hydra_flags import as_namespace

logger = logging.getLogger(__name__)

MODEL_NAME = "powernorm_transformer"


@register_model(MODEL_NAME)
class PowerNormTransformerModel(TransformerModel):
    """fairseq's Transformer with the norm of each site chosen by flag (:mod:`fairseq_powernorm.flags`), and the
    initialization (:mod:`fairseq_powernorm.flags.initialization`).

    With ``--norm-type layer`` it computes, bit for bit, what stock ``transformer`` with
    ``--encoder-normalize-before --decoder-normalize-before`` does, and their checkpoints have the same keys.
    """

    @classmethod
    def hub_models(cls) -> dict[str, str]:
        """No trained models to download."""
        return {}

    @staticmethod
    def add_args(parser) -> None:
        """Adds the stock Transformer's flags, the norms' and the initializations'."""
        TransformerModel.add_args(parser)
        add_norm_flags(parser)
        add_init_flags(parser)

    @classmethod
    def build_model(cls, args, task) -> "PowerNormTransformerModel":
        """Builds the model.

        Raises:
            ValueError: ``FAIRSEQ_POWERNORM_KERNELS`` asks for what there is not.
        """
        args = as_namespace(args)
        device_type = "cuda" if torch.cuda.is_available() and not getattr(args, "cpu", False) else "cpu"
        for stack in ("encoder", "decoder"):
            logger.info("norms of the %s: %s", stack, describe_stack(stack_spec(args, stack)))
        if unused := unused_flags(args):
            logger.info("ignored, as no norm of this model uses them: %s", ", ".join(unused))
        logger.info("batch norms are trained by %s", describe(device_type))
        model = super().build_model(args, task)
        initialize_by_flags(model, args)
        return model

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
