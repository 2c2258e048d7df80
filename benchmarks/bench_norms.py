"""Every norm against LayerNorm: forward, backward and evaluation, by tokens, channels, type, padding and backend.

    python benchmarks/bench_norms.py --output results/benchmarks/norms_cpu

``layer`` is ``torch.nn.LayerNorm``, the baseline of every ratio. ``copy`` is the floor: as many bytes read and written
as any norm has to (x to y; then x and dY to dX), and ``of_copy`` its time over a norm's: the share of the memory's
bandwidth that the norm reaches. Backends: ``kernels`` (C++ or Triton), ``plain`` torch, and that under
``torch.compile``; there, and on a CUDA device, ``layer`` is compiled too, and ``over_fastest_layer`` is over the better
one. Evaluation takes turns of its own, behind everybody's training passes. ``kept`` is what a training pass keeps for
the backward pass, x included; ``peak`` the most that a training step's tensors take beyond x and dY.

On a CUDA device times are the device's (see :mod:`device_time`), and ``host`` is what Python takes to start a step.
"""

import argparse
import itertools
import statistics
import sys
from types import SimpleNamespace

import torch
from candidates import Candidate, Copy
from interleaved import (
    add_options,
    begin,
    check_multiple,
    check_numbers,
    checked_device,
    finish,
    summarize,
    take_turns,
)
from torch import Tensor, nn

from fairseq_powernorm import build_norm
from fairseq_powernorm.files import run_command_line
from fairseq_powernorm.kernels import operators, plain
from fairseq_powernorm.norms.layer_norm import LayerNorm
from fairseq_powernorm.norms.registry import NORMS as REGISTRY

NORMS: dict[str, dict[str, int]] = {name: {} for name, norm in REGISTRY.items() if norm is not LayerNorm}
for name, norm in REGISTRY.items():  # and those of Table 1 with the scaling that they have there, of four heads
    if (scaling := norm.declaration.auto_group_scaling) != "0":
        NORMS[f"{name} (groups)"] = {"group_scaling": 4 if scaling == "heads" else int(scaling)}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SENTENCE = 128  # tokens of the longest sentence in a batch
BACKENDS = ("kernels", "plain", "compiled")
LAYERS = ("layer", "layer compiled")


def compiled_passes() -> SimpleNamespace:
    """The plain passes, compiled by torch."""
    return SimpleNamespace(**{name: torch.compile(getattr(plain, name), dynamic=False) for name in operators.NAMES})


def sentence_lengths(sentences: int, longest: int) -> Tensor:
    """Lengths (sentences,) in tokens that leave a fifth of the batch to padding: from 0.6 to 1 of ``longest``, or 0.8
    of it for a single sentence."""
    shares = torch.linspace(0.6, 1.0, sentences) if sentences > 1 else torch.tensor([0.8])
    return shares.mul(longest).round().clamp(min=1).long()


