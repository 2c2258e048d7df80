"""The dtype of statistics and their arithmetic: float32, or float64 where the input is."""

from ..kernels.plain import at_least_float32

__all__ = ["at_least_float32"]
