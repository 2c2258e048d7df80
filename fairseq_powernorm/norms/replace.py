"""Putting norms of this package into any torch model, in place of its own."""

import dataclasses
import fnmatch
import itertools
import logging
import warnings
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .foreign import ForeignNorm, describe
from .registry import NORMS, build_norm, settings_of
from .token_norm import TokenNorm

logger = logging.getLogger(__name__)

DEFAULT_CLASSES = (nn.LayerNorm, nn.RMSNorm, nn.BatchNorm1d, nn.BatchNorm2d)

CAUSAL_SIGNS = ("is_causal", "causal", "is_decoder")
"""Attributes that are True in modules where no position may see later ones: of transformers, x-transformers, timm."""


def replace_norms(
    model: nn.Module,
    name: str,
    *,
    batch_first: bool,
    names: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] = (),
    classes: type[nn.Module] | Iterable[type[nn.Module]] = DEFAULT_CLASSES,
    channel_dim: int | None = None,
    **settings: Any,
) -> nn.Module:
    """Puts the norm ``name`` in place of a model's own, in place, as ``nn.SyncBatchNorm.convert_sync_batchnorm`` does::

        replace_norms(model, "power", batch_first=True, names="encoder.*", warmup_updates=4000)

    Call it before the model is compiled, wrapped (DistributedDataParallel) or handed to an optimizer. The new norm has
    the path of the old one, so ``load_state_dict`` finds what a model that was treated alike has saved.

    γ and β are kept, as the very Parameters, where they mean the same: from one norm of single tokens to another, if
    the old one computes γ ⊙ (x normalised over its channels) + β, and from torch's BatchNorm to ``batch``, with its
    statistics and momentum; ε goes with them. (Where a class keeps γ − 1, as Gemma's does, γ is a new Parameter.)
    Everywhere else they start at 1 and 0. The log says which. A norm without γ, or a LayerNorm without β, gets none.
    A SyncBatchNorm gets a norm with ``sync``.

    ``torch.nn.TransformerEncoderLayer`` computes LayerNorm by itself in evaluation (its fast path), from
    ``norm1.weight`` and without calling the norm: that is switched off in layers whose norms were replaced.

    Args:
        model: whose norms are meant; one that has the norms of this package already can be given others.
        name: one of :func:`fairseq_powernorm.available_norms`.
        batch_first: whether activations are (B, T, C) rather than (T, B, C). Padding masks, which are (B, T), are
            matched to them by it. (torch's BatchNorms take the batch first by definition.)
        names: patterns, in which ``*`` stands for anything, of the paths of the norms that are meant (those of
            ``model.named_modules()``); all if left out. Each has to match.
        exclude: patterns of those that are not.
        classes: whose instances are meant. A subclass counts only where it is named itself, as it may compute something
            else.
        channel_dim: where the classes that are not torch's own have their channels: -1 for (…, C), 1 for (B, C, …).
        **settings: of the norm, as for :func:`~fairseq_powernorm.norms.registry.build_norm`.

    Returns:
        The model, or the new norm where the model is a norm itself.

    Raises:
        ValueError: unknown name or setting; nothing matches (the message lists the norms that there are); a norm that
            has no single dimension of channels, or whose layout was not given. The model is as it was then.

    Warns:
        UserWarning: statistics of the batch in a causal model.
    """
    settings_of(name)  # raises for an unknown name
    classes = (classes,) if isinstance(classes, type) else tuple(classes)
    found = _find(model, _patterns(names), _patterns(exclude) or (), classes)
    outcomes: dict[int, _Outcome] = {}  # by the old norm's id, as one norm may stand in several places
    for path, norm in found.items():
        if id(norm) not in outcomes:
            try:
                outcomes[id(norm)] = _replacement(norm, name, batch_first, channel_dim, settings, model)
            except ValueError as error:
                raise ValueError(f"{path or 'the model'} ({type(norm).__name__}): {error}") from error
    if NORMS[name].statistics:
        _warn_if_causal(model, found)
    for path, norm in found.items():
        if not path:
            model = outcomes[id(norm)].norm
        else:
            model.set_submodule(path, outcomes[id(norm)].norm)
    _leave_fast_path(model, {id(outcome.norm) for outcome in outcomes.values()})
    _log(name, found, outcomes)
    return model


@dataclasses.dataclass
class _Outcome:
    """What a norm became, and what became of its parameters, in words."""

    norm: TokenNorm
    parameters: str


def _patterns(patterns: str | Iterable[str] | None) -> tuple[str, ...] | None:
    return (patterns,) if isinstance(patterns, str) else None if patterns is None else tuple(patterns)


def _find(
    model: nn.Module, names: Collection[str] | None, exclude: Collection[str], classes: tuple[type[nn.Module], ...]
) -> dict[str, nn.Module]:
    """The norms that are meant, by path; not those within one of them.

    Raises:
        ValueError: there are none, or a pattern has no match.
    """
    unmatched = set(names or ())
    found: dict[str, nn.Module] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if type(module) not in classes or any(_is_below(path, outer) for outer in found):
            continue
        matching = [pattern for pattern in names or () if fnmatch.fnmatchcase(path, pattern)]
        unmatched.difference_update(matching)
        if (names is None or matching) and not any(fnmatch.fnmatchcase(path, pattern) for pattern in exclude):
            found[path] = module
    if unmatched or not found:
        wanted = " or ".join(cls.__name__ for cls in classes)
        where = f" with a name like {', '.join(sorted(unmatched))}" if unmatched else ""
        without = f" and not like {', '.join(exclude)}" if exclude else ""
        raise ValueError(f"no {wanted}{where}{without} in the model; its norms are {_list_norms(model)}")
    return found


