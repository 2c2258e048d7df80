"""The flags of initializations, and what goes together with what."""

import logging

from torch import nn

from ..initialization.models import initialize
from ..initialization.schemes import FAIRSEQ, SCHEMES, available_schemes
from ..norms.no_norm import NoNorm
from .norms import LANGUAGE_MODEL_SITES, SITES, is_language_model, name_of, stacks_of
from .values import FlagError

logger = logging.getLogger(__name__)

INIT_DEFAULTS = {"init_scheme": FAIRSEQ, "init_omega": "constant"}
"""What a namespace that lacks a flag means, an older checkpoint's for example."""

NO_NORM = NoNorm.declaration.name
FURTHER_NORMS = ("layernorm_embedding", "scale_attn", "scale_fc")
"""Flags of fairseq's that put a LayerNorm elsewhere than at the sites of ours."""


def add_init_flags(parser) -> None:
    """Declares the flags on an argparse parser or group; defaults are left to :func:`fill_in_init_defaults`."""
    parser.add_argument(
        "--init-scheme",
        choices=available_schemes(),
        help="how attention and feed-forward blocks start, and their residual connections (default: fairseq, as "
        "fairseq has them)",
    )
    parser.add_argument(
        "--init-omega",
        choices=("constant", "trainable"),
        help="ω of --init-scheme admin: one number, or a vector for each residual branch (default: constant)",
    )


def fill_in_init_defaults(args) -> None:
    """Gives the flags that were not set their defaults, in place, and checks that scheme and norms go together.

    Args:
        args: the namespace of an architecture function, after :func:`~fairseq_powernorm.flags.fill_in_defaults`.

    Raises:
        FlagError: they do not; the message says what to write.
    """
    for name, default in INIT_DEFAULTS.items():
        if getattr(args, name, None) is None:
            setattr(args, name, default)
    scheme, chosen = SCHEMES[args.init_scheme], f"--init-scheme {args.init_scheme}"
    if scheme.norms == "none":
        _check_without_norms(args)
    elif scheme.norms == "post":
        if args.norm_position != "post":
            raise FlagError(f"{chosen} is for post-norm models: give --norm-position post")
        if without := [flag for flag, name in _norms(args).items() if name == NO_NORM]:
            raise FlagError(f"{chosen} is for models with norms: give {without[0]} another one than none")
    if scheme.shifts and args.norm_position != "pre":
        raise FlagError(f"{chosen} has its shifts where pre-norm has its norms: give --norm-position pre")


def _norms(args) -> dict[str, str]:
    """The norms of a model by the flag that decides about each."""
    norms, alone = {}, is_language_model(args)
    for stack in stacks_of(args):
        for site in LANGUAGE_MODEL_SITES if alone else SITES[stack]:
            name = name_of(args, stack, site)
            if name is None or (site == "output" and args.norm_position == "post"):
                continue
            own = getattr(args, f"{stack}_norm_{site}")
            of_stack = "--norm-type" if alone or stack == "encoder" else "--decoder-norm-type"
            norms[f"--{stack}-norm-{site.replace('_', '-')}" if own else of_stack] = name
    return norms


def _check_without_norms(args) -> None:
    """Raises ``FlagError`` if a site has a norm."""
    others = {flag: name for flag, name in _norms(args).items() if name != NO_NORM}
    further = [f"--{name.replace('_', '-')}" for name in FURTHER_NORMS if getattr(args, name, False)]
    give = [f"{flag} none" for flag in others if flag.endswith("norm-type")]
    leave = [flag for flag in others if not flag.endswith("norm-type")] + further
    advice = [*([f"give {' '.join(give)}"] if give else []), *([f"leave out {' '.join(leave)}"] if leave else [])]
    if advice:
        raise FlagError(f"--init-scheme {args.init_scheme} is for a model without norms: {' and '.join(advice)}")


def init_of(flags) -> dict[str, str]:
    """All that the flags of initializations decide about a model: the scheme, and for ``admin`` what ω is."""
    scheme = getattr(flags, "init_scheme", None) or INIT_DEFAULTS["init_scheme"]
    omega = getattr(flags, "init_omega", None) or INIT_DEFAULTS["init_omega"]
    return {"scheme": scheme, **({"omega": omega} if scheme == "admin" else {})}


def initialize_by_flags(model: nn.Module, flags) -> None:
    """Carries out what the flags say on a model that was just built, and logs it."""
    init = init_of(flags)
    logger.info("initialization: %s", ", ".join(init.values()))
    initialize(model, SCHEMES[init["scheme"]], init.get("omega") == "trainable")
