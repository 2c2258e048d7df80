"""Beam search of ``powernorm_iwslt_de_en`` by norm, folded and not, against LayerNorm.

    python benchmarks/bench_decode.py --output results/benchmarks/decode_cpu

Beam 5 on random sentences with a fixed number of output tokens, as untrained models do not end their sentences.
``folded`` has gone through ``powernorm-fold``. The encoder alone takes turns of its own, behind everybody's
translation. Ratios of seconds are to ``layer``; tokens are those of the output.
"""

import argparse
import functools
import logging

import torch
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models.transformer import DEFAULT_MAX_TARGET_POSITIONS
from fairseq.sequence_generator import SequenceGenerator
from interleaved import add_options, begin, finish, one_part, summarize, take_turns
from small_models import ARCHITECTURES, build, dictionary, flags, sample
from torch import nn

from fairseq_powernorm.checkpoints.fold import fold_state
from fairseq_powernorm.files import run_command_line

BEAM = 5
LONGEST = DEFAULT_MAX_TARGET_POSITIONS - 1  # and the end of the sentence
MODELS = {
    "layer": ["--norm-type", "layer"],
    "power": ["--norm-type", "power", "--norm-group-scaling", "0"],
    "power (groups)": ["--norm-type", "power", "--norm-group-scaling", "heads"],
    "power (both stacks)": ["--norm-type", "power", "--decoder-norm-type", "power", "--norm-group-scaling", "0"],
}
FOLDED = ("power", "power (both stacks)")


def folded(args: argparse.Namespace, model: nn.Module, words) -> nn.Module:
    """The model without its norms."""
    state = {"args": None, "cfg": {**convert_namespace_to_omegaconf(args), "model": args}, "model": model.state_dict()}
    small = fold_state(state)
    _, result = build(small["cfg"]["model"], words)
    result.load_state_dict(small["model"])
    return result


def models_to_measure(words, device: torch.device, half: bool = False) -> dict[str, nn.Module]:
    """Every model of :data:`MODELS`, and the folded ones behind it; with ``half`` in half precision."""
    logging.getLogger("fairseq_powernorm").setLevel(logging.WARNING)  # it names every site
    models = {}
    for name, words_of_norm in MODELS.items():
        args = flags(*ARCHITECTURES["iwslt"].ours, *words_of_norm)
        _, models[name] = build(args, words)
        if name in FOLDED:
            models[f"{name}, folded"] = folded(args, models[name], words)
    dtype = torch.float16 if half else torch.float32
    return {name: model.to(device, dtype).eval() for name, model in models.items()}


def benchmark(options: argparse.Namespace) -> None:
    """Measures every model."""
    if options.length > LONGEST:
        raise ValueError(f"expected --length <= {LONGEST}, as many positions as the models have, got {options.length}")
    words = dictionary(options.types)
    found = begin(options)
    device, length = torch.device(options.device), options.length
    batch = sample(words, options.sentences * length, length, device)
    tokens = batch["net_input"]["src_tokens"], batch["net_input"]["src_lengths"]
    searches, encoders = {}, {}
    for name, model in models_to_measure(words, device, options.half).items():
        limits = {"beam_size": BEAM, "max_len_a": 0, "max_len_b": length, "min_len": length}
        generate = functools.partial(SequenceGenerator([model], words, **limits).generate, [model], batch)
        searches[name] = one_part("translation", generate, device)
        encode = functools.partial(torch.no_grad()(model.encoder.forward), *tokens)
        encoders[name] = one_part("encoder", encode, device)
    rows = summarize(take_turns([searches, encoders], options.rounds, options.warmup, "beam search"), "layer")
    case = {"sentences": options.sentences, "length": length, "types": len(words), "beam": BEAM}
    case["precision"] = "float16" if options.half else "float32"
    output = options.sentences * length
    for row in rows:
        row["tokens_per_second"] = round(1000 * output / row["ms"]) if row["part"] == "translation" else None
    finish(options, {**found, "beam": BEAM}, [{**case, **row} for row in rows])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=16, help="(default: 16)")
    parser.add_argument("--length", type=int, default=25, help="tokens of a sentence, source and output (default: 25)")
    parser.add_argument("--types", type=int, default=10_000, help="size of the dictionary (default: 10000)")
    parser.add_argument("--half", action="store_true", help="half precision, as fairseq-generate --fp16")
    add_options(parser, rounds=30, warmup=2)
    options = parser.parse_args()
    run_command_line(lambda: benchmark(options))


if __name__ == "__main__":
    main()
