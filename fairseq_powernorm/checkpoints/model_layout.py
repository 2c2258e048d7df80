"""The names of a Transformer's tensors: those of older fairseq and of the authors' release become ours.

The names and shapes of the release were read off its source (sIncerass/powernorm, a fork of fairseq 0.8, GPL-3); no
line of it is here. Its buffers hold what ours do, with the same sign and scale: ``running_phi`` (1, C, 1, 1) is φ,
``ema_gz`` (1, C, 1, 1) is E, ``iters`` (1,) counts training forward calls.
"""

import logging
import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ..norms.registry import NORMS

logger = logging.getLogger(__name__)

RELEASED_BUFFERS = {
    "running_phi": "running_square_mean",
    "ema_gz": "accumulated_projection",
    "iters": "num_forward_calls",
}
COMPUTED = ("embed_positions._float_tensor", "embed_positions.weights")
"""What older versions stored of sinusoidal positions; fairseq computes them anew."""

NUMBERED_NORMS = {
    "encoder": ("self_attn_layer_norm", "final_layer_norm"),
    "decoder": ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
}
MODULE_OF_SITE = {
    "self_attn": "self_attn_layer_norm",
    "cross_attn": "encoder_attn_layer_norm",
    "ffn": "final_layer_norm",
}
FIRST_VERSION_WITH_OUTPUT_NORM = {"encoder": 2, "decoder": 3}

NUMBERED_NORM = re.compile(r"((encoder|decoder)\.layers\.\d+\.)layer_norms\.(\d)\.(weight|bias)")
FUSED_PROJECTION = re.compile(r"(.*\.)in_proj_(weight|bias)")
FLAT_PROJECTION = re.compile(r"(.*\.)([qkv]_proj)_weight")


