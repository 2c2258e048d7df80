"""The preset architectures: sizes and dropouts of the recipes, norms by flag, pre-norm."""

from fairseq.models import register_model_architecture
from fairseq.models.transformer.transformer_legacy import base_architecture
from omegaconf import OmegaConf

from ..flags.initialization import fill_in_init_defaults
from ..flags.norms import fill_in_defaults
from .hydra_flags import as_command_line
from .model import MODEL_NAME, PowerNormTransformerModel
from .norm_flags_of_checkpoints import inherit_norm_flags


def set_default(args, name: str, value) -> None:
    """Sets an attribute that the command line has left open."""
    if getattr(args, name, None) is None:
        setattr(args, name, value)


def preset(args, channels: int, ffn: int, heads: int, layers: int, dropout: float) -> None:
    """Fills in an architecture, in place, where the command line has not.

    Args:
        args: the model's namespace, or its group in the configuration of fairseq-hydra-train.
        channels: C of both stacks.
        ffn: width of the feed-forward block.
        heads: attention heads.
        layers: layers a stack.
        dropout: dropout of residual branches and embeddings; attention and activation dropout are 0.1.

    Raises:
        FlagError: see ``fill_in_defaults`` and ``fill_in_init_defaults``; or a checkpoint to fine-tune cannot be read.
    """
    if OmegaConf.is_config(args):
        flags = as_command_line(PowerNormTransformerModel, args)
        preset(flags, channels, ffn, heads, layers, dropout)
        args.update(vars(flags))
        return
    for stack in ("encoder", "decoder"):
        set_default(args, f"{stack}_embed_dim", channels)
        set_default(args, f"{stack}_ffn_embed_dim", ffn)
        set_default(args, f"{stack}_attention_heads", heads)
        set_default(args, f"{stack}_layers", layers)
    set_default(args, "dropout", dropout)
    set_default(args, "attention_dropout", 0.1)
    set_default(args, "activation_dropout", 0.1)
    inherit_norm_flags(args)
    fill_in_defaults(args)
    fill_in_init_defaults(args)
    base_architecture(args)


@register_model_architecture(MODEL_NAME, "powernorm_iwslt_de_en")
def powernorm_iwslt_de_en(args) -> None:
    """The IWSLT14 De-En model: 512/1024/4 heads, 6+6 layers, dropout 0.3."""
    preset(args, channels=512, ffn=1024, heads=4, layers=6, dropout=0.3)


@register_model_architecture(MODEL_NAME, "powernorm_wmt_en_de")
def powernorm_wmt_en_de(args) -> None:
    """The WMT14 En-De base model: 512/2048/8 heads, 6+6 layers, dropout 0.1."""
    preset(args, channels=512, ffn=2048, heads=8, layers=6, dropout=0.1)


@register_model_architecture(MODEL_NAME, "powernorm_wmt_en_de_big")
def powernorm_wmt_en_de_big(args) -> None:
    """The WMT14 En-De big model of the paper: 1024/4096/16 heads, 6+6 layers, dropout 0.3."""
    preset(args, channels=1024, ffn=4096, heads=16, layers=6, dropout=0.3)


@register_model_architecture(MODEL_NAME, "powernorm_tiny")
def powernorm_tiny(args) -> None:
    """A model for two CPU cores: 128/256/4 heads, 3+3 layers, dropout 0.2."""
    preset(args, channels=128, ffn=256, heads=4, layers=3, dropout=0.2)
