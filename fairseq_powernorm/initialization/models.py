"""Carrying a scheme out on a built Transformer: its matrices, biases, embeddings and residual connections.

The model has fairseq's names: ``encoder`` and ``decoder`` (or one of them) with ``layers``, whose layers have
``self_attn``, ``encoder_attn``, ``fc1``, ``fc2`` and the norms' places. Nothing here imports fairseq.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from .places import ATTENTIONS, PROJECTIONS, STACKS, Depth, Matrix, Stack
from .residual import Shift, ShiftAfter, ShiftAndScale, ShiftBefore
from .schemes import Scheme

NORM_OF_BRANCH = {
    "self_attn": "self_attn_layer_norm",
    "encoder_attn": "encoder_attn_layer_norm",
    "ffn": "final_layer_norm",
}


def layers_of(model: Any, stack: Stack) -> list[Any]:
    """The layers of a stack; none if the model has no such stack. (Not by iteration: fairseq's list with layer drop
    leaves some out in training mode.)"""
    part = getattr(model, stack, None)
    return [] if part is None else list(part.layers.children())


def depth_of(model: Any) -> Depth:
    """How deep a model is."""
    encoder, decoder = layers_of(model, "encoder"), layers_of(model, "decoder")
    return Depth(len(encoder), len(decoder), any(getattr(layer, "encoder_attn", None) is not None for layer in decoder))


def branches_of(layer: Any) -> list[str]:
    """The residual branches of a layer in their order."""
    attentions = [name for name in ATTENTIONS if getattr(layer, name, None) is not None]
    return [*attentions, "ffn"]


def linear_layers(layer: Any, stack: Stack, number: int, depth: Depth) -> Iterator[tuple[Matrix, nn.Linear]]:
    """The linear layers of a Transformer's layer, each with its place; ``number`` is from 1."""
    for branch in branches_of(layer):
        if branch == "ffn":
            for name in ("fc1", "fc2"):
                yield Matrix(stack, number, None, name, depth), getattr(layer, name)
        else:
            for name in PROJECTIONS:
                yield Matrix(stack, number, branch, name, depth), getattr(getattr(layer, branch), name)


def remove_biases(layer: Any) -> None:
    """Takes the bias from every linear layer of a Transformer's layer."""
    for _, linear in linear_layers(layer, "encoder", 1, Depth(1, 1)):
        linear.register_parameter("bias", None)
    for branch in branches_of(layer)[:-1]:
        # fairseq hands q's, k's and v's biases to torch's own attention, which cannot be without; what it computes
        # itself, as it does for pruned models, can.
        getattr(layer, branch).skip_embed_dim_check = True


def insert_shifts(layer: Any) -> None:
    """Puts Fixup's scalar biases into a layer: one before each branch, in its norm's place, one before the feed-forward
    block's activation and one before its last matrix."""
    for branch in branches_of(layer):
        setattr(layer, NORM_OF_BRANCH[branch], Shift())
    layer.activation_fn = ShiftBefore(layer.activation_fn)
    layer.activation_dropout_module = ShiftAfter(layer.activation_dropout_module)


def scale_embeddings(model: Any, gain: Callable[[Stack, Depth], float], depth: Depth) -> None:
    """Multiplies the embeddings by a scheme's gain: one that both stacks share by the encoder's, once."""
    done: list[torch.Tensor] = []
    for stack in STACKS:
        words = getattr(getattr(model, stack, None), "embed_tokens", None)
        tables = [] if words is None else [each.weight for each in words.modules() if isinstance(each, nn.Embedding)]
        for table in tables:  # several where the embedding is adaptive
            if not any(table is other for other in done):
                table.mul_(gain(stack, depth))
                done.append(table)


def zero_output_projection(model: Any) -> None:
    """Puts the decoder's output projection at 0, unless it is the embedding or there is none (adaptive softmax)."""
    projection = getattr(model.decoder, "output_projection", None)
    if projection is not None and projection.weight is not getattr(model.decoder.embed_tokens, "weight", None):
        projection.weight.zero_()


@torch.no_grad()
def initialize(model: Any, scheme: Scheme, trainable_omega: bool = False) -> None:
    """Carries a scheme out on a model that fairseq has just built, in place. ``fairseq`` changes nothing and draws no
    random number.

    Args:
        model: an encoder and a decoder, or a decoder alone, with layers whose ``residual`` is their residual
            connection (None for x + f(x)).
        scheme: of :data:`~fairseq_powernorm.initialization.schemes.SCHEMES`.
        trainable_omega: for ``admin``: whether ω is a vector that is trained rather than a constant.
    """
    depth = depth_of(model)
    for stack in STACKS:
        for number, layer in enumerate(layers_of(model, stack), start=1):
            if scheme.gain is not None:
                for matrix, linear in linear_layers(layer, stack, number, depth):
                    scheme.draw(linear.weight, scheme.gain(matrix))
                    if scheme.zero_biases and linear.bias is not None:
                        linear.bias.zero_()
            if not scheme.has_biases:
                remove_biases(layer)
            if scheme.shifts:
                insert_shifts(layer)
            if scheme.connection is not None:
                channels = layer.embed_dim if trainable_omega else None
                make = functools.partial(scheme.connection, stack, depth, channels)
                shared, branches = scheme.shared_connection, branches_of(layer)
                layer.residual = make() if shared else nn.ModuleDict({branch: make() for branch in branches})
    if scheme.shifts:
        for stack, end in zip(STACKS, (ShiftAndScale, Shift), strict=True):
            part = getattr(model, stack, None)
            if part is not None and part.layer_norm is not None:
                part.layer_norm = end()
    if scheme.embedding_gain is not None:
        scale_embeddings(model, scheme.embedding_gain, depth)
    if scheme.zero_output:
        zero_output_projection(model)
