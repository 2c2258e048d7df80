"""Whole models on made-up batches, for the benchmarks of training and decoding."""

import argparse
from typing import NamedTuple

import torch
from bench_norms import sentence_lengths
from fairseq import options
from fairseq.data import Dictionary
from fairseq.tasks.translation import TranslationTask
from torch import nn

import fairseq_powernorm.transformer  # noqa: F401 (registers the architectures)

PRE_NORM = ["--encoder-normalize-before", "--decoder-normalize-before"]
DROPOUT = ["--dropout", "0.3", "--attention-dropout", "0.1", "--activation-dropout", "0.1"]


class Architecture(NamedTuple):
    """The flags of stock fairseq's pre-norm architecture and of ours, and the usual number of types."""

    stock: list[str]
    ours: list[str]
    types: int


ARCHITECTURES = {
    "iwslt": Architecture(
        ["--arch", "transformer_iwslt_de_en", *PRE_NORM, *DROPOUT], ["--arch", "powernorm_iwslt_de_en"], 10_000
    ),
    "wmt-big": Architecture(
        ["--arch", "transformer_wmt_en_de_big", *PRE_NORM, *DROPOUT], ["--arch", "powernorm_wmt_en_de_big"], 32_768
    ),
}
COMMON = [
    *("--max-update", "1000"),  # of which schedules of norms are shares
    *("data", "--share-all-embeddings", "--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"),
]


def dictionary(types: int) -> Dictionary:
    """A dictionary of that many types, special symbols included.

    Raises:
        ValueError: no room for a word behind the special symbols.
    """
    words = Dictionary()
    if types <= len(words):
        raise ValueError(f"expected --types > {len(words)}, the number of special symbols, got {types}")
    for number in range(types - len(words)):
        words.add_symbol(f"type{number}")
    return words


def flags(*words: str) -> argparse.Namespace:
    """A training command line, parsed by fairseq."""
    return options.parse_args_and_arch(options.get_training_parser(), [*COMMON, *words])


def build(args: argparse.Namespace, words: Dictionary) -> tuple[TranslationTask, nn.Module]:
    """A task and a model of the flags; the same weights wherever the parameters are the same."""
    task = TranslationTask(args, words, words)
    torch.manual_seed(0)
    return task, task.build_model(args)


def sample(words: Dictionary, tokens: int, longest: int, device: torch.device) -> dict:
    """A batch of sentence pairs with ``tokens`` positions a side (a multiple of ``longest``), a fifth of them padding,
    as fairseq collates it."""
    sentences = tokens // longest
    lengths = sentence_lengths(sentences, longest)
    text = torch.randint(words.nspecial, len(words), (sentences, longest))
    positions = torch.arange(longest)[None, :]
    source = text.masked_fill(positions < longest - lengths[:, None], words.pad())  # padded on the left
    target = text.flip(1).masked_fill(positions >= lengths[:, None], words.pad())
    previous = torch.cat([torch.full((sentences, 1), words.eos()), target[:, :-1]], dim=1)
    previous = previous.masked_fill(positions >= lengths[:, None], words.pad())
    inputs = {"src_tokens": source, "src_lengths": lengths, "prev_output_tokens": previous}
    return {
        "net_input": {name: tensor.to(device) for name, tensor in inputs.items()},
        "target": target.to(device),
        "ntokens": int(lengths.sum()),
        "nsentences": sentences,
        "id": torch.arange(sentences),
    }
