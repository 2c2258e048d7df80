"""What a norm that stands in somebody's model says of itself: layout, channels, γ and β, and what these mean."""

import copy
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .token_norm import TokenNorm, _channels_back, _channels_last

TORCH_NORMS: dict[type[nn.Module], int] = {
    nn.LayerNorm: -1,
    nn.RMSNorm: -1,
    nn.BatchNorm1d: 1,
    nn.BatchNorm2d: 1,
    nn.BatchNorm3d: 1,
    nn.SyncBatchNorm: 1,
}
"""torch's own norms, each with the dimension that it has its channels in, by its definition."""


@dataclasses.dataclass(frozen=True)
class ForeignNorm:
    """A norm as :func:`~fairseq_powernorm.norms.replace.replace_norms` needs to know it.

    Attributes:
        channels: C.
        batch_first: as in :class:`~fairseq_powernorm.norms.token_norm.ModuleOptions`.
        channel_dim: likewise.
        weight: the parameter (C,) of γ, whatever the norm calls it, or None.
        weight_offset: γ is ``weight`` plus this: 1 in Gemma's norms and others whose parameter starts at 0.
        bias: β (C,), or None.
        affine: whether the norm has any parameter.
        normalizes: what γ and β are applied to, as a :class:`~fairseq_powernorm.norms.declaration.Declaration` says it.
        settings: of a norm of ours that normalises the same.
    """

    channels: int
    batch_first: bool
    channel_dim: int
    weight: nn.Parameter | None
    weight_offset: float
    bias: nn.Parameter | None
    affine: bool
    normalizes: Literal["token", "channel"] | None
    settings: dict[str, Any]


def describe(norm: nn.Module, batch_first: bool, channel_dim: int | None) -> ForeignNorm:
    """Looks at a norm of torch's, of ours or of another class.

    Args:
        norm: the norm; it stays as it is.
        batch_first: for norms that may have either order.
        channel_dim: for classes that are not known.

    Raises:
        ValueError: not everything is known, or the norm is more than a norm.
    """
    if isinstance(norm, TokenNorm):
        batch_first, channel_dim = norm.batch_first, norm.channel_dim
    elif type(norm) in TORCH_NORMS:
        channel_dim = TORCH_NORMS[type(norm)]
    elif channel_dim is None:
        raise ValueError("say where it has its channels: channel_dim=-1 for (…, C), 1 for (B, C, …)")
    own = {_channels_last, _channels_back}
    hooks = (norm._forward_pre_hooks, norm._forward_hooks, norm._backward_pre_hooks, norm._backward_hooks)
    if any(hook not in own for each in hooks for hook in each.values()):
        raise ValueError("it has hooks, which would be lost with it: remove them first, or leave it out by exclude")
    for name, child in norm.named_children():
        if not isinstance(child, (nn.Identity, *TORCH_NORMS)):  # timm's BatchNormAct2d holds its activation
            raise ValueError(f"it holds {name} ({type(child).__name__}), which would be lost with it")
    vectors = {name: parameter for name, parameter in norm.named_parameters(recurse=False) if parameter.dim() == 1}
    bias = next((vectors.pop(name) for name in ("bias", "beta", "b") if name in vectors), None)
    weight = next(iter(vectors.values())) if len(vectors) == 1 else None
    settings = _settings(norm)
    normalizes, offset = _normalizes(norm, weight, bias, channel_dim, settings.get("eps", 1e-5))
    return ForeignNorm(
        channels=_channels(norm, weight),
        batch_first=batch_first or channel_dim != -1,
        channel_dim=channel_dim,
        weight=weight,
        weight_offset=offset,
        bias=bias,
        affine=any(True for _ in norm.parameters()),
        normalizes=normalizes,
        settings=settings,
    )


def _channels(norm: nn.Module, weight: Tensor | None) -> int:
    for attribute in ("channels", "normalized_shape", "num_features", "num_channels"):
        size = getattr(norm, attribute, None)
        if isinstance(size, int):
            return size
        if isinstance(size, tuple | list):
            if len(size) != 1:
                raise ValueError(f"expected one dimension of channels, got {attribute} {tuple(size)}")
            return size[0]
    if weight is None or weight.numel() == 1:
        raise ValueError("it does not say how many channels it has; leave it out by names, exclude or classes")
    return weight.numel()


def _settings(norm: nn.Module) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    eps = getattr(norm, "eps", None) or getattr(norm, "variance_epsilon", None)
    if eps is None and isinstance(norm, nn.RMSNorm):
        # As F.rms_norm has it where none is given: that of the type that it computes in.
        dtype = torch.get_default_dtype() if norm.weight is None else norm.weight.dtype
        eps = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    if eps is not None:
        settings["eps"] = eps
    if isinstance(norm, _BatchNorm) and not norm.momentum:
        settings["alpha_fwd"] = None  # a mean of all batches, or none at all: no decay is like it
    elif (momentum := getattr(norm, "momentum", None)) is not None:
        settings["alpha_fwd"] = 1 - momentum
    return settings


def _normalizes(
    norm: nn.Module, weight: Tensor | None, bias: Tensor | None, channel_dim: int, eps: float
) -> tuple[Literal["token", "channel"] | None, float]:
    """``normalizes`` and ``weight_offset``. A class that is not known is a norm of tokens if it computes LayerNorm,
    centred or not, with these γ and β: it is asked, by tokens."""
    if isinstance(norm, TokenNorm):
        return norm.declaration.normalizes, 0.0
    if type(norm) in TORCH_NORMS:
        return "token" if channel_dim == -1 else "channel", 0.0
    if channel_dim != -1 or weight is None or weight.is_meta:
        return None, 0.0
    with torch.no_grad():
        shape = (2, 2, weight.numel())
        tokens = torch.linspace(1, 400, 4 * weight.numel(), dtype=torch.float64).sin().add(0.2).view(shape).to(weight)
        try:
            found = copy.deepcopy(norm).eval()(tokens)
        except (RuntimeError, TypeError, ValueError, IndexError):  # it takes something else than tokens
            return None, 0.0
        tolerance = 1e-3 if torch.finfo(weight.dtype).bits > 16 else 5e-2
        shift = 0 if bias is None else bias
        functions: tuple[Callable[..., Tensor], ...] = (F.layer_norm, F.rms_norm)
        for normalize, offset in itertools.product(functions, (0.0, 1.0)):
            expected = normalize(tokens, weight.shape, weight + offset, eps=eps) + shift
            if found.shape == expected.shape and torch.allclose(found, expected, tolerance, tolerance):
                return "token", offset
    return None, 0.0
