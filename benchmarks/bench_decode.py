"""Beam search of ``powernorm_iwslt_de_en`` by norm, folded and not, against LayerNorm.

    python benchmarks/bench_decode.py --output results/benchmarks/decode_cpu

Beam 5 on random sentences with a fixed number of output tokens, as untrained models do not end their sentences.
``folded`` has gone through ``powernorm-fold``. Ratios of seconds are to ``layer``; tokens are those of the output.
"""

import argparse
from collections.abc import Callable

import torch
from bench_norms import timed
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.sequence_generator import SequenceGenerator
from interleaved import Parts, add_options, begin, finish, summarize, take_turns
from small_models import OURS, build, dictionary, flags, sample
from torch import nn

from fairseq_powernorm.checkpoints.fold import fold_state

MODELS = {
    "layer": ["--norm-type", "layer"],
    "power": ["--norm-type", "power"],
    "power (groups)": ["--norm-type", "power", "--norm-group-scaling", "heads"],
    "power (both stacks)": ["--norm-type", "power", "--decoder-norm-type", "power"],
}
FOLDED = ("power", "power (both stacks)")


def folded(args: argparse.Namespace, model: nn.Module, words) -> nn.Module:
    """The model without its norms."""
    state = {"args": None, "cfg": {**convert_namespace_to_omegaconf(args), "model": args}, "model": model.state_dict()}
    small = fold_state(state)
    _, result = build(small["cfg"]["model"], words)
    result.load_state_dict(small["model"])
    return result


def search(generator: SequenceGenerator, batch: dict, models: list[nn.Module], device: str) -> Callable[[], Parts]:
    """Encodes and translates the batch."""
    tokens = batch["net_input"]["src_tokens"], batch["net_input"]["src_lengths"]

    def call() -> Parts:
        with torch.no_grad():
            encoder, _ = timed(lambda: models[0].encoder(*tokens), device)
            whole, _ = timed(lambda: generator.generate(models, batch), device)
        return {"encoder": encoder, "translation": whole}

    return call


def main() -> None:
    """Measures every model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=16)
    parser.add_argument("--length", type=int, default=25, help="tokens of a sentence, source and output (default: 25)")
    parser.add_argument("--types", type=int, default=10_000, help="size of the dictionary (default: 10000)")
    add_options(parser, rounds=30, warmup=2)
    options = parser.parse_args()
    begin(options)
    words, candidates = dictionary(options.types), {}
    batch = sample(words, options.sentences * options.length, options.length, options.device)
    for name, words_of_norm in MODELS.items():
        args = flags(*OURS, *words_of_norm)
        _, model = build(args, words)
        for label, each in ((name, model), (f"{name}, folded", folded(args, model, words) if name in FOLDED else None)):
            if each is None:
                continue
            each = each.to(options.device).eval()
            generator = SequenceGenerator(
                [each], words, beam_size=5, max_len_a=0, max_len_b=options.length, min_len=options.length
            )
            candidates[label] = search(generator, batch, [each], options.device)
    rows = summarize(take_turns(candidates, options.rounds, options.warmup, "beam search"), "layer")
    tokens = options.sentences * options.length
    for row in rows:
        row["tokens_per_second"] = round(1000 * tokens / row["ms"]) if row["part"] == "translation" else None
    finish(options, rows)


if __name__ == "__main__":
    main()
