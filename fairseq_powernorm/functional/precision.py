"""The dtype of statistics and their arithmetic: float32, or float64 where the input is."""

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor itself if it is float32 or float64, else (half, bfloat16) as float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
