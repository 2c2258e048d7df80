"""What all norms of tokens share: the affine parameters, the input they accept, and how they get the padding mask."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

INPUT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_decay(name: str, value: float) -> None:
    """Raises ``ValueError`` unless ``value`` is in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"expected {name} in [0, 1), got {value}")


def check_warmup(warmup_updates: int) -> None:
    """Raises ``ValueError`` if ``warmup_updates`` is below 0."""
    if warmup_updates < 0:
        raise ValueError(f"expected warmup_updates >= 0, got {warmup_updates}")


class TokenNorm(nn.Module):
    """A norm of tokens with one scale γ and one shift β per channel.

    ``norm(x, padding_mask)`` takes (T, B, C) with a (B, T) mask, True at padding, or rows (N, C) with an (N,) mask or
    None, and returns the shape and dtype of ``x``. Changing what stands at padding changes no output at a real token,
    no statistic and no gradient; what comes out *at* padding is not specified. Arithmetic and statistics are float32
    or wider whatever the dtype of ``x`` and of the parameters.

    Attributes:
        weight: γ (C,), starts at 1.
        bias: β (C,), starts at 0.
    """

    _version = 1

    def __init__(self, channels: int, eps: float = 1e-5):
        """Args:
            channels: C ≥ 1.
            eps: ε > 0.

        Raises:
            ValueError: a value outside its range.
        """
        super().__init__()
        if channels < 1:
            raise ValueError(f"expected channels >= 1, got {channels}")
        if not eps > 0:
            raise ValueError(f"expected eps > 0, got {eps}")
        self.channels = channels
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self._handed_mask: Tensor | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Puts γ at 1 and β at 0."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        return f"{self.channels}, eps={self.eps}"

    def check_input(self, x: Tensor) -> None:
        """Raises ``ValueError`` if ``x`` is not floating point or its last dimension is not the norm's."""
        if x.dtype not in INPUT_DTYPES:
            allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in INPUT_DTYPES)
            raise ValueError(f"expected activations in {allowed}, got {str(x.dtype).removeprefix('torch.')}")
        if x.size(-1) != self.channels:
            raise ValueError(f"expected {self.channels} channels in the last dimension, got shape {tuple(x.shape)}")


@contextlib.contextmanager
def hand_padding_mask(padding_mask: Tensor | None, *norms: nn.Module | None) -> Iterator[None]:
    """Within the block the norms use ``padding_mask`` (B, T) where a caller gives them none.

    fairseq's layers call ``norm(x)``; a layer of ours puts this around ``super().forward``. Entries that are None or
    no :class:`TokenNorm` are passed over.
    """
    receivers = [norm for norm in norms if isinstance(norm, TokenNorm)]
    for norm in receivers:
        norm._handed_mask = padding_mask
    try:
        yield
    finally:
        for norm in receivers:
            norm._handed_mask = None
