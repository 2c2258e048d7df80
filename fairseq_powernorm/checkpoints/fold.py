"""Folding: a trained batch, pn-v or power model becomes one that has no norm to compute.

In evaluation these norms are constants: y = a ⊙ x + b with a = γ/√(ψ² + ε), b = β (pn-v, power), or a = γ/√(σ² + ε),
b = β − μ a (batch). A linear layer behind one takes them in, W (a ⊙ x + b) + c = (W diag a) x + (W b + c): q, k and v
behind self-attention's norm, fc1 behind the feed-forward block's, the decoder's cross-attention k and v (every layer's)
behind the encoder's output norm, and its q behind cross-attention's norm. What stays, and why, is logged.
"""

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..files import refuse_folder, refuse_to_overwrite, run_command_line
from ..flags import SITES, stack_spec, stacks_of
from ..norms.batch_statistics import BatchStatisticsNorm
from ..norms.registry import FOLDED, build_from_spec
from ..norms.spec import NormSpec
from .io import Checkpoint, load_checkpoint, model_flags, save_checkpoint
from .model_layout import MODULE_OF_SITE

logger = logging.getLogger(__name__)

LINEAR_LAYERS = {
    "self_attn": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "cross_attn": ("encoder_attn.q_proj",),
    "ffn": ("fc1",),
}


def folded_sites(state: Checkpoint) -> list[str]:
    """The flags of the sites whose norm has been folded, by a checkpoint's own flags; none if it holds no flags."""
    values = model_flags(state)
    names = [f"{stack}_norm_{site}" for stack, sites in SITES.items() for site in sites]
    return [name for name in names if values.get(name) == FOLDED]


def reason_to_stay(spec: NormSpec, stack: str, site: str, flags: argparse.Namespace) -> str | None:
    """Why a site's norm cannot be folded, or None if it can."""
    if spec.name == FOLDED:
        return "is folded already"
    norm = build_from_spec(spec, getattr(flags, f"{stack}_embed_dim"))
    if not isinstance(norm, BatchStatisticsNorm):
        return f"stays: {spec.name} looks at each token"
    if spec.group_scaling:
        return f"stays: group scaling (--norm-group-scaling {flags.norm_group_scaling}) looks at each token"
    if flags.norm_position != "pre":
        return "stays: in post-norm it feeds the residual path too"
    if getattr(flags, "attention_cores", None):
        return "stays: a tensorized layer has no bias behind it to take its shift in, or adds it to the residual path"
    if (stack, site) == ("decoder", "output"):
        return "stays: the output projection behind it has no bias, and may be the embedding"
    return None


def folded_pairs(stack: str, site: str, flags: argparse.Namespace) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The norms of a site and the linear layers behind each, by their names in the model."""
    if site == "output":
        layers = range(flags.decoder_layers)
        yield f"{stack}.layer_norm", tuple(f"decoder.layers.{n}.encoder_attn.{p}_proj" for n in layers for p in "kv")
        return
    for number in range(getattr(flags, f"{stack}_layers")):
        prefix = f"{stack}.layers.{number}"
        yield f"{prefix}.{MODULE_OF_SITE[site]}", tuple(f"{prefix}.{name}" for name in LINEAR_LAYERS[site])


def constants_of(name: str, spec: NormSpec, model: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """a and b (C,) of a norm in evaluation, in float64; takes the norm's tensors out of the model.

    Raises:
        ValueError: the model lacks a tensor of it, or the constants are not finite.
    """
    names = [key for key in model if key.startswith(f"{name}.")]
    tensors = {key.removeprefix(f"{name}."): model.pop(key) for key in names}
    if "weight" not in tensors:
        raise ValueError(f"the model has no {name}.weight")
    channels = tensors["weight"].numel()
    norm = build_from_spec(spec, channels).double().eval()
    try:
        norm.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{name}: {str(error).splitlines()[-1].strip()}") from None
    with torch.no_grad():
        shift = norm(torch.zeros(1, channels, dtype=torch.float64))[0]
        scale = norm(torch.ones(1, channels, dtype=torch.float64))[0] - shift
    if not (scale.isfinite().all() and shift.isfinite().all()):
        raise ValueError(f"{name}: its statistics are not finite")
    return scale, shift


def fold_into(linear: str, scale: Tensor, shift: Tensor, model: dict[str, Tensor]) -> None:
    """W ← W diag(a), c ← c + W b, in float64, cast back once.

    Raises:
        ValueError: no such layer, one without a bias, or one of another size.
    """
    for name in (f"{linear}.weight", f"{linear}.bias"):
        if name not in model:
            raise ValueError(f"the model has no {name} to fold a norm into")
    weight, bias = model[f"{linear}.weight"], model[f"{linear}.bias"]
    if weight.size(1) != scale.numel():
        raise ValueError(f"{linear} takes {weight.size(1)} channels, its norm has {scale.numel()}")
    model[f"{linear}.weight"] = (weight.double() * scale).to(weight.dtype)
    model[f"{linear}.bias"] = (bias.double() + weight.double() @ shift).to(bias.dtype)


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
            label = f"{stack} {site.replace('_', '-')} ({spec.name})"
            if (reason := reason_to_stay(spec, stack, site, flags)) is not None:
                logger.info("%s %s", label, reason)
                continue
            for norm, linears in folded_pairs(stack, site, flags):
                scale, shift = constants_of(norm, spec, model)
                for linear in linears:
                    fold_into(linear, scale, shift, model)
            folded.append(f"{stack}_norm_{site}")
            logger.info("%s folded", label)
    if not folded and folded_sites(state):
        raise ValueError("is folded already: it has no norm left that can be folded")
    if not folded:
        raise ValueError("it has no norm that can be folded")
    chosen = argparse.Namespace(**{**vars(flags), **dict.fromkeys(folded, FOLDED)})
    kept = {name: value for name, value in state.items() if name not in ("last_optimizer_state", "optimizer")}
    if state.get("args") is not None:
        kept["args"] = chosen
    else:
        kept["cfg"] = {**state["cfg"], "model": chosen}
    return {**kept, "model": model}


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
    refuse_folder(path)
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
