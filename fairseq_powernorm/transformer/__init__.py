"""fairseq's Transformer with chosen norms; importing this registers the model and its architectures with fairseq."""

from ..checkpoints.guard import guard_loading
from ..checkpoints.safe_globals import allow_checkpoint_classes
from . import architectures
from .model import PowerNormTransformerModel

allow_checkpoint_classes()
guard_loading()

__all__ = ["PowerNormTransformerModel", "architectures"]
