"""No norm at all: a site of the Transformer that hands its activations on as they are."""

from typing import Unpack

from torch import Tensor

from ..functional import reference
from .declaration import Declaration
from .token_norm import ModuleOptions, TokenNorm


class NoNorm(TokenNorm):
    """y = x, in training and evaluation: no γ, no β, no statistics, no use for the padding mask.

    A Transformer without norms needs an initialization that is made for it (``--init-scheme``: Fixup, T-Fixup, ReZero).
    """

    declaration = Declaration(
        name="none",
        short_name="no norm",
        color="#000000",
        source="the residual network without a norm",
        training="x",
        reference=reference.no_norm,
    )
    has_weight = False
    has_bias = False

    def __init__(self, channels: int, **options: Unpack[ModuleOptions]):
        """Args as in :class:`TokenNorm`, but for ε, which it has no use for."""
        super().__init__(channels, **options)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """See :class:`TokenNorm`."""
        self.check_input(x)
        return x

    def extra_repr(self) -> str:
        """The channels, for ``repr``."""
        return f"{self.channels}"
