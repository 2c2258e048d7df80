"""Folding: a trained model whose norms are constants in evaluation becomes one that has no norm to compute.

In evaluation norms with statistics of the batch are constants: y = a ⊙ x + b with a = γ/√(ψ² + ε), b = β (pn-v, power),
or a = γ/√(σ² + ε), b = β − μ a (batch), for example. A linear layer behind one takes them in, W (a ⊙ x + b) + c =
(W diag a) x + (W b + c): q, k and v behind self-attention's norm, fc1 behind the feed-forward block's, the decoder's
cross-attention k and v (every layer's) behind the encoder's output norm, and its q behind cross-attention's norm. A
norm behind a linear layer folds backwards, W' = diag(a) W and c' = a ⊙ c + b: into fc1 that inside the feed-forward
block, into the output projections and fc2 those of Peri-LN. What stays, and why, is logged.
"""

import argparse
import dataclasses
import logging
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..files import refuse_to_overwrite, run_command_line
from ..flags.norms import SITES, channels_of, stack_spec, stacks_of
from ..norms.batch_statistics import BatchStatisticsNorm
from ..norms.registry import FOLDED, build_from_spec
from ..norms.spec import NormSpec
from .io import Checkpoint, load_checkpoint, model_flags, save_checkpoint, with_model_flags
from .model_layout import MODULE_OF_SITE

logger = logging.getLogger(__name__)

LINEAR_LAYERS = {
    "self_attn": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "cross_attn": ("encoder_attn.q_proj",),
    "ffn": ("fc1",),
}
LAYERS_BEFORE = {
    "self_attn": ("self_attn_output_layer_norm", "self_attn.out_proj"),
    "cross_attn": ("encoder_attn_output_layer_norm", "encoder_attn.out_proj"),
    "ffn": ("final_output_layer_norm", "fc2"),
    "ffn_inner": ("ffn_inner_layer_norm", "fc1"),
}
"""By site, a norm that folds backwards, and the linear layer before it."""


@dataclasses.dataclass(frozen=True)
class Fold:
    """A norm and what takes it in, by their names in the model.

    Attributes:
        norm: the norm.
        linears: the linear layers behind it, or the one before it.
        backwards: which of the two.
        factor: what its results are multiplied by (LayerNorm Scaling).
    """

    norm: str
    linears: tuple[str, ...]
    backwards: bool = False
    factor: float = 1.0


def folded_sites(state: Checkpoint) -> list[str]:
    """The flags of the sites whose norm has been folded, by a checkpoint's own flags; none if it holds no flags."""
    values = model_flags(state)
    names = [f"{stack}_norm_{site}" for stack, sites in SITES.items() for site in sites]
    return [name for name in names if values.get(name) == FOLDED]


CROSS_SELF_ATTENTION = (("encoder", "output"), ("decoder", "self_attn"))
"""Where the decoder's self-attention attends to the encoder too."""


def reason_to_stay(spec: NormSpec, stack: str, site: str, flags: argparse.Namespace) -> str | None:
    """Why a site's norm cannot be folded, or None if it can."""
    if spec.name == FOLDED:
        return "is folded already"
    norm = build_from_spec(spec, channels_of(flags, stack, site))
    if not isinstance(norm, BatchStatisticsNorm):
        return f"stays: {spec.name} looks at each token"
    if spec.group_scaling:
        return f"stays: group scaling (--norm-group-scaling {flags.norm_group_scaling}) looks at each token"
    if site == "ffn_inner":
        return None
    if flags.norm_position == "post":
        return "stays: in post-norm it feeds the residual path too"
    if getattr(flags, "attention_cores", None):
        return "stays: a tensorized layer has no bias behind it to take its shift in, or adds it to the residual path"
    if getattr(flags, "cross_self_attention", False) and (stack, site) in CROSS_SELF_ATTENTION:
        return "stays: with --cross-self-attention its linear layers read encoder and decoder alike"
    if getattr(flags, "no_cross_attention", False) and (stack, site) == ("encoder", "output"):
        return "stays: without cross-attention no linear layer is behind it"
    if (stack, site) == ("decoder", "output"):
        return "stays: the output projection behind it has no bias, and may be the embedding"
    return None


def folds_of(stack: str, site: str, flags: argparse.Namespace) -> Iterator[Fold]:
    """The norms of a site, and what takes each of them in."""
    if site == "output":
        layers = range(flags.decoder_layers)
        linears = tuple(f"decoder.layers.{n}.encoder_attn.{p}_proj" for n in layers for p in "kv")
        yield Fold(f"{stack}.layer_norm", linears)
        return
    for number in range(getattr(flags, f"{stack}_layers")):
        prefix = f"{stack}.layers.{number}"
        if site in MODULE_OF_SITE:
            factor = 1 / math.sqrt(number + 1) if getattr(flags, "norm_depth_scaling", False) else 1.0
            linears = tuple(f"{prefix}.{name}" for name in LINEAR_LAYERS[site])
            yield Fold(f"{prefix}.{MODULE_OF_SITE[site]}", linears, factor=factor)
        if site == "ffn_inner" or flags.norm_position == "peri":
            norm, linear = LAYERS_BEFORE[site]
            yield Fold(f"{prefix}.{norm}", (f"{prefix}.{linear}",), backwards=True)


def norm_of(name: str, spec: NormSpec, model: dict[str, Tensor]) -> BatchStatisticsNorm:
    """A norm of the model, in evaluation and in float64.

    Raises:
        ValueError: the model lacks a tensor of it.
    """
    tensors = {key.removeprefix(f"{name}."): value for key, value in model.items() if key.startswith(f"{name}.")}
    if "weight" not in tensors:
        raise ValueError(f"the model has no {name}.weight")
    norm = build_from_spec(spec, tensors["weight"].numel()).double().eval()
    assert isinstance(norm, BatchStatisticsNorm)  # others have a reason to stay
    try:
        norm.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{name}: {str(error).splitlines()[-1].strip()}") from None
    return norm