def batch(
    tokens: int, channels: int, dtype: torch.dtype, padded: bool, device: torch.device
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(T, B, C) activations, a gradient, and a mask (B, T) with about a fifth of padding, as batches of sentences have.

    Raises:
        ValueError: ``tokens`` that sentences of the longest length do not make up.
    """
    longest = min(SENTENCE, tokens)
    check_multiple(tokens, longest)
    sentences = tokens // longest
    x, grad = (torch.randn(longest, sentences, channels, device=device).to(dtype) for _ in range(2))
    if not padded:
        return x, grad, None
    mask = torch.arange(longest)[None, :] >= sentence_lengths(sentences, longest)[:, None]
    return x, grad, mask.to(device)


def modules_of(
    norms: list[str], backends: list[str], channels: int, compiled_layer: bool
) -> dict[str, tuple[nn.Module, str]]:
    """LayerNorm, compiled too if asked for, and every norm by every backend that has it, by the candidate's name; with
    the backend.

    Norms whose groups do not divide the channels are left out.
    """
    modules = {"layer": (nn.LayerNorm(channels), "kernels")}
    if compiled_layer:
        modules["layer compiled"] = (nn.LayerNorm(channels), "compiled")
    for norm in norms:
        name, settings = norm.split(" ")[0], NORMS[norm]
        if channels % settings.get("group_scaling", 1):
            continue
        for backend in backends:
            if name != "power-released" or backend != "compiled":
                modules[f"{norm} {backend}"] = (build_norm(name, channels, **settings), backend)
    return modules


def check(options: argparse.Namespace) -> None:
    """Raises ``ValueError`` for tokens that are no batch, and for kernels that are not there."""
    check_numbers(options)
    for tokens in options.tokens:
        check_multiple(tokens, min(SENTENCE, tokens))
    if "kernels" in options.backends and (reason := operators.missing(checked_device(options.device).type)):
        raise ValueError(f"--backends kernels, but there are {reason}")


def say_what_is_left_out(options: argparse.Namespace) -> None:
    """A line on stderr for each norm whose groups do not divide the channels."""
    for channels, norm in itertools.product(options.channels, options.norms):
        if channels % (groups := NORMS[norm].get("group_scaling", 1)):
            sys.stderr.write(f"{channels} channels without {norm}: its {groups} groups do not divide them\n")


def measure(options: argparse.Namespace, compiled: SimpleNamespace, case: dict) -> list[dict]:
    """The rows of one case: its dtype, channels, tokens and padding."""
    dtype, channels, tokens, padding = case.values()
    device = torch.device(options.device)
    torch.compiler.reset()  # which gives up on a function, silently, behind its eighth shape
    x, grad, mask = batch(tokens, channels, DTYPES[dtype], padding == "yes", device)
    compiled_layer = device.type == "cuda" or "compiled" in options.backends
    candidates = {
        name: Candidate(module.to(device, DTYPES[dtype]), mask, x, grad, backend, compiled)
        for name, (module, backend) in modules_of(options.norms, options.backends, channels, compiled_layer).items()
    }
    timed_ones = {**candidates, "copy": Copy(x, grad)}
    passes = [{name: getattr(each, part) for name, each in timed_ones.items()} for part in ("train", "evaluate")]
    label = f"{dtype} {tokens} x {channels}, padding {padding}"
    seconds = take_turns(passes, options.rounds, options.warmup, label)
    memory = {
        "kept": {name: candidate.kept() for name, candidate in candidates.items()},
        "peak": {name: candidate.peak() for name, candidate in candidates.items()},
    }
    rows = []
    for row in with_floor_and_fastest(summarize(seconds, "layer"), seconds):
        name = row["candidate"]
        for kind, found in memory.items():
            row[f"{kind}_bytes"] = found.get(name)
            row[f"{kind}_over_layer"] = round(found[name] / found["layer"], 4) if name in found else None
        rows.append({**case, **row})
    return rows


def with_floor_and_fastest(found: list[dict], seconds: dict[str, dict[str, list[float]]]) -> list[dict]:
    """The rows with ``over_fastest_layer``, by medians, and ``of_copy``, the median over rounds."""
    layers = [row for row in found if row["candidate"] in LAYERS]
    for row in found:
        name, part = row["candidate"], row["part"]
        fastest = min(layer["ms"] for layer in layers if layer["part"] == part)
        row["over_fastest_layer"] = round(row["ms"] / fastest, 4)
        shares = [floor / own for floor, own in zip(seconds["copy"].get(part, ()), seconds[name][part], strict=False)]
        row["of_copy"] = round(statistics.median(shares), 4) if shares else None
    return found


def benchmark(options: argparse.Namespace) -> None:
    """Measures every combination that the options name."""
    check(options)
    found = begin(options)
    say_what_is_left_out(options)
    compiled = compiled_passes()
    combinations = itertools.product(options.dtypes, options.channels, options.tokens, options.padding)
    cases = [dict(zip(("dtype", "channels", "tokens", "padding"), each, strict=True)) for each in combinations]
    finish(options, found, [row for case in cases for row in measure(options, compiled, case)])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 4096, 16384])
    parser.add_argument("--channels", type=int, nargs="+", default=[128, 256, 512, 1024])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["float32"])
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=["kernels", "plain"])
    parser.add_argument("--norms", nargs="+", choices=NORMS, default=list(NORMS))
    parser.add_argument("--padding", nargs="+", choices=("yes", "no"), default=["yes", "no"])
    add_options(parser, rounds=30, warmup=4)
    options = parser.parse_args()
    run_command_line(lambda: benchmark(options))


if __name__ == "__main__":
    main()
