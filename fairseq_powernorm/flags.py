"""Every flag that the plugin adds to fairseq's command line, and how flags become norm specifications.

Flags are stored in checkpoints: they hold primitives only and are never renamed. (No ``from __future__ import
annotations`` here, and no ``X | None``: fairseq evaluates annotations of the files that declare its flags.)
"""

import argparse

from .registry import available_norms
from .spec import DECODER_SITES, ENCODER_SITES, NormSpec, StackSpec

SITE_HELP = {
    "self_attn": "the norm of self-attention",
    "cross_attn": "the norm of cross-attention",
    "ffn": "the norm of the feed-forward block",
    "output": "the stack's last norm (pre-norm only)",
}

DEFAULTS = {
    "norm_type": "power",
    "decoder_norm_type": "layer",
    **{f"encoder_norm_{site}": None for site in ENCODER_SITES},
    **{f"decoder_norm_{site}": None for site in DECODER_SITES},
    "norm_position": "pre",
    "norm_eps": 1e-5,
    "norm_alpha_fwd": 0.9,
    "norm_alpha_bwd": 0.9,
    "norm_warmup_updates": 0,
    "norm_group_scaling": "0",
    "norm_sync": False,
}

RELEASED_OUTPUT_WARMUP = 1000
"""Forward calls of warm-up that the release gives its output norms, whatever it is told for the others."""


class FlagError(ValueError, SystemExit):
    """A flag that contradicts another one. Caught or not, it is a ``ValueError``; a command that nobody guards ends
    with its one line and exit status 1 rather than with a traceback (Python treats ``SystemExit`` so)."""

    def __init__(self, message: str):
        super().__init__(message)
        self.code = f"fairseq_powernorm: error: {message}"


def epsilon(text: str) -> float:
    """Parses ``--norm-eps``: a number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def decay(text: str) -> float:
    """Parses ``--norm-alpha-fwd`` and ``--norm-alpha-bwd``: a number in [0, 1)."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a number in [0, 1), got {text}")
    return value


def whole_number(text: str) -> int:
    """Parses ``--norm-warmup-updates``: an integer, 0 or more."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text}")
    return value


def groups(text: str) -> str:
    """Parses ``--norm-group-scaling``: ``heads``, or an integer, 0 or more, kept as text."""
    if text != "heads" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number of groups or 'heads', got {text}")
    return text


def add_norm_flags(parser) -> None:
    """Declares the flags on an argparse parser or group. Defaults are left to :func:`fill_in_defaults`, which the
    architectures call."""
    names = available_norms()
    parser.add_argument(
        "--norm-type", choices=names, help="norm of the encoder's sites: self-attention, ffn, output (default: power)"
    )
    parser.add_argument("--decoder-norm-type", choices=names, help="norm of the decoder's sites (default: layer)")
    for stack, sites in (("encoder", ENCODER_SITES), ("decoder", DECODER_SITES)):
        for site in sites:
            parser.add_argument(
                f"--{stack}-norm-{site.replace('_', '-')}",
                choices=names,
                help=f"{SITE_HELP[site]} in the {stack}, over the stack's norm",
            )
    parser.add_argument(
        "--norm-position", choices=("pre", "post"), help="norm before or after each block (default: pre)"
    )
    parser.add_argument("--norm-eps", type=epsilon, metavar="EPS", help="ε under the root (default: 1e-5)")
    parser.add_argument(
        "--norm-alpha-fwd", type=decay, metavar="A", help="decay of the running ψ², μ and σ² (default: 0.9)"
    )
    parser.add_argument("--norm-alpha-bwd", type=decay, metavar="A", help="decay of ν of power (default: 0.9)")
    parser.add_argument(
        "--norm-warmup-updates",
        type=whole_number,
        metavar="N",
        help="power: normalise by the batch for the first N optimizer updates; power-released: forward calls "
        f"(its output norms take {RELEASED_OUTPUT_WARMUP}, as the release does) (default: 0)",
    )
    parser.add_argument(
        "--norm-group-scaling",
        type=groups,
        metavar="G",
        help="scale each token in G groups of channels before batch, pn-v or power; 'heads' for the number of "
        "attention heads (default: 0, none)",
    )
    parser.add_argument("--norm-sync", action="store_true", help="statistics over all ranks (not power-released)")


def fill_in_defaults(args) -> None:
    """Gives every flag that was not set its default, in place, and checks what flags promise each other.

    Args:
        args: the namespace of an architecture function, with the encoder's and decoder's sizes filled in.

    Raises:
        FlagError: the number of groups does not divide the channels, or another flag contradicts the norms' position.
    """
    for name, default in DEFAULTS.items():
        if getattr(args, name, None) is None:
            setattr(args, name, default)
    for stack in ("encoder", "decoder"):
        several = getattr(args, "distributed_world_size", 1) > 1
        if several and args.norm_sync and getattr(args, f"{stack}_layerdrop", 0):
            raise FlagError(
                f"--norm-sync contradicts --{stack}-layerdrop: a rank would wait for ranks that drop the layer"
            )
        if args.norm_position == "post" and getattr(args, f"{stack}_normalize_before", False):
            raise FlagError(f"--norm-position post contradicts --{stack}-normalize-before")
        if args.norm_position == "post" and getattr(args, f"{stack}_norm_output"):
            raise FlagError(f"--{stack}-norm-output needs --norm-position pre: post-norm stacks have no output norm")
        setattr(args, f"{stack}_normalize_before", args.norm_position == "pre")
        channels, number = getattr(args, f"{stack}_embed_dim"), group_count(args, stack)
        if number and channels % number:
            raise FlagError(
                f"--norm-group-scaling {args.norm_group_scaling}: {number} groups do not divide "
                f"the {stack}'s {channels} channels"
            )


def group_count(args, stack: str) -> int:
    """The groups of ``--norm-group-scaling`` in a stack, ``encoder`` or ``decoder``."""
    text = args.norm_group_scaling
    return getattr(args, f"{stack}_attention_heads") if text == "heads" else int(text)


def site_spec(args, stack: str, site: str) -> NormSpec:
    """The norm that the flags choose for one site of one stack."""
    stack_norm = args.norm_type if stack == "encoder" else args.decoder_norm_type
    name = getattr(args, f"{stack}_norm_{site}") or stack_norm
    released_output = name == "power-released" and site == "output"
    return NormSpec(
        name=name,
        eps=args.norm_eps,
        alpha_fwd=args.norm_alpha_fwd,
        alpha_bwd=args.norm_alpha_bwd,
        warmup_updates=RELEASED_OUTPUT_WARMUP if released_output else args.norm_warmup_updates,
        group_scaling=group_count(args, stack),
        sync=args.norm_sync,
    )


def stack_spec(args, stack: str) -> StackSpec:
    """The norms of ``encoder`` or ``decoder`` by the flags.

    Args:
        args: an argparse namespace or fairseq's TransformerConfig made from one, after :func:`fill_in_defaults`.
        stack: ``encoder`` or ``decoder``.
    """
    sites = ENCODER_SITES if stack == "encoder" else DECODER_SITES
    return StackSpec(**{site: site_spec(args, stack, site) for site in sites})
