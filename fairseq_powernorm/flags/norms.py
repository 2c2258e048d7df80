"""The flags of norms, and how they become norm specifications."""

import argparse
from typing import Any

from ..norms.registry import (
    FOLDED,
    NORMS,
    available_norms,
    build_from_spec,
    declarations,
    norms_with,
    settings_of,
)
from ..norms.spec import DECODER_SITES, ENCODER_SITES, NormSpec, StackSpec
from .contradictions import refuse_contradictions
from .own import OWN_FLAGS, add_own_flags, own_values, resolve_own_flags
from .values import AUTO, FlagError, decay, epsilon, groups, interval, updates

SITE_HELP = {
    "self_attn": "the norm of self-attention",
    "cross_attn": "the norm of cross-attention",
    "ffn": "the norm of the feed-forward block",
    "output": "the stack's last norm (pre-norm and Peri-LN only)",
    "ffn_inner": "a norm between the feed-forward block's first linear layer and its activation",
}
SITES = {"encoder": ENCODER_SITES, "decoder": DECODER_SITES}
SHARED_SETTINGS = ("eps", "alpha_fwd", "alpha_bwd", "group_scaling", "sync")

DEFAULTS = {
    "norm_type": "power",
    "decoder_norm_type": "layer",
    **{f"encoder_norm_{site}": None for site in ENCODER_SITES},
    **{f"decoder_norm_{site}": None for site in DECODER_SITES},
    "norm_position": "pre",
    "norm_depth_scaling": False,
    "norm_eps": 1e-5,
    "norm_alpha_fwd": 0.9,
    "norm_alpha_bwd": 0.9,
    "norm_warmup_updates": 0,
    "norm_group_scaling": "0",
    "norm_sync": False,
    "norm_record": None,
    "norm_record_interval": 10,
    **{flag: own.default for flag, own in OWN_FLAGS.items()},
}
"""What a namespace that lacks a flag means. Of a checkpoint that knows nothing of the per-token scaling that is none;
the command line's own default of some flags is :data:`AUTO`, or ``heads``."""

OF_THE_TRAINING = ("norm_sync", "norm_record", "norm_record_interval")
"""Flags that no model differs by: fine-tuning does not take them from its checkpoint."""

LANGUAGE_MODEL_SITES = tuple(site for site in DECODER_SITES if site != "cross_attn")

RELEASED_OUTPUT_WARMUP = 1000
"""Forward calls of warm-up that the release gives its output norms, whatever it is told for the others."""


def stacks_of(args) -> tuple[str, ...]:
    """The stacks of a model by its flags, in a namespace: a language model is a decoder alone."""
    return tuple(stack for stack in SITES if getattr(args, f"{stack}_embed_dim", None) is not None)


def is_language_model(args) -> bool:
    """Whether flags are those of a language model, whose one stack goes by ``--norm-type``."""
    return stacks_of(args) == ("decoder",)


