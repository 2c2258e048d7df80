"""fairseq's Transformer with chosen norms; importing this registers the model and its architectures with fairseq, and
wraps the functions of fairseq's that :mod:`~fairseq_powernorm.transformer.fairseq_patches` lists."""

from fairseq.data import Dictionary

from ..checkpoints.safe_globals import allow_checkpoint_classes
from . import architectures, fairseq_patches, language_model_architectures, t_fixup_schedule
from .language_model import PowerNormLanguageModel
from .model import PowerNormTransformerModel
from .tensorized_language_model import TensorizedLanguageModel

allow_checkpoint_classes(Dictionary)  # which tasks of speech have in their state
fairseq_patches.install()

__all__ = [
    "PowerNormLanguageModel",
    "PowerNormTransformerModel",
    "TensorizedLanguageModel",
    "architectures",
    "language_model_architectures",
    "t_fixup_schedule",
]
