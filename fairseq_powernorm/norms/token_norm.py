"""What all norms of tokens share: the affine parameters, the input they accept, and how they get the padding mask."""

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar, TypedDict, Unpack

import torch
from torch import Tensor, nn

from ..functional.masking import rows_of_padding
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
        batch_first: whether activations are (B, …, C) rather than (T, B, C); the mask is (B, …) in either case.
        channel_dim: the dimension of the channels; -1 if left out. 1 is that of images (B, C, H, W), whose mask is
            (B, H, W): for another than the last, activations have the batch first.
    """

    elementwise_affine: bool
    bias: bool
    device: torch.device | str | int | None
    dtype: torch.dtype | None
    batch_first: bool
    channel_dim: int


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
    None (other layouts: :class:`ModuleOptions`), and returns the shape and dtype of ``x``. Changing what stands at
    padding changes no output at a real token, no statistic and no gradient; what comes out *at* padding is not
    specified. Arithmetic and statistics are float32 or wider whatever the dtype of ``x`` and of the parameters.

    Attributes:
        declaration: what the rest of the package knows of the norm.
        statistics: the buffers that training changes, by name; none for a norm that looks at each token alone.
        running_statistics: the names of those that evaluation uses.
        buffer_policies: how checkpoint averaging treats each buffer.
        own_settings: the keywords of the constructor that no other norm has, each of which has a flag.
        has_weight: whether the norm's definition has a γ.
        has_bias: whether it has a β.
        batch_first: whether activations have the order of their mask, (B, …, C).
        channel_dim: the dimension of the channels in what the norm is called with. ``forward`` finds them last.
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
    batch_first: bool = False
    channel_dim: int = -1

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
        self._handed_masks: list[Tensor | None] = []
        self.channel_dim = options.get("channel_dim", -1)
        self.batch_first = options.get("batch_first", self.channel_dim != -1)
        if self.channel_dim != -1:
            if self.channel_dim < 1 or not self.batch_first:
                raise ValueError(
                    f"expected channel_dim -1, or with the batch first 1 or above, got {self.channel_dim} and "
                    f"batch_first={self.batch_first}"
                )
            self.register_forward_pre_hook(_channels_last)
            self.register_forward_hook(_channels_back)

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
        first = ", batch_first=True" if self.batch_first else ""
        dim = f", channel_dim={self.channel_dim}" if self.channel_dim != -1 else ""
        own = "".join(f", {name}={value}" for name, value in self.__dict__.get("own_values", {}).items())
        return f"{self.channels}, eps={self.eps}{affine}{bias}{first}{dim}{own}"

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

    def padding_of(self, x: Tensor, padding_mask: Tensor | None) -> Tensor | None:
        """The padding in the order of the rows of ``x`` (..., C): by the argument, else by the innermost block that
        handed this norm a mask, else by the innermost that handed one to all norms; None if every position is a token.

        Raises:
            ValueError: the mask does not fit (:func:`~fairseq_powernorm.functional.masking.rows_of_padding`).
        """
        if padding_mask is None and (handed := self._handed_masks or HANDED_TO_ALL):
            padding_mask = handed[-1]
        return rows_of_padding(x, padding_mask, self.batch_first)

    def check_input(self, x: Tensor) -> None:
        """Raises ``ValueError`` if ``x`` is not floating point or its last dimension is not the norm's."""
        if x.dtype not in INPUT_DTYPES:
            allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in INPUT_DTYPES)
            raise ValueError(f"expected activations in {allowed}, got {str(x.dtype).removeprefix('torch.')}")
        if x.size(-1) != self.channels:
            raise ValueError(f"expected {self.channels} channels in the last dimension, got shape {tuple(x.shape)}")


def _channels_last(norm: TokenNorm, arguments: tuple) -> tuple:
    """Before ``forward``: brings the channels from ``channel_dim`` to the end. A view."""
    x, *others = arguments
    if x.dim() <= norm.channel_dim or x.size(norm.channel_dim) != norm.channels:
        raise ValueError(
            f"expected {norm.channels} channels in dimension {norm.channel_dim}, got shape {tuple(x.shape)}"
        )
    return x.movedim(norm.channel_dim, -1), *others


def _channels_back(norm: TokenNorm, arguments: tuple, output: Tensor) -> Tensor:
    """After it: back, and contiguous if the input was, as callers may take a view."""
    back = output.movedim(-1, norm.channel_dim)
    return back.contiguous() if arguments[0].movedim(-1, norm.channel_dim).is_contiguous() else back


HANDED_TO_ALL: list[Tensor | None] = []
"""The masks that blocks under way hand to all norms, the innermost last. (A list, which ``torch.compile`` can read.)"""


@contextlib.contextmanager
def hand_padding_mask(padding_mask: Tensor | None, *norms: nn.Module | None) -> Iterator[None]:
    """Within the block the norms use ``padding_mask`` (B, T) where a caller gives them none; None: they see no padding.

    fairseq's layers call ``norm(x)``; a layer of ours puts this around ``super().forward``. Entries that are None or
    no :class:`TokenNorm` are ignored.
    """
    stacks = [norm._handed_masks for norm in norms if isinstance(norm, TokenNorm)]
    for masks in stacks:
        masks.append(padding_mask)
    try:
        yield
    finally:
        for masks in stacks:
            masks.pop()
