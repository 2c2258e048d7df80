"""Layer normalization (Ba, Kiros, Hinton 2016), as torch and stock fairseq compute it."""

import torch.nn.functional as F
from torch import Tensor

from ..functional import reference
from .declaration import Declaration
from .token_norm import TokenNorm


class LayerNorm(TokenNorm):
    """y = γ ⊙ (x − mean)/√(var + ε) + β, mean and variance of each token over its channels.

    The very call of ``torch.nn.LayerNorm``, so bit-equal to it. It has no statistics, the same in training and
    evaluation, and no use for the padding mask.
    """

    declaration = Declaration(
        name="layer",
        short_name="LN",
        color="#999999",
        source="Ba, Kiros, Hinton 2016",
        training="each token over its channels",
        reference=reference.layer_norm,
        normalizes="token",
    )

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """See :class:`TokenNorm`."""
        self.check_input(x)
        return F.layer_norm(x, (self.channels,), self.weight, self.bias, self.eps)
