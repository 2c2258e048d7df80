"""Where the norms of a layer stand, without a line of fairseq's forward passes: Peri-LN, LayerNorm Scaling, and the
norm inside the feed-forward block."""

import functools
import math
from collections.abc import Callable, Sequence
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


def scale_output(factor: float, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """A forward hook, once ``factor`` is given: the module's result times a number."""
    return output * factor


def normalize_output(norm: nn.Module, module: nn.Module, inputs: Any, output: Tensor | tuple) -> Tensor | tuple:
    """A forward hook, once ``norm`` is given: the module's result, or the first of its results, through the norm."""
    return (norm(output[0]), *output[1:]) if isinstance(output, tuple) else norm(output)


def number_of_layer(kept: str | Sequence[int] | None, built: int) -> int:
    """The number, from 1, that a layer had in training, where it is the ``built``-th to be built: fairseq builds those
    alone that ``--decoder-layers-to-keep`` names (``kept``, which counts from 0; ``0,2`` or a list)."""
    numbers = kept.split(",") if isinstance(kept, str) else kept
    return sorted(int(number) for number in numbers)[built - 1] + 1 if numbers else built


class PlacedNorms(nn.Module):
    """Mixed into fairseq's layers: the norms of a layer in their places, one in front of each block (after it in
    post-norm).

    Peri-LN (Kim et al. 2025, arXiv 2502.02732) has one more on what a block gives. LayerNorm Scaling (arXiv 2502.05795)
    multiplies what the norms in front of the blocks of layer l give by 1/√l, a Python number, which no cast or
    ``to_empty`` can lose.

    Attributes:
        ffn_inner_layer_norm: the norm, where there is one, between the first linear layer of the feed-forward block and
            its activation (Yao et al. 2021).
    """

    def place(self, spec: StackSpec, cfg, stack_cfg, number: int) -> None:
        """Builds the norms of layer ``number``, counted from 1; a block that the layer lacks has none.

        Args:
            spec: the norms of the stack.
            cfg: fairseq's TransformerConfig.
            stack_cfg: its part for the stack, ``cfg.encoder`` or ``cfg.decoder``.
            number: of the layer.
        """
        scaled = getattr(cfg, "norm_depth_scaling", False)  # which older checkpoints lack
        for site, block in BLOCKS.items():
            site_spec = getattr(spec, site)
            if site_spec is None or getattr(self, block) is None:
                continue
            norm = build_from_spec(site_spec, stack_cfg.embed_dim)
            setattr(self, MODULE_OF_SITE[site], norm)
            if scaled and number > 1 and not isinstance(norm, FoldedNorm):  # a folded one is scaled already
                norm.register_forward_hook(functools.partial(scale_output, 1 / math.sqrt(number)))
            if cfg.norm_position == "peri":
                output_norm = build_from_spec(site_spec, stack_cfg.embed_dim)
                setattr(self, OUTPUT_NORMS[site], output_norm)
                getattr(self, block).register_forward_hook(functools.partial(normalize_output, output_norm))
        if spec.ffn_inner is not None:
            self.ffn_inner_layer_norm = build_from_spec(spec.ffn_inner, stack_cfg.ffn_embed_dim)
            self.stock_activation = self.activation_fn
            self.activation_fn: Callable[[Tensor], Tensor] = self.normalize_and_activate

    def normalize_and_activate(self, x: Tensor) -> Tensor:
        """The activation of the normalised hidden layer (T, B, F)."""
        return self.stock_activation(self.ffn_inner_layer_norm(x))
