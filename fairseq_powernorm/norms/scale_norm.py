"""ScaleNorm (Nguyen and Salazar 2019): each token on a sphere whose radius is learned."""

import math
from typing import Unpack

import torch.nn.functional as F
from torch import Tensor, nn

from ..functional import reference
from ..kernels.plain import at_least_float32
from .declaration import Declaration
from .token_norm import ModuleOptions, TokenNorm


class ScaleNorm(TokenNorm):
    """y = g x/max(‖x‖, ε), ‖x‖ the Euclidean norm of a token.

    It has no β and no statistics, is the same in training and evaluation, and has no use for the padding mask.

    Attributes:
        weight: g (1,), starts at √C; None for that value.
    """

    declaration = Declaration(
        name="scale",
        short_name="ScaleNorm",
        color="#DDCC77",
        source="Nguyen, Salazar 2019",
        training="g x/max(‖x‖, ε), g a single number",
        reference=reference.scale_norm,
    )
    has_bias = False

    def __init__(self, channels: int, eps: float = 1e-5, **options: Unpack[ModuleOptions]):
        """Args and errors as in :class:`TokenNorm`."""
        super().__init__(channels, eps, **options)
        if self.weight is not None:
            self.weight = nn.Parameter(self.weight.new_full((1,), math.sqrt(channels)))

    def reset_parameters(self) -> None:
        """Puts g at √C."""
        if self.weight is not None:
            nn.init.constant_(self.weight, math.sqrt(self.channels))

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """See :class:`TokenNorm`."""
        self.check_input(x)
        radius = math.sqrt(self.channels) if self.weight is None else at_least_float32(self.weight)
        return (radius * F.normalize(at_least_float32(x), dim=-1, eps=self.eps)).to(x.dtype)
