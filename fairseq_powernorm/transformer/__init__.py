"""fairseq's Transformer with chosen norms; importing this registers the model and its architectures with fairseq."""

from ..checkpoints.safe_globals import allow_checkpoint_classes
from . import architectures
from .model import PowerNormTransformerModel
from .plain_settings import forbid_eval

allow_checkpoint_classes()
forbid_eval()

__all__ = ["PowerNormTransformerModel", "architectures"]