def add_norm_flags(parser, language_model: bool = False) -> None:
    """Declares the flags on an argparse parser or group. Defaults are left to :func:`fill_in_defaults`, which the
    architectures call, but for :data:`AUTO`, which is a command line's alone.

    Args:
        parser: the parser or group.
        language_model: for a model of one stack, without an encoder and cross-attention.
    """
    names, stack = available_norms(), "decoder" if language_model else "encoder"
    parser.add_argument(
        "--norm-type", choices=names, help=f"norm of the {stack}'s sites: self-attention, ffn, output (default: power)"
    )
    hidden = argparse.SUPPRESS if language_model else None  # fill_in_defaults says what to give instead
    parser.add_argument(
        "--decoder-norm-type", choices=names, help=hidden or "norm of the decoder's sites (default: layer)"
    )
    sites_by_stack = {"decoder": LANGUAGE_MODEL_SITES} if language_model else SITES
    for stack, sites in sites_by_stack.items():
        for site in sites:
            over = "none unless given" if site == "ffn_inner" else "over the stack's norm"
            parser.add_argument(
                f"--{stack}-norm-{site.replace('_', '-')}",
                choices=names,
                help=f"{SITE_HELP[site]} in the {stack}, {over}",
            )
    parser.add_argument(
        "--norm-position",
        choices=("pre", "post", "peri"),
        help="norm before each block, after its residual sum, or before each block and once more on its output before "
        "the sum (Peri-LN) (default: pre)",
    )
    parser.add_argument(
        "--norm-depth-scaling",
        action="store_true",
        help="LayerNorm Scaling: the norms in front of the blocks of layer l, counted from 1, times 1/√l",
    )
    parser.add_argument("--norm-eps", type=epsilon, metavar="EPS", help="ε under the root (default: 1e-5)")
    parser.add_argument(
        "--norm-alpha-fwd", type=decay, metavar="A", help="decay of the running ψ², μ and σ² (default: 0.9)"
    )
    parser.add_argument("--norm-alpha-bwd", type=decay, metavar="A", help="decay of ν of power (default: 0.9)")
    parser.add_argument(
        "--norm-warmup-updates",
        type=updates,
        default=AUTO,
        metavar="N",
        help="power: normalise by the batch for the first N optimizer updates; power-released: forward calls (its "
        f"output norms take {RELEASED_OUTPUT_WARMUP}, as the release does); 0: from the start as in Algorithm 2 "
        "(default: auto, as long as the learning rate's --warmup-updates, as in the paper's experiments)",
    )
    parser.add_argument(
        "--norm-group-scaling",
        type=groups,
        default=AUTO,
        metavar="G",
        help=f"scale each token in G groups of channels before the norm ({', '.join(norms_with('group_scaling'))}); "
        "'heads': as many groups as attention heads; 0: none, the bare definition of the norm (default: auto, as every "
        f"BN, PN-V and PN of the paper's Table 1 had it: {_describe_auto()})",
    )
    parser.add_argument(
        "--norm-sync", action="store_true", help=f"statistics over all ranks ({', '.join(norms_with('sync'))})"
    )
    add_own_flags(parser)
    parser.add_argument(
        "--norm-record",
        metavar="DIR",
        help="in training: write down what every norm of the model sees, into DIR; changes nothing of the training",
    )
    parser.add_argument("--norm-record-interval", type=interval, metavar="N", help="every N updates (default: 10)")


def _describe_auto() -> str:
    """The rule of ``--norm-group-scaling auto``: ``heads for a and b, 1 for c``."""
    names: dict[str, list[str]] = {}
    for name in norms_with("group_scaling"):
        names.setdefault(declarations()[name].auto_group_scaling, []).append(name)
    return ", ".join(f"{groups} for {' and '.join(having)}" for groups, having in names.items())


def fill_in_defaults(args) -> None:
    """Gives every flag that was not set its default, in place, and checks what flags promise each other.

    Args:
        args: the namespace of an architecture function, with the encoder's and decoder's sizes filled in.

    Raises:
        FlagError: the number of groups does not divide the channels, or another flag contradicts the norms' position.
    """
    if is_language_model(args):
        _follow_norm_type(args)
    for name, default in DEFAULTS.items():
        if getattr(args, name, None) is None:
            setattr(args, name, default)
    if args.norm_warmup_updates == AUTO:
        args.norm_warmup_updates = resolve_warmup(args)
    resolve_own_flags(args, chosen_norms(args))
    refuse_contradictions(args, stacks_of(args), chosen_norms(args))
    for stack in stacks_of(args):
        setattr(args, f"{stack}_normalize_before", args.norm_position != "post")
        for site, spec in vars(stack_spec(args, stack)).items():
            if spec is None:
                continue
            channels, number = channels_of(args, stack, site), spec.group_scaling
            if number and channels % number:
                raise FlagError(
                    f"--norm-group-scaling {args.norm_group_scaling}: {number} groups do not divide "
                    f"the {stack}'s {channels} channels"
                )
            try:
                build_from_spec(spec, channels, device="meta")
            except ValueError as error:
                raise FlagError(f"{spec.name} of the {stack}'s {site.replace('_', '-')}: {error}") from None


def chosen_norms(args) -> set[str]:
    """The names of the norms that the flags choose for any site."""
    sites = ((stack, site) for stack in stacks_of(args) for site in SITES[stack])
    unbuilt = ("output",) if args.norm_position == "post" else ()
    names = (name_of(args, *each) for each in sites if each[1] not in unbuilt)
    return {name for name in names if name is not None}


def unused_flags(args) -> list[str]:
    """The flags that were given a value and that no norm of the model uses. (Of ``--norm-warmup-updates``, which is
    ``auto`` as a number by now, nobody knows who gave it.)"""
    users = {f"norm_{setting}": norms_with(setting) for setting in SHARED_SETTINGS}
    users |= {flag: own.norms for flag, own in OWN_FLAGS.items()}
    words = {"norm_group_scaling": AUTO} | {flag: own.setting.word for flag, own in OWN_FLAGS.items()}
    values = {flag: getattr(args, flag, DEFAULTS[flag]) for flag in users}  # older checkpoints lack some
    given = [flag for flag, value in values.items() if value not in (DEFAULTS[flag], words.get(flag))]
    return [f"--{flag.replace('_', '-')}" for flag in given if not chosen_norms(args) & set(users[flag])]


