"""What all norms of tokens share: the affine parameters, the input they accept, and how they get the padding mask."""

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar, TypedDict, Unpack

import torch
from torch import Tensor, nn

from ..kernels.plain import at_least_float32
from .declaration import BufferPolicy, Declaration, Setting, Statistic

INPUT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class ModuleOptions(TypedDict, total=False):
    """Keywords that every norm takes, as torch's norms do.

    Attributes:
        elementwise_affine: whether there are γ and β at all; True if left out.
        bias: whether there is β; True if left out, for a norm whose definition has one.
        device: of parameters and statistics.
        dtype: of the parameters; statistics are float32 or wider.
    """

    elementwise_affine: bool
    bias: bool
    device: torch.device | str | int | None
    dtype: torch.dtype | None


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
        declaration: what the rest of the package knows of the norm.
        statistics: the buffers that training changes, by name; none for a norm that looks at each token alone.
        running_statistics: the names of those that evaluation uses.
        buffer_policies: how checkpoint averaging treats each buffer.
        own_settings: the keywords of the constructor that no other norm has, each of which has a flag.
        has_weight: whether the norm's definition has a γ.
        has_bias: whether it has a β.
        weight: γ (C,), starts at 1; None without affine parameters.
        bias: β (C,), starts at 0; None without.
    """

    _version = 1
    declaration: ClassVar[Declaration]
    statistics: ClassVar[dict[str, Statistic]] = {}
    running_statistics: ClassVar[tuple[str, ...]] = ()
    buffer_policies: ClassVar[dict[str, BufferPolicy]] = {}
    has_weight: ClassVar[bool] = True
    own_settings: ClassVar[dict[str, Setting]] = {}
    has_bias: ClassVar[bool] = True
    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init_subclass__(cls, **keywords) -> None:
        super().__init_subclass__(**keywords)
        cls.running_statistics = tuple(name for name, statistic in cls.statistics.items() if statistic.in_evaluation)
        cls.buffer_policies = {name: statistic.average for name, statistic in cls.statistics.items()}

    def __init__(self, channels: int, eps: float = 1e-5, **options: Unpack[ModuleOptions]):
        """Args:
            channels: C ≥ 1.
            eps: ε > 0.
            **options: see :class:`ModuleOptions`.

        Raises:
            ValueError: a value outside its range, or a parameter that the norm's definition has not.
            TypeError: another option.
        """
        super().__init__()
        if unknown := sorted(set(options) - set(ModuleOptions.__annotations__)):
            raise TypeError(f"{type(self).__name__} takes {', '.join(ModuleOptions.__annotations__)}; got {unknown[0]}")
        if channels < 1:
            raise ValueError(f"expected channels >= 1, got {channels}")
        if not eps > 0:
            raise ValueError(f"expected eps > 0, got {eps}")
        if options.get("elementwise_affine") and not self.has_weight:
            raise ValueError(f"{type(self).__name__} has no affine parameters, got elementwise_affine=True")
        if options.get("bias") and not self.has_bias:
            raise ValueError(f"{type(self).__name__} has no bias, got bias=True")
        self.channels = channels
        self.eps = eps
        affine = options.get("elementwise_affine", self.has_weight)
        device, dtype = options.get("device"), options.get("dtype")
        shift = affine and options.get("bias", self.has_bias)
        for name, start, there in (("weight", torch.ones, affine), ("bias", torch.zeros, shift)):
            value = nn.Parameter(start(channels, device=device, dtype=dtype)) if there else None
            self.register_parameter(name, value)
        self._handed_mask: Tensor | None = None

    def reset_parameters(self) -> None:
        """Puts γ at 1 and β at 0, and every statistic at its start where there are any."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        affine = "" if self.weight is not None else ", elementwise_affine=False"
        bias = ", bias=False" if self.has_bias and self.weight is not None and self.bias is None else ""
        own = "".join(f", {name}={value}" for name, value in self.__dict__.get("own_values", {}).items())
        return f"{self.channels}, eps={self.eps}{affine}{bias}{own}"

    def take_settings(self, **values: Any) -> None:
        """Checks the norm's own settings, and keeps them as ``own_values``.

        Raises:
            ValueError: a value that is not allowed.
        """
        for name, value in values.items():
            self.own_settings[name].check(name, value)
        self.own_values = values

    def affine(self, values: Tensor) -> Tensor:
        """γ ⊙ values + β, (..., C), in float32 or wider."""
        if self.weight is not None:
            values = values * at_least_float32(self.weight)
        return values if self.bias is None else values + at_least_float32(self.bias)

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
    no :class:`TokenNorm` are ignored.
    """
    receivers = [norm for norm in norms if isinstance(norm, TokenNorm)]
    for norm in receivers:
        norm._handed_mask = padding_mask
    try:
        yield
    finally:
        for norm in receivers:
            norm._handed_mask = None
