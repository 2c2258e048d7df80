"""The one dictionary from names to norms."""

import dataclasses
import inspect
from typing import Any

from .batch_norm import BatchNorm
from .declaration import Declaration, Setting
from .dynamic import DynamicErf, DynamicTanh
from .folded import FoldedNorm
from .group_norm import GroupNorm
from .layer_norm import LayerNorm
from .no_norm import NoNorm
from .pn_v import PNV
from .power_norm import PowerNorm
from .power_norm_released import PowerNormReleased
from .regularized_batch_norm import RegularizedBatchNorm
from .rep_batch_norm import ProgressiveRepBatchNorm, RepBatchNorm
from .rms_norm import RMSNorm
from .scale_norm import ScaleNorm
from .spec import NormSpec, StackSpec
from .token_norm import ModuleOptions, TokenNorm
from .unified_norm import UnifiedNorm, UnifiedNormReleased

NORMS: dict[str, type[TokenNorm]] = {
    norm.declaration.name: norm
    for norm in (
        LayerNorm,
        RMSNorm,
        ScaleNorm,
        GroupNorm,
        DynamicTanh,
        DynamicErf,
        BatchNorm,
        RegularizedBatchNorm,
        RepBatchNorm,
        ProgressiveRepBatchNorm,
        PNV,
        UnifiedNorm,
        UnifiedNormReleased,
        PowerNorm,
        PowerNormReleased,
        NoNorm,
    )
}
"""Every norm by its name, in the order of tables and charts."""

FOLDED = "folded"
"""In a checkpoint's flags: a site whose norm was folded into the linear layer after it. Not to be chosen."""


def available_norms() -> tuple[str, ...]:
    """The names that :func:`build_norm` and every ``--…norm…`` flag know."""
    return tuple(NORMS)


def norms_with(setting: str) -> tuple[str, ...]:
    """The names of the norms that take a setting, ``group_scaling`` for example."""
    return tuple(name for name in NORMS if setting in settings_of(name))


def declarations() -> dict[str, Declaration]:
    """What every norm declares, by its name, in the order of tables and charts."""
    return {name: norm.declaration for name, norm in NORMS.items()}


def settings_of(name: str) -> tuple[str, ...]:
    """The keywords that a norm takes besides its channels and :class:`ModuleOptions`, in the order of its constructor.

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    if name not in NORMS:
        raise ValueError(f"unknown norm {name!r}; known norms: {', '.join(NORMS)}")
    parameters = list(inspect.signature(NORMS[name]).parameters.values())[1:]
    return tuple(parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD)


@dataclasses.dataclass(frozen=True)
class OwnFlag:
    """The flag of a setting that one norm alone has, or a norm and its ``-released`` variant.

    Attributes:
        keyword: of the norm's constructor.
        setting: what it may be.
        default: the constructor's.
        norms: the names of the norms that take it.
    """

    keyword: str
    setting: Setting
    default: float | int | bool | str
    norms: tuple[str, ...]


def flag_of(norm: str, keyword: str) -> str:
    """The flag of a norm's own setting, as an attribute of a namespace."""
    return f"norm_{norm.removesuffix('-released')}_{keyword}".replace("-", "_")


def own_flags() -> dict[str, OwnFlag]:
    """The flags of all settings that one norm alone has, norm by norm."""
    flags: dict[str, OwnFlag] = {}
    for name, norm in NORMS.items():
        for keyword, setting in norm.own_settings.items():
            flag, default = flag_of(name, keyword), inspect.signature(norm).parameters[keyword].default
            others = flags[flag].norms if flag in flags else ()
            flags[flag] = OwnFlag(keyword, setting, default, (*others, name))
    return flags


def build_norm(name: str, channels: int, **settings: Any) -> TokenNorm:
    """Builds a norm by name.

    Args:
        name: one of :func:`available_norms`.
        channels: C, the size of the last dimension of what it will normalise.
        **settings: of ``eps``, ``alpha_fwd``, ``alpha_bwd``, ``warmup_updates``, ``group_scaling`` and ``sync`` those
            that the norm takes (:class:`~fairseq_powernorm.norms.spec.NormSpec` says what they mean), those that it
            alone has, and ``elementwise_affine``, ``bias``, ``device`` and ``dtype`` as in torch's norms.

    Returns:
        A module: ``norm(x, padding_mask)`` with x (T, B, C) and padding_mask (B, T), True at padding, or None; or x
        as rows (N, C).

    Raises:
        ValueError: unknown name, a keyword that the norm has no use for, or a value outside its range.
    """
    taken = settings_of(name)
    unknown = [keyword for keyword in settings if keyword not in (*taken, *ModuleOptions.__annotations__)]
    if unknown:
        raise ValueError(f"norm {name!r} takes {', '.join(taken) or 'no settings'}; got {', '.join(unknown)}")
    return NORMS[name](channels, **settings)


def build_from_spec(spec: NormSpec, channels: int, **options: Any) -> TokenNorm | FoldedNorm:
    """Builds the norm of one site of a model from its flags; settings that it has no use for are left out.

    Args:
        spec: the name and all settings.
        channels: C of the site.
        **options: ``device`` and ``dtype``.

    Raises:
        ValueError: unknown name or a value outside its range.
    """
    if spec.name == FOLDED:
        return FoldedNorm()
    taken = settings_of(spec.name)
    settings = {key: value for key, value in spec.settings().items() if key in taken}
    return build_norm(spec.name, channels, **settings, **options)


def describe_stack(stack: StackSpec) -> str:
    """The norms of a stack in words for a log: each with its sites, its per-token scaling and its warm-up."""
    sites: dict[str, list[str]] = {}
    for site, spec in vars(stack).items():
        if spec is not None:
            sites.setdefault(_describe(spec), []).append(site.replace("_", "-"))
    return "; ".join(f"{norm} ({', '.join(names)})" for norm, names in sites.items())


def _describe(spec: NormSpec) -> str:
    words, taken = spec.name, () if spec.name == FOLDED else settings_of(spec.name)
    if "group_scaling" in taken and spec.group_scaling:
        words += f" after scaling each token in {spec.group_scaling} group{'s' if spec.group_scaling > 1 else ''}"
    if "warmup_updates" in taken and (warmup := spec.settings()["warmup_updates"]):
        words += f" with a warm-up of {warmup} {'forward calls' if spec.name.endswith('-released') else 'updates'}"
    own = {keyword.replace("_", " "): value for keyword, value in spec.own.items() if keyword != "warmup_updates"}
    return words + "".join(f", {keyword} {value}" for keyword, value in own.items())


def markdown_table() -> str:
    """The table of norms; that of docs/norms.md is compared with it."""
    lines = ["| name | training, forward | training, backward | evaluation |", "|---|---|---|---|"]
    for name, declared in declarations().items():
        lines.append(f"| `{name}` | {declared.training} | {declared.gradient} | {declared.evaluation} |")
    return "\n".join(lines) + "\n"
