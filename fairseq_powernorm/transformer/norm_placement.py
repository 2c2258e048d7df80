"""Where the norms of a layer stand, without a line of fairseq's forward passes: Peri-LN, LayerNorm Scaling, and the
norm inside the feed-forward block."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..checkpoints.model_layout import MODULE_OF_SITE
from ..norms.folded import FoldedNorm
from ..norms.registry import build_from_spec
from ..norms.spec import StackSpec

BLOCKS = {"self_attn": "self_attn", "cross_attn": "encoder_attn", "ffn": "fc2"}
"""By site, the module of a layer whose result is that of the block, before dropout and residual sum."""
OUTPUT_NORMS = {site: name.replace("layer_norm", "output_layer_norm") for site, name in MODULE_OF_SITE.items()}
"""By site, the name of Peri-LN's norm on what a block gives."""


@dataclasses.dataclass(frozen=True)
class LayerNorms:
    """The norms of one layer.

    Attributes:
        inputs: by site, the norm in front of each block (after it in post-norm).
        outputs: by site, Peri-LN's on what a block gives (Kim et al. 2025, arXiv 2502.02732); none otherwise.
        ffn_inner: between the first linear layer of the feed-forward block and its activation (Yao et al. 2021).
        input_scale: what the results of ``inputs`` are multiplied by: 1/√l in layer l from 1 with LayerNorm Scaling
            (arXiv 2502.05795). A Python number, which no cast or ``to_empty`` can lose.
    """

    inputs: dict[str, nn.Module]
    outputs: dict[str, nn.Module]
    ffn_inner: nn.Module | None
    input_scale: float


def build_layer_norms(spec: StackSpec, cfg, stack_cfg, number: int) -> LayerNorms:
    """Builds the norms of layer ``number``, counted from 1.

    Args:
        spec: the norms of the stack.
        cfg: fairseq's TransformerConfig.
        stack_cfg: its part for the stack, ``cfg.encoder`` or ``cfg.decoder``.
        number: of the layer.
    """
    scaled = getattr(cfg, "norm_depth_scaling", False)  # which older checkpoints lack
    sites = [site for site in BLOCKS if getattr(spec, site) is not None]
    inputs: dict[str, nn.Module] = {site: build_from_spec(getattr(spec, site), stack_cfg.embed_dim) for site in sites}
    outputs: dict[str, nn.Module] = {}
    if cfg.norm_position == "peri":
        outputs = {site: build_from_spec(getattr(spec, site), stack_cfg.embed_dim) for site in sites}
    inner = None if spec.ffn_inner is None else build_from_spec(spec.ffn_inner, stack_cfg.ffn_embed_dim)
    return LayerNorms(inputs, outputs, inner, 1 / math.sqrt(number) if scaled else 1.0)


def scale_output(factor: float, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """A forward hook, once ``factor`` is given: the module's result times a number."""
    return output * factor


def normalize_output(norm: nn.Module, module: nn.Module, inputs: Any, output: Tensor | tuple) -> Tensor | tuple:
    """A forward hook, once ``norm`` is given: the module's result, or the first of its results, through the norm."""
    return (norm(output[0]), *output[1:]) if isinstance(output, tuple) else norm(output)


class PlacedNorms(nn.Module):
    """Mixed into fairseq's layers: takes the norms of a layer to their places.

    Attributes:
        ffn_inner_layer_norm: the norm inside the feed-forward block, where there is one.
    """

    def place(self, norms: LayerNorms) -> None:
        """Puts the norms where :class:`LayerNorms` says; a block that the layer lacks has none."""
        for site, norm in norms.inputs.items():
            if getattr(self, BLOCKS[site]) is None:
                continue
            setattr(self, MODULE_OF_SITE[site], norm)
            if norms.input_scale != 1 and not isinstance(norm, FoldedNorm):  # a folded one is scaled already
                norm.register_forward_hook(functools.partial(scale_output, norms.input_scale))
            if site in norms.outputs:
                setattr(self, OUTPUT_NORMS[site], norms.outputs[site])
                hook = functools.partial(normalize_output, norms.outputs[site])
                getattr(self, BLOCKS[site]).register_forward_hook(hook)
        if norms.ffn_inner is not None:
            self.ffn_inner_layer_norm = norms.ffn_inner
            self.stock_activation = self.activation_fn
            self.activation_fn: Callable[[Tensor], Tensor] = self.normalize_and_activate

    def normalize_and_activate(self, x: Tensor) -> Tensor:
        """The activation of the normalised hidden layer (T, B, F)."""
        return self.stock_activation(self.ffn_inner_layer_norm(x))
