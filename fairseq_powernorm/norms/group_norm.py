"""GroupNorm of each token (Wu and He 2018): LayerNorm over groups of its channels."""

from typing import ClassVar, Unpack

import torch.nn.functional as F
from torch import Tensor

from ..functional import reference
from ..kernels.plain import at_least_float32
from .declaration import Declaration, Setting, whole_number
from .token_norm import ModuleOptions, TokenNorm


class GroupNorm(TokenNorm):
    """y = γ ⊙ (x − mean)/√(var + ε) + β, mean and variance of each token over each of its groups of channels.

    ``torch.nn.GroupNorm`` of rows (N, C). It has no statistics, is the same in training and evaluation, and has no use
    for the padding mask.
    """

    declaration = Declaration(
        name="group",
        short_name="GN",
        color="#999933",
        source="Wu, He 2018",
        training="each token over each group of its channels",
        reference=reference.group_norm,
    )
    own_settings: ClassVar[dict[str, Setting]] = {
        "count": whole_number("groups of channels, which have to divide them", minimum=1, heads=True)
    }

    def __init__(self, channels: int, eps: float = 1e-5, count: int = 1, **options: Unpack[ModuleOptions]):
        """Args and errors as in :class:`TokenNorm`, and in addition:

        Args:
            count: groups of C/count channels each; 1 is LayerNorm.
        """
        super().__init__(channels, eps, **options)
        self.take_settings(count=count)
        if channels % count:
            raise ValueError(f"expected count to divide {channels} channels, got {count}")
        self.count = count

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """See :class:`TokenNorm`."""
        self.check_input(x)
        rows = at_least_float32(x).reshape(-1, self.channels)
        weight, bias = (None if each is None else each.to(rows.dtype) for each in (self.weight, self.bias))
        return F.group_norm(rows, self.count, weight, bias, self.eps).to(x.dtype).view(x.shape)