def constants_of(name: str, spec: NormSpec, model: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """a and b (C,) of a norm in evaluation, in float64; takes the norm's tensors out of the model.

    Raises:
        ValueError: the model lacks a tensor of it, or the constants are not finite.
    """
    norm = norm_of(name, spec, model)
    for key in [key for key in model if key.startswith(f"{name}.")]:
        del model[key]
    with torch.no_grad():
        shift = norm(torch.zeros(1, norm.channels, dtype=torch.float64))[0]
        scale = norm(torch.ones(1, norm.channels, dtype=torch.float64))[0] - shift
    if not (scale.isfinite().all() and shift.isfinite().all()):
        raise ValueError(f"{name}: its statistics are not finite")
    return scale, shift


def layer_named(linear: str, model: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear layer.

    Raises:
        ValueError: no such layer, or one without a bias.
    """
    for name in (f"{linear}.weight", f"{linear}.bias"):
        if name not in model:
            raise ValueError(f"the model has no {name} to fold a norm into")
    return model[f"{linear}.weight"], model[f"{linear}.bias"]


def fold_into(linear: str, scale: Tensor, shift: Tensor, model: dict[str, Tensor]) -> None:
    """W ← W diag(a), c ← c + W b, in float64, cast back once: the layer behind a norm.

    Raises:
        ValueError: no such layer, one without a bias, or one of another size.
    """
    weight, bias = layer_named(linear, model)
    if weight.size(1) != scale.numel():
        raise ValueError(f"{linear} takes {weight.size(1)} channels, its norm has {scale.numel()}")
    model[f"{linear}.weight"] = (weight.double() * scale).to(weight.dtype)
    model[f"{linear}.bias"] = (bias.double() + weight.double() @ shift).to(bias.dtype)


def fold_back_into(linear: str, scale: Tensor, shift: Tensor, model: dict[str, Tensor]) -> None:
    """W ← diag(a) W, c ← a ⊙ c + b, in float64, cast back once: the layer before a norm.

    Raises:
        ValueError: no such layer, one without a bias, or one of another size.
    """
    weight, bias = layer_named(linear, model)
    if weight.size(0) != scale.numel():
        raise ValueError(f"{linear} gives {weight.size(0)} channels, its norm has {scale.numel()}")
    model[f"{linear}.weight"] = (scale[:, None] * weight.double()).to(weight.dtype)
    model[f"{linear}.bias"] = (scale * bias.double() + shift).to(bias.dtype)


def fold_state(state: Checkpoint) -> Checkpoint:
    """Folds a loaded checkpoint; see :func:`fold_checkpoint`."""
    flags = argparse.Namespace(**model_flags(state))
    if getattr(flags, "norm_type", None) is None:
        raise ValueError("expected a checkpoint of this package, found one without --norm-type")
    model, folded = dict(state["model"]), []
    for stack in stacks_of(flags):
        for site, spec in vars(stack_spec(flags, stack)).items():
            if spec is None or (site == "output" and f"{stack}.layer_norm.weight" not in model):
                continue
            label, folds = f"{stack} {site.replace('_', '-')} ({spec.name})", list(folds_of(stack, site, flags))
            reason = reason_to_stay(spec, stack, site, flags)
            if reason is None:
                changing = [norm_of(fold.norm, spec, model).not_constant() for fold in folds]
                reason = next((f"stays: {each}" for each in changing if each is not None), None)
            if reason is not None:
                logger.info("%s %s", label, reason)
                continue
            for fold in folds:
                scale, shift = constants_of(fold.norm, spec, model)
                for linear in fold.linears:
                    into = fold_back_into if fold.backwards else fold_into
                    into(linear, fold.factor * scale, fold.factor * shift, model)
            folded.append(f"{stack}_norm_{site}")
            logger.info("%s folded", label)
    if not folded and folded_sites(state):
        raise ValueError("is folded already: it has no norm left that can be folded")
    if not folded:
        raise ValueError("it has no norm that can be folded")
    return {**with_model_flags(state, {**vars(flags), **dict.fromkeys(folded, FOLDED)}), "model": model}


def fold_checkpoint(path: str | Path) -> Checkpoint:
    """Folds the norms of a trained model of ours into the linear layers behind them.

    Args:
        path: a checkpoint of this package.

    Returns:
        A checkpoint for evaluation alone, without optimizer state: its flags say ``folded`` where a norm was. Scores
        are those of the original to rounding.

    Raises:
        FileNotFoundError, IsADirectoryError: no such checkpoint, or a folder.
        ValueError: a bad file, one of another kind, one with nothing to fold, or one that is folded already.
    """
    state = load_checkpoint(path)
    try:
        return fold_state(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def main() -> None:
    """The command line of :func:`fold_checkpoint`."""
    parser = argparse.ArgumentParser(prog="powernorm-fold", description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="a trained checkpoint of this package")
    parser.add_argument("--output", type=Path, required=True, help="the folded one, for evaluation alone")
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    refuse_to_overwrite(arguments.output, arguments.force)
    save_checkpoint(fold_checkpoint(arguments.checkpoint), arguments.output, arguments.force)
    logger.info("wrote %s", arguments.output)


def command() -> None:
    """The console script ``powernorm-fold``."""
    run_command_line(main)


if __name__ == "__main__":
    command()