def _follow_norm_type(args) -> None:
    """Gives a language model's one stack, a decoder to fairseq, the norm of ``--norm-type``.

    Raises:
        FlagError: ``--decoder-norm-type`` says another one.
    """
    chosen = getattr(args, "norm_type", None) or DEFAULTS["norm_type"]
    if getattr(args, "decoder_norm_type", None) not in (None, chosen):
        raise FlagError(
            f"--decoder-norm-type {args.decoder_norm_type}: a language model has one stack, choose its norm by "
            "--norm-type"
        )
    args.decoder_norm_type = chosen


def resolve_warmup(args) -> int:
    """``--norm-warmup-updates auto`` as a number: the learning rate's warm-up, 0 where the schedule has none.

    ``power-released`` counts forward calls, of which ``--update-freq`` make an update; its output norms do not ask.

    Raises:
        FlagError: ``power`` and ``power-released`` would need different numbers, or there is no one ``--update-freq``.
    """
    warmup = getattr(args, "warmup_updates", None) or 0
    sites = [(stack, site) for stack in stacks_of(args) for site in SITES[stack]]
    names = {name_of(args, *site) for site in sites}
    released = any(name_of(args, *site) == "power-released" for site in sites if site[1] != "output")
    frequencies = getattr(args, "update_freq", None) or [1]
    passes = {int(number) for number in (frequencies if isinstance(frequencies, list) else [frequencies])}
    if not (warmup and released) or passes == {1}:
        return warmup
    if len(passes) > 1:
        raise FlagError(
            f"--norm-warmup-updates auto: --update-freq changes ({', '.join(map(str, sorted(passes)))}) and "
            "power-released counts forward calls; give their number"
        )
    if "power" in names:
        raise FlagError(
            f"--norm-warmup-updates auto: power needs {warmup} updates and power-released {warmup * max(passes)} "
            "forward calls; give one number for both"
        )
    return warmup * max(passes)


def name_of(args, stack: str, site: str) -> str | None:
    """The name of the norm that the flags choose for one site of one stack; None where there is to be none."""
    stack_norm = args.norm_type if stack == "encoder" else args.decoder_norm_type
    return getattr(args, f"{stack}_norm_{site}", None) or (None if site == "ffn_inner" else stack_norm)


def channels_of(args, stack: str, site: str) -> int:
    """The channels that the norm of a site has."""
    return getattr(args, f"{stack}_ffn_embed_dim" if site == "ffn_inner" else f"{stack}_embed_dim")


def group_count(args, stack: str, name: str) -> int:
    """The groups that ``--norm-group-scaling`` gives the norm ``name`` in a stack; 0 for norms of single tokens."""
    if name == FOLDED or "group_scaling" not in settings_of(name):
        return 0
    text = getattr(args, "norm_group_scaling", DEFAULTS["norm_group_scaling"])
    text = NORMS[name].declaration.auto_group_scaling if text == AUTO else str(text)
    return getattr(args, f"{stack}_attention_heads") if text == "heads" else int(text)


def site_spec(args, stack: str, site: str) -> NormSpec | None:
    """The norm that the flags choose for one site of one stack; None where there is to be none."""
    name = name_of(args, stack, site)
    if name is None:
        return None
    released_output = name == "power-released" and site == "output"
    return NormSpec(
        name=name,
        eps=args.norm_eps,
        alpha_fwd=args.norm_alpha_fwd,
        alpha_bwd=args.norm_alpha_bwd,
        warmup_updates=RELEASED_OUTPUT_WARMUP if released_output else args.norm_warmup_updates,
        group_scaling=group_count(args, stack, name),
        sync=args.norm_sync,
        own=own_values(args, stack, name),
    )


def stack_spec(args, stack: str) -> StackSpec:
    """The norms of ``encoder`` or ``decoder`` by the flags.

    Args:
        args: an argparse namespace or fairseq's TransformerConfig made from one, after :func:`fill_in_defaults`.
        stack: ``encoder`` or ``decoder``.
    """
    left_out = ("cross_attn",) if getattr(args, "no_cross_attention", False) else ()
    specs: dict[str, Any] = {site: site_spec(args, stack, site) for site in SITES[stack] if site not in left_out}
    return StackSpec(**specs)
