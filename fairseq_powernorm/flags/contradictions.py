"""Flags of norms that no model can follow together."""

import argparse
import os
from collections.abc import Collection

from ..norms.no_norm import NoNorm
from .values import FlagError


def refuse_contradictions(args: argparse.Namespace, stacks: Collection[str], norms: Collection[str]) -> None:
    """Looks at what flags of norms promise each other and fairseq's own.

    Args:
        args: the namespace, with the defaults of the norms' flags filled in.
        stacks: of the model, ``encoder`` and ``decoder``.
        norms: the names that the flags choose for any site.

    Raises:
        FlagError: two flags contradict each other; names both.
    """
    post = args.norm_position == "post"
    if args.norm_depth_scaling and post:
        raise FlagError("--norm-depth-scaling needs --norm-position pre or peri: it scales what goes into a block")
    if args.norm_depth_scaling and NoNorm.declaration.name in norms:
        raise FlagError("--norm-depth-scaling scales what norms give: no site may have none")
    for flag, site in (("no_decoder_final_norm", "output"), ("no_cross_attention", "cross_attn")):
        if getattr(args, flag, False) and getattr(args, f"decoder_norm_{site}", None):
            raise FlagError(f"--decoder-norm-{site.replace('_', '-')} contradicts --{flag.replace('_', '-')}")
    several = max(getattr(args, "distributed_world_size", 1), ranks_of_torchrun()) > 1
    for stack in stacks:
        if several and args.norm_sync and getattr(args, f"{stack}_layerdrop", 0):
            raise FlagError(
                f"--norm-sync contradicts --{stack}-layerdrop: a rank would wait for ranks that drop the layer"
            )
        if post and getattr(args, f"{stack}_normalize_before", False):
            raise FlagError(f"--norm-position post contradicts --{stack}-normalize-before")
        if post and getattr(args, f"{stack}_norm_output"):
            raise FlagError(f"--{stack}-norm-output needs --norm-position pre: post-norm stacks have no output norm")


def ranks_of_torchrun() -> int:
    """How many processes torchrun has started, 1 without it: fairseq hears of them after its flags are read."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1
