"""RMSNorm (Zhang and Sennrich 2019): LayerNorm without centring."""

import torch.nn.functional as F
from torch import Tensor

from ..functional import reference
from ..kernels.plain import at_least_float32
from .declaration import Declaration
from .token_norm import TokenNorm


class RMSNorm(TokenNorm):
    """y = γ ⊙ x/√(mean of x² over the token's channels + ε).

    It has no β and no statistics, is the same in training and evaluation, and has no use for the padding mask.
    """

    declaration = Declaration(
        name="rms",
        short_name="RMSNorm",
        color="#D55E00",
        source="Zhang, Sennrich 2019",
        training="x/√(mean of x² over the token's channels + ε)",
        reference=reference.rms_norm,
        normalizes="token",
    )
    has_bias = False

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """See :class:`TokenNorm`."""
        self.check_input(x)
        weight = None if self.weight is None else at_least_float32(self.weight)
        return F.rms_norm(at_least_float32(x), (self.channels,), weight, self.eps).to(x.dtype)
