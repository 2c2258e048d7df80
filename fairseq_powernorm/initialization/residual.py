"""What the schemes put into a Transformer in addition to its weights: scalars and vectors of residual branches.

x is a branch's input (T, B, C), f(x) what comes out of its dropout.
"""

import torch
from torch import Tensor, nn


class WeightedResidual(nn.Module):
    """ω ⊙ x + f(x): Admin (Liu et al. 2020); with a constant number as ω, admin-torch's default and DeepNet's α.

    Attributes:
        constant: where ω starts, and stays if it is not trained.
        omega: ω (C,) if it is trained; None otherwise.
    """

    def __init__(self, omega: float, channels: int | None = None):
        """Args:
        omega: the value.
        channels: C for a trainable ω; None for a constant one.
        """
        super().__init__()
        self.constant = omega
        self.omega = None if channels is None else nn.Parameter(torch.full((channels,), omega))

    def forward(self, branch: Tensor, x: Tensor) -> Tensor:
        """f(x) and x → ω ⊙ x + f(x)."""
        return branch + x * (self.constant if self.omega is None else self.omega)

    def extra_repr(self) -> str:
        """ω at the start, for ``repr``."""
        return f"omega={self.constant:.4f}, trainable={self.omega is not None}"


class ScaledBranch(nn.Module):
    """x + s·f(x): Fixup's scalar multiplier (Zhang, Dauphin, Ma 2019).

    Attributes:
        scale: s (1,), starts at 1.
    """

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, branch: Tensor, x: Tensor) -> Tensor:
        """f(x) and x → x + s·f(x)."""
        return x + self.scale * branch


class ReZeroBranch(nn.Module):
    """x + α·f(x): ReZero (Bachlechner et al. 2020); a layer's branches share it.

    Attributes:
        alpha: α (1,), starts at 0.
    """

    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, branch: Tensor, x: Tensor) -> Tensor:
        """f(x) and x → x + α·f(x)."""
        return x + self.alpha * branch


class Shift(nn.Module):
    """x − b: Fixup's scalar bias.

    Attributes:
        bias: b (1,), starts at 0.
    """

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same."""
        return x - self.bias


class ShiftAndScale(Shift):
    """s·(x − b): what Fixup has at the encoder's end.

    Attributes:
        scale: s (1,), starts at 1.
    """

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same."""
        return self.scale * super().forward(x)


class ShiftBefore(nn.Module):
    """f(x − b) for an activation function f, such as relu."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.shift = Shift()

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → what the function makes of it."""
        return self.function(self.shift(x))


class ShiftAfter(nn.Module):
    """f(x) − b for a module f, such as dropout."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self.shift = Shift()

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → what the module makes of it."""
        return self.shift(self.module(x))
