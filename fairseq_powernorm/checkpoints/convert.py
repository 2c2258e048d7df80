"""Converting a checkpoint of the authors' release or of stock fairseq into one of ours.

The release's ``power`` becomes ``power-released``, its ``layer`` and stock fairseq's LayerNorm become ``layer``.
Weights and statistics are kept to the bit. The optimizer state, which knows parameters by number only, is dropped.
"""

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..files import refuse_to_overwrite, run_command_line
from ..flags.norms import DEFAULTS, LANGUAGE_MODEL_SITES
from .io import Checkpoint, load_checkpoint, model_flags, save_checkpoint, with_model_flags
from .model_layout import RELEASED_BUFFERS, check_names, modernize

logger = logging.getLogger(__name__)

RELEASE, STOCK = "the authors' release", "stock fairseq"

RELEASED_NORMS = {"power": "power-released", "layer": "layer", "none": "none"}
REFUSED_NORMS = {
    "batch": "it scales each token first and dilutes its variance by padding, which is no batch norm of ours",
    "group": "there is no group norm here",
}
RELEASED_SITES = {
    # the release's flag: the sites of a stack that go by it
    "encoder_norm_self": ("self_attn",),
    "encoder_norm_ff": ("ffn", "output"),
    "decoder_norm_self": ("self_attn", "cross_attn"),
    "decoder_norm_ff": ("ffn", "output"),
}
UNUSED_RELEASED_FLAGS = ("encoder_spec_norm", "dropout_type", "dropout_gama")

REFUSED_FLAGS = {
    "encoder_spec_norm": "spectral normalization",
    "layer_wise_attention": "gone from fairseq 0.12",
    "encoder_layers_to_keep": "a pruned model",
    "decoder_layers_to_keep": "a pruned model",
    "base_layers": "BASE layers",
    "char_inputs": "a model that reads characters",
    "encoder_xformers_att_config": "xFormers attention",
    "decoder_xformers_att_config": "xFormers attention",
    "tie_adaptive_weights": "adaptive input embeddings",
    "scale_attn": "NormFormer's extra norms",
    "scale_fc": "NormFormer's extra norms",
    "scale_heads": "NormFormer's scales",
    "scale_resids": "NormFormer's scales",
    "alignment_heads": "a model that learns alignments",
    "simul_type": "simultaneous translation",
    "quant_noise_scalar": "quantized weights",
}
SIZES = ("embed_dim", "ffn_embed_dim", "attention_heads", "layers")
DROPOUTS = {"dropout": 0.1, "attention_dropout": 0.0, "activation_dropout": 0.0}
"""Stock fairseq's defaults, for flags older than a checkpoint's fairseq; our architectures have others."""


def architecture_of(flags: Mapping) -> str:
    """What fairseq calls the model."""
    return str(flags.get("arch") or flags.get("_name"))


def stacks_of_architecture(architecture: str) -> tuple[str, ...]:
    """A translation model's stacks, or a language model's."""
    return ("decoder",) if architecture.startswith("transformer_lm") else ("encoder", "decoder")


def recognize(flags: Mapping, model: Mapping[str, Any]) -> str:
    """Whether a checkpoint is of the authors' release or of a stock fairseq Transformer, from its flags and tensors.

    Raises:
        ValueError: neither; the message says what it is.
    """
    architecture = architecture_of(flags)
    if "norm_type" in flags or architecture.startswith("powernorm_"):
        raise ValueError(f"already a checkpoint of this package ({architecture}, --norm-type {flags.get('norm_type')})")
    for part in (f"{stack}.layers." for stack in stacks_of_architecture(architecture)):
        if not any(name.startswith(part) for name in model):
            first = next(iter(model), "nothing")
            raise ValueError(
                f"expected a translation Transformer of the PowerNorm release or of stock fairseq, found "
                f"{architecture} without {part}… (its first tensor: {first})"
            )
    if any(name in flags for name in RELEASED_SITES) or any(name.endswith(tuple(RELEASED_BUFFERS)) for name in model):
        return RELEASE
    if not architecture.startswith("transformer"):
        raise ValueError(f"expected an architecture 'transformer…' of stock fairseq, found {architecture}")
    return STOCK


