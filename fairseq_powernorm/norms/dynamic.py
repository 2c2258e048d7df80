"""Dynamic Tanh (Zhu et al. 2025) and dynamic erf (arXiv 2512.10938): a squashing in a norm's place."""

from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from ..functional import reference
from ..kernels.plain import at_least_float32
from .declaration import Declaration, Setting, number, positive_number
from .token_norm import ModuleOptions, TokenNorm

ALPHA = positive_number("start of α, the slope that is learned; wide or deep language models need a small one")


class DynamicTanh(TokenNorm):
    """y = γ ⊙ tanh(α x) + β, element by element: no token and no channel is compared with another.

    It has no statistics and no ε, is the same in training and evaluation, and has no use for the padding mask.

    Attributes:
        alpha: α (1,).
    """

    declaration = Declaration(
        name="dynamic-tanh",
        short_name="DyT",
        color="#CC6677",
        source="Zhu et al. 2025",
        training="tanh(α x), α a single number",
        reference=reference.dynamic_tanh,
    )
    own_settings: ClassVar[dict[str, Setting]] = {"alpha": ALPHA}

    def __init__(self, channels: int, alpha: float = 0.5, **options: Unpack[ModuleOptions]):
        """Args and errors as in :class:`TokenNorm`, but for ε, which it has no use for, and in addition:

        Args:
            alpha: α > 0 at the start.
        """
        super().__init__(channels, **options)
        self.take_settings(alpha=alpha)
        device, dtype = options.get("device"), options.get("dtype")
        self.alpha = nn.Parameter(torch.full((1,), float(alpha), device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Puts γ at 1, β at 0 and every scalar at its start."""
        super().reset_parameters()
        for name, start in self.own_values.items():
            nn.init.constant_(getattr(self, name), start)

    def squash(self, x: Tensor) -> Tensor:
        """tanh(α x), in float32 or wider."""
        return torch.tanh(at_least_float32(self.alpha) * x)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """See :class:`TokenNorm`."""
        self.check_input(x)
        rows = at_least_float32(x).contiguous()  # or the sums of scalar gradients would depend on the layout
        return self.affine(self.squash(rows)).to(x.dtype)


class DynamicErf(DynamicTanh):
    """y = γ ⊙ erf(α x + s) + β; as :class:`DynamicTanh` otherwise.

    Attributes:
        alpha: α (1,).
        shift: s (1,).
    """

    declaration = Declaration(
        name="dynamic-erf",
        short_name="Derf",
        color="#882255",
        source="Stronger Normalization-Free Transformers, arXiv 2512.10938",
        training="erf(α x + s), α and s single numbers",
        reference=reference.dynamic_erf,
    )
    own_settings: ClassVar[dict[str, Setting]] = {
        "alpha": ALPHA,
        "shift": number("start of s, which is added to α x and learned"),
    }

    def __init__(self, channels: int, alpha: float = 0.5, shift: float = 0.0, **options: Unpack[ModuleOptions]):
        """Args and errors as in :class:`DynamicTanh`, and in addition:

        Args:
            shift: s at the start.
        """
        super().__init__(channels, alpha, **options)
        self.take_settings(alpha=alpha, shift=shift)
        self.shift = nn.Parameter(torch.full_like(self.alpha, float(shift)))

    def squash(self, x: Tensor) -> Tensor:
        """erf(α x + s), in float32 or wider."""
        return torch.erf(at_least_float32(self.alpha) * x + at_least_float32(self.shift))
