"""Where a weight matrix stands in a Transformer: what the formulas of initializations depend on."""

from dataclasses import dataclass
from typing import Literal

Stack = Literal["encoder", "decoder"]
STACKS: tuple[Stack, Stack] = ("encoder", "decoder")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")
ATTENTIONS = ("self_attn", "encoder_attn")


@dataclass(frozen=True)
class Depth:
    """How deep a Transformer is.

    Attributes:
        encoder: its layers N; 0 for a language model.
        decoder: its layers M.
        cross_attention: whether the decoder's layers attend to the encoder.
    """

    encoder: int
    decoder: int
    cross_attention: bool = True

    def layers(self, stack: Stack) -> int:
        """The layers of a stack."""
        return self.encoder if stack == "encoder" else self.decoder

    def branches(self, stack: Stack) -> int:
        """The residual branches of a stack: two a layer, three in a decoder with cross-attention."""
        return self.layers(stack) * (3 if stack == "decoder" and self.cross_attention else 2)


@dataclass(frozen=True)
class Matrix:
    """One weight matrix.

    Attributes:
        stack: ``encoder`` or ``decoder``.
        layer: which layer of its stack, from 1.
        attention: ``self_attn`` or ``encoder_attn``; None in the feed-forward block.
        name: ``q_proj``, ``k_proj``, ``v_proj``, ``out_proj``; ``fc1`` or ``fc2``.
        depth: of the whole model.
    """

    stack: Stack
    layer: int
    attention: str | None
    name: str
    depth: Depth

    @property
    def is_query_or_key(self) -> bool:
        """Whether it makes queries or keys, which leave the scale of the values alone."""
        return self.name in ("q_proj", "k_proj")

    @property
    def is_input_of_attention(self) -> bool:
        """Whether it makes queries, keys or values. Older implementations keep the three in one (3d, d) matrix, whose
        Xavier bound is that of one (d, d) matrix divided by √2."""
        return self.is_query_or_key or self.name == "v_proj"

    @property
    def is_last_of_branch(self) -> bool:
        """Whether its output is the branch's."""
        return self.name in ("out_proj", "fc2")