def check_supported(flags: Mapping) -> None:
    """Raises ``ValueError`` for the first flag, or absence of one, that our model has no counterpart to."""
    stacks = stacks_of_architecture(architecture_of(flags))
    for name in (f"{stack}_{size}" for stack in stacks for size in SIZES):
        if flags.get(name) is None:
            raise ValueError(f"its flags do not say {name}")
    for name, meaning in REFUSED_FLAGS.items():
        if flags.get(name) and not (name == "tie_adaptive_weights" and stacks == ("decoder",)):
            raise ValueError(f"--{name.replace('_', '-')} {flags[name]} ({meaning}) cannot be represented here")
    positions = {stack: bool(flags.get(f"{stack}_normalize_before")) for stack in stacks}
    if len(set(positions.values())) > 1:
        raise ValueError(
            "one stack is pre-norm and the other post-norm, --norm-position is for both: --encoder-normalize-before is "
            f"{positions['encoder']}, --decoder-normalize-before {positions['decoder']}"
        )


def norms_of_sites(kind: str, flags: Mapping) -> dict[str, dict[str, str]]:
    """For ``encoder`` and ``decoder`` the name of our norm for each site.

    Raises:
        ValueError: a released norm that none of ours equals; the message says why.
    """
    if stacks_of_architecture(architecture_of(flags)) == ("decoder",):
        return {"decoder": dict.fromkeys(LANGUAGE_MODEL_SITES, "layer")}
    norms: dict[str, dict[str, str]] = {"encoder": {}, "decoder": {}}
    for flag, sites in RELEASED_SITES.items():
        released = flags.get(flag, "layer") if kind == RELEASE else "layer"
        if released not in RELEASED_NORMS:
            reason = REFUSED_NORMS.get(released, "unknown")
            raise ValueError(
                f"--{flag.replace('_', '-')} {released} cannot be converted ({reason}); "
                f"what can: {', '.join(RELEASED_NORMS)}"
            )
        norms[flag.split("_")[0]].update(dict.fromkeys(sites, RELEASED_NORMS[released]))
    return norms


def norm_flags(norms: Mapping[str, Mapping[str, str]], flags: Mapping) -> dict[str, Any]:
    """Every norm flag of ours, for norms chosen site by site.

    The released settings that no flag of the release changes are ε = 1e-5, both α = 0.9, and as many groups as
    attention heads; ``--warmup-updates`` is the warm-up of its norms too, but for the output norms, which get 1000 in
    ``power-released`` whatever the flag says.

    Raises:
        ValueError: released norms without a warm-up.
    """
    released = any("power-released" in sites.values() for sites in norms.values())
    if released and flags.get("warmup_updates") is None:
        raise ValueError("its flags do not say warmup_updates, which is the warm-up of its power norms too")
    position = "pre" if flags["decoder_normalize_before"] else "post"
    chosen: dict[str, Any] = {}
    for stack, sites in norms.items():
        stack_norm = sites["self_attn"]
        chosen["norm_type" if stack == next(iter(norms)) else "decoder_norm_type"] = stack_norm
        for site, norm in sites.items():
            unused = site == "output" and position == "post"
            chosen[f"{stack}_norm_{site}"] = None if unused or norm == stack_norm else norm
    return {
        **DEFAULTS,
        **chosen,
        "decoder_norm_type": chosen.get("decoder_norm_type", chosen["norm_type"]),  # a language model has one stack
        "norm_position": position,
        "norm_warmup_updates": int(flags["warmup_updates"]) if released else 0,
        "norm_group_scaling": "heads" if released else "0",
    }


def our_architecture(architecture: str) -> str:
    """The name of ours that comes closest; it decides nothing, since every size and dropout is written out."""
    if stacks_of_architecture(architecture) == ("decoder",):
        return "powernorm_lm_ptb"
    if "iwslt" in architecture:
        return "powernorm_iwslt_de_en"
    return "powernorm_wmt_en_de_big" if "big" in architecture else "powernorm_wmt_en_de"