def renamed(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """One tensor of an older fairseq's or the release's model under the names that ours has for it, none or several.

    Raises:
        ValueError: a shape that does not fit the name.
    """
    last = name.rsplit(".", 1)[-1]
    if name.endswith(COMPUTED):
        return
    if match := FUSED_PROJECTION.fullmatch(name):
        if tensor.size(0) % 3:
            raise ValueError(f"expected {name} with the rows of q, k and v, got shape {tuple(tensor.shape)}")
        for projection, part in zip(("q_proj", "k_proj", "v_proj"), tensor.chunk(3), strict=True):
            yield f"{match[1]}{projection}.{match[2]}", part.clone()
    elif match := FLAT_PROJECTION.fullmatch(name):
        yield f"{match[1]}{match[2]}.weight", tensor
    elif (match := NUMBERED_NORM.fullmatch(name)) and int(match[3]) < len(NUMBERED_NORMS[match[2]]):
        yield f"{match[1]}{NUMBERED_NORMS[match[2]][int(match[3])]}.{match[4]}", tensor
    elif name == "decoder.embed_out":
        yield "decoder.output_projection.weight", tensor
    elif last in RELEASED_BUFFERS:
        yield name.removesuffix(last) + RELEASED_BUFFERS[last], released_buffer(name, tensor)
    else:
        yield name, tensor


def released_buffer(name: str, tensor: Tensor) -> Tensor:
    """A buffer of the released PowerNorm in our shape and dtype: φ and E (C,), float32 or wider; t a scalar int64.

    Raises:
        ValueError: another shape than the release's, φ not finite or below 0.
    """
    shape = tuple(tensor.shape)
    if name.endswith(".iters"):
        if tensor.numel() != 1 or tensor.is_floating_point():
            raise ValueError(f"expected {name} to be one integer, got {tensor.dtype} of shape {shape}")
        return tensor.reshape(()).to(torch.int64)
    if tensor.dim() != 4 or shape != (1, shape[1], 1, 1):
        raise ValueError(f"expected {name} of shape (1, C, 1, 1), got {shape}")
    statistic = tensor.reshape(-1).to(torch.promote_types(tensor.dtype, torch.float32), copy=True)
    if name.endswith(".running_phi") and not (statistic.isfinite().all() and (statistic >= 0).all()):
        raise ValueError(f"{name} holds values that are not finite, or below 0: no model to translate with")
    if not statistic.isfinite().all():
        # One inf in a gradient does this to the release for good (its issues 2, 9, 15); evaluation has no use for E.
        logger.warning("%s holds values that are not finite; evaluation is right, training on is not", name)
    return statistic


def modernize(model: Mapping[str, Tensor], flags: Mapping) -> dict[str, Tensor]:
    """The tensors of a model under the names that ours gives them.

    Args:
        model: a state dict of the release or of stock fairseq.
        flags: the model's flags.

    Raises:
        ValueError: a shape that does not fit a name, or one name for two tensors.
    """
    ours: dict[str, Tensor] = {}
    for old, tensor in model.items():
        for name, value in renamed(old, tensor):
            if name in ours:
                raise ValueError(f"both {old} and another tensor stand for {name}")
            ours[name] = value
    for stack in FIRST_VERSION_WITH_OUTPUT_NORM:
        if not any(name.startswith(f"{stack}.layers.") for name in ours):
            continue
        ours.setdefault(f"{stack}.version", torch.ones(1))  # what fairseq takes a missing version for
    if shares_output(flags) and flags.get("adaptive_softmax_cutoff") is None and "decoder.embed_tokens.weight" in ours:
        # The same tensor, not a copy: torch.save writes it once.
        ours.setdefault("decoder.output_projection.weight", ours["decoder.embed_tokens.weight"])
    return ours


def shares_output(flags: Mapping) -> bool:
    """Whether the decoder's output projection is its embedding."""
    names = ("share_decoder_input_output_embed", "share_all_embeddings", "merge_src_tgt_embed")
    return any(flags.get(name) for name in names)


def has_output_norm(stack: str, flags: Mapping, model: Mapping[str, Tensor]) -> bool:
    """Whether fairseq builds a norm behind the last layer of ``encoder`` or ``decoder``."""
    if not flags[f"{stack}_normalize_before"] or (stack == "decoder" and flags.get("no_decoder_final_norm")):
        return False
    return float(model[f"{stack}.version"].reshape(-1)[0]) >= FIRST_VERSION_WITH_OUTPUT_NORM[stack]


def affine(prefix: str) -> Iterator[str]:
    """Weight and bias of one module."""
    yield from (f"{prefix}.weight", f"{prefix}.bias")


def norm_names(prefix: str, norm: str) -> Iterator[str]:
    """The tensors of one norm of ours."""
    yield from (f"{prefix}.weight",) if NORMS[norm].has_weight else ()
    yield from (f"{prefix}.bias",) if NORMS[norm].has_bias else ()
    yield from (f"{prefix}.{buffer}" for buffer in NORMS[norm].buffer_policies)


def layer_names(prefix: str, flags: Mapping, norms: Mapping[str, str]) -> Iterator[str]:
    """The tensors of one layer, ``prefix`` being ``encoder.layers.0`` or the like."""
    attentions = ["self_attn"]
    if prefix.startswith("decoder") and not flags.get("no_cross_attention"):
        attentions.append("encoder_attn")
    for attention in attentions:
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from affine(f"{prefix}.{attention}.{projection}")
        site = "self_attn" if attention == "self_attn" else "cross_attn"
        yield from norm_names(f"{prefix}.{MODULE_OF_SITE[site]}", norms[site])
    yield from affine(f"{prefix}.fc1")
    yield from affine(f"{prefix}.fc2")
    yield from norm_names(f"{prefix}.{MODULE_OF_SITE['ffn']}", norms["ffn"])


def stack_names(stack: str, flags: Mapping, norms: Mapping[str, str], output_norm: bool) -> Iterator[str]:
    """The tensors of a stack, but for those of its way out to the vocabulary.

    Args:
        stack: ``encoder`` or ``decoder``.
        flags: the model's flags.
        norms: the norm of each site of the stack.
        output_norm: see :func:`has_output_norm`.
    """
    yield f"{stack}.version"
    if not (flags.get("adaptive_input") or flags.get("character_embeddings")):
        yield f"{stack}.embed_tokens.weight"
    if flags.get(f"{stack}_learned_pos") and not flags.get("no_token_positional_embeddings"):
        yield f"{stack}.embed_positions.weight"
    if flags.get("layernorm_embedding"):
        yield from affine(f"{stack}.layernorm_embedding")
    if flags.get("quant_noise_pq") and not flags.get("adaptive_input"):
        yield f"{stack}.quant_noise.weight"
    for number in range(flags[f"{stack}_layers"]):
        yield from layer_names(f"{stack}.layers.{number}", flags, norms)
    if output_norm:
        yield from norm_names(f"{stack}.layer_norm", norms["output"])


def check_names(model: Mapping[str, Tensor], flags: Mapping, norms: Mapping[str, Mapping[str, str]]) -> None:
    """Raises ``ValueError`` unless a model has exactly the tensors that ours has with these flags.

    Args:
        model: tensors by name, after :func:`modernize`.
        flags: the model's flags.
        norms: for ``encoder`` and ``decoder`` the norm of each site.
    """
    expected = {
        name
        for stack, sites in norms.items()
        for name in stack_names(stack, flags, sites, has_output_norm(stack, flags, model))
    }
    if flags.get("adaptive_softmax_cutoff") is None:
        expected.add("decoder.output_projection.weight")
    else:
        expected |= {name for name in model if name.startswith("decoder.adaptive_softmax.")}
    if flags.get("adaptive_input") or flags.get("character_embeddings"):
        expected |= {name for name in model if name.startswith("decoder.embed_tokens.")}
    if flags.get("decoder_output_dim", flags["decoder_embed_dim"]) != flags["decoder_embed_dim"]:
        expected.add("decoder.project_out_dim.weight")
    for names, message in ((expected - set(model), "is missing"), (set(model) - expected, "has no place there")):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise ValueError(f"not the Transformer that its flags describe: {min(names)} {message}{more}")
    for name, tensor in model.items():
        if name.endswith(".running_square_mean"):
            check_channels(name.removesuffix("running_square_mean"), tensor, model)


def check_channels(prefix: str, statistic: Tensor, model: Mapping[str, Tensor]) -> None:
    """Raises ``ValueError`` if a norm's statistics and its weight differ in their number of channels."""
    for name in ("weight", "bias", "accumulated_projection"):
        if model[prefix + name].shape != statistic.shape:
            raise ValueError(
                f"{prefix}{name} is {tuple(model[prefix + name].shape)}, its running statistic {tuple(statistic.shape)}"
            )