def _list_norms(model: nn.Module) -> str:
    """Every class with "norm" in its name, with how many there are and where."""
    paths: dict[str, list[str]] = {}
    for path, module in model.named_modules():
        cls = type(module)
        if "norm" in cls.__name__.lower():
            paths.setdefault(f"{cls.__module__}.{cls.__qualname__}", []).append(path or "the model itself")
    listed = (f"{len(found)} {cls} ({', '.join(found[:3])}{', …' * (len(found) > 3)})" for cls, found in paths.items())
    return "; ".join(listed) or "none: no class has norm in its name"


def _replacement(
    old: nn.Module, name: str, batch_first: bool, channel_dim: int | None, settings: dict[str, Any], model: nn.Module
) -> _Outcome:
    """Builds the new norm of one place.

    Raises:
        ValueError: channels or layout are not known, or a setting is wrong.
    """
    known = describe(old, batch_first, channel_dim)
    options: dict[str, Any] = {"batch_first": known.batch_first, "channel_dim": known.channel_dim}
    tensors = itertools.chain(old.parameters(), old.buffers(), model.parameters())
    if (like := next(filter(torch.is_floating_point, tensors), None)) is not None:
        options |= {"device": like.device, "dtype": like.dtype}
    if not known.affine:
        options["elementwise_affine"] = False
    elif isinstance(old, nn.LayerNorm) and known.bias is None and NORMS[name].has_bias:
        options["bias"] = False
    if isinstance(old, nn.SyncBatchNorm) and "sync" in settings_of(name):
        options["sync"] = True
    kept = known.normalizes is not None and known.normalizes == NORMS[name].declaration.normalizes
    if kept:
        options |= {key: value for key, value in known.settings.items() if key in settings_of(name)}
    options |= settings
    if kept and NORMS[name].statistics and isinstance(old, _BatchNorm) and old.running_mean is None:
        raise ValueError("it keeps no running statistics (track_running_stats=False), which evaluation would use here")
    if options.get("alpha_fwd", 0.9) is None:
        raise ValueError("its momentum is None or 0, which is no decay of running statistics: say alpha_fwd")
    new = build_norm(name, known.channels, **options)
    new.train(old.training)
    return _Outcome(new, _keep(old, new, known) if kept else "γ and β start anew" if known.affine else "no γ and β")


@torch.no_grad()
def _keep(old: nn.Module, new: TokenNorm, known: ForeignNorm) -> str:
    """Gives the new norm the old one's γ, β and statistics, as far as both have them; says so."""
    kept = []
    for name, symbol, offset in (("weight", "γ", known.weight_offset), ("bias", "β", 0.0)):
        parameter = getattr(known, name)
        if parameter is not None and getattr(new, name) is not None:
            if offset:
                getattr(new, name).copy_(parameter + offset).requires_grad_(parameter.requires_grad)
            else:
                setattr(new, name, parameter)
            kept.append(symbol)
    for name in new.running_statistics:
        if (value := getattr(old, name, None)) is not None:
            getattr(new, name).copy_(value)
            kept.append(name)
    return f"{', '.join(kept)} kept" if kept else "nothing to keep"


def _warn_if_causal(model: nn.Module, found: dict[str, nn.Module]) -> None:
    """Warns if a norm stands beside a module that says that no position may see later ones."""
    causal = [path for path, module in model.named_modules() if _is_causal(module)]
    for path in found:
        block = path.rpartition(".")[0]
        sign = next((other for other in causal if _is_below(other, block) or _is_below(path, other)), None)
        if sign is not None:
            warnings.warn(
                f"{path} is part of a causal model (by {sign or type(model).__name__}), and the statistics of a batch "
                "are taken over all its positions, later ones included. A training pass that divides by the statistics "
                "of its own batch so tells each position something of those that it has to predict: its loss may look "
                "better than that of evaluation, which uses running statistics and has no such leak",
                UserWarning,
                stacklevel=3,
            )
            return


def _is_below(path: str, above: str) -> bool:
    """Whether the module at ``path`` is the one at ``above`` or in it."""
    return not above or path == above or path.startswith(f"{above}.")


def _is_causal(module: nn.Module) -> bool:
    return isinstance(module, (nn.TransformerDecoder, nn.TransformerDecoderLayer)) or any(
        getattr(module, sign, None) is True for sign in CAUSAL_SIGNS
    )


def _leave_fast_path(model: nn.Module, new: set[int]) -> None:
    """Has torch's encoder layers call their norms in evaluation too."""
    for module in model.modules():
        if not any(id(below) in new for below in module.modules()):
            continue
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # "another activation": the one condition that nothing else reads
        elif isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # which only layers on the fast path can take


def _log(name: str, found: dict[str, nn.Module], outcomes: dict[int, _Outcome]) -> None:
    """One line for all norms of a class that fared alike."""
    lines: dict[tuple[str, str], list[str]] = {}
    for path, norm in found.items():
        lines.setdefault((type(norm).__name__, outcomes[id(norm)].parameters), []).append(path or "the model")
    for (cls, parameters), paths in lines.items():
        logger.info("%s instead of %s, %s: %s", name, cls, parameters, ", ".join(paths))
