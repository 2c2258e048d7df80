"""The base classes of the norms, under the name that they had."""

from .running_statistics import BatchStatisticsNorm, BufferPolicy
from .token_norm import TokenNorm, hand_padding_mask

__all__ = ["BatchStatisticsNorm", "BufferPolicy", "TokenNorm", "hand_padding_mask"]