def our_flags(flags: Mapping, norms: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The flags of our model: those that it was trained with, and ours for the norms."""
    architecture = our_architecture(architecture_of(flags))
    kept = {name: value for name, value in flags.items() if name not in (*RELEASED_SITES, *UNUSED_RELEASED_FLAGS)}
    for name, default in DROPOUTS.items():
        kept[name] = flags[name] if flags.get(name) is not None else default
    # fairseq takes the older flag where the newer one is 0, and so would the preset of an architecture.
    kept["activation_dropout"] = kept["activation_dropout"] or flags.get("relu_dropout") or 0.0
    # The embeddings are in the checkpoint; fairseq would look for the files that they once started from.
    kept.update(encoder_embed_path=None, decoder_embed_path=None)
    return {**kept, **norm_flags(norms, flags), "arch": architecture, "_name": architecture}


class Meter:
    """Takes the values of the meters that fairseq 0.8 pickled into ``extra_state``, and runs no code."""


METERS: list[Any] = [
    (Meter, f"fairseq.{module}.{name}")
    for module in ("meters", "logging.meters")
    for name in ("AverageMeter", "TimeMeter", "StopwatchMeter")
]


def holds_meter(value: Any) -> bool:
    """Whether a meter of fairseq 0.8 is anywhere in a value."""
    if isinstance(value, Mapping):
        return any(holds_meter(entry) for entry in value.values())
    if isinstance(value, (list, tuple)):
        return any(holds_meter(entry) for entry in value)
    return isinstance(value, Meter)


def convert_state(state: Checkpoint, file_name: str) -> Checkpoint:
    """Converts a loaded checkpoint; see :func:`convert_checkpoint`."""
    flags = model_flags(state)
    if not flags:
        raise ValueError("expected the model's flags in 'args' or cfg.model, found none")
    kind = recognize(flags, state["model"])
    logger.info("%s is a checkpoint of %s (%s)", file_name, kind, architecture_of(flags))
    check_supported(flags)
    for stack in stacks_of_architecture(architecture_of(flags)):
        flags[f"{stack}_normalize_before"] = bool(flags.get(f"{stack}_normalize_before"))
    if stacks_of_architecture(architecture_of(flags)) == ("decoder",):
        flags["no_cross_attention"] = True
    norms = norms_of_sites(kind, flags)
    model = modernize(state["model"], flags)
    check_names(model, flags, norms)
    chosen = our_flags(flags, norms)
    given = {name: chosen[name] for name in norm_flags(norms, flags) if chosen[name] not in (None, False)}
    logger.info("its norms here: %s", " ".join(f"--{name.replace('_', '-')} {given[name]}" for name in given))

    kept = with_model_flags(state, chosen)
    if not set(state) <= set(kept):
        logger.info("the optimizer state is dropped; train on with --finetune-from-model or --reset-optimizer")
    history = state.get("optimizer_history") or [{"optimizer_name": None, "lr_scheduler_state": {}, "num_updates": 0}]
    kept["optimizer_history"] = [{k: v for k, v in entry.items() if k != "optimizer"} for entry in history]
    extra_state = {k: v for k, v in (state.get("extra_state") or {}).items() if not holds_meter(v)}
    kept["extra_state"] = {**extra_state, "converted_from": {"file": file_name, "kind": kind}}
    return {**kept, "model": model}


def convert_checkpoint(path: str | Path) -> Checkpoint:
    """Converts a checkpoint of the authors' release (fairseq 0.8), or of a stock fairseq Transformer of any version.

    Args:
        path: the checkpoint, as a zip archive or in the format of torch before 1.6.

    Returns:
        A checkpoint that our model loads strictly, without optimizer state; ``extra_state`` names file and kind as
        ``converted_from``.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: a bad file, one of another kind, or a model that ours cannot represent; the message names the flag.
    """
    path = Path(path)
    with torch.serialization.safe_globals(METERS):
        state = load_checkpoint(path)
    try:
        return convert_state(state, path.name)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def main() -> None:
    """The command line of :func:`convert_checkpoint`."""
    parser = argparse.ArgumentParser(prog="powernorm-convert", description=__doc__.splitlines()[0])
    parser.add_argument("--input", type=Path, required=True, help="a checkpoint of the release or of stock fairseq")
    parser.add_argument("--output", type=Path, required=True, help="the checkpoint of ours")
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    refuse_to_overwrite(arguments.output, arguments.force)
    save_checkpoint(convert_checkpoint(arguments.input), arguments.output, arguments.force)
    logger.info("wrote %s", arguments.output)


def command() -> None:
    """The console script ``powernorm-convert``."""
    run_command_line(main)


if __name__ == "__main__":
    command()
