"""Whole training updates by norm, against stock fairseq's LayerNorm architecture.

    python benchmarks/bench_train_step.py --output results/benchmarks/train_step_cpu

An update is ``train_step`` of fairseq's trainer on one batch, as fairseq-train makes it: forward, backward, clipping
and Adam, with ``fp16`` the loss scale too. Every norm has its own model in the same process. ``stock`` is fairseq's own
architecture, pre-norm; ratios are to it. ``peak_bytes``, on a CUDA device, is the most that an update takes beyond
weights and Adam's moments. ``--profile`` shows where the time goes instead: the share of an update that the norms'
modules take forward, by a clock around each, and the operators by torch's profiler.
"""

import argparse
import contextlib
import functools
import gc
import itertools
import logging
import sys
import time
from collections.abc import Callable, Iterator
from unittest import mock

import torch
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.trainer import Trainer
from interleaved import (
    Parts,
    add_options,
    begin,
    check_multiple,
    check_numbers,
    finish,
    one_part,
    summarize,
    synchronize,
    take_turns,
)
from small_models import ARCHITECTURES, build, dictionary, flags, sample
from torch import nn

from fairseq_powernorm import available_norms
from fairseq_powernorm.files import run_command_line
from fairseq_powernorm.norms.token_norm import TokenNorm

PROFILED = 2  # updates
VARIANTS = {
    "power (groups)": ["--norm-type", "power", "--norm-group-scaling", "heads"],
    "power (both stacks)": ["--norm-type", "power", "--decoder-norm-type", "power", "--norm-group-scaling", "0"],
    "power-released": ["--norm-type", "power-released", "--norm-group-scaling", "heads"],  # as its authors run it
}
MODELS = {name: ["--norm-type", name, "--norm-group-scaling", "0"] for name in available_norms()} | VARIANTS
USUAL = [name for name in MODELS if name != "power-released"]
PRECISIONS = {"float32": [], "fp16": ["--fp16"], "amp": ["--amp"]}
TRAINER = ["--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--lr", "1e-5", "--clip-norm", "25"]
TRAINER += ["--max-tokens", "999999"]


def trainer_of(words: list[str], types: int, batch: dict) -> Trainer:
    """fairseq's trainer of a model by its flags."""
    args, symbols = flags(*words, *TRAINER), dictionary(types)
    task, model = build(args, symbols)
    trainer = Trainer(convert_namespace_to_omegaconf(args), task, model, task.build_criterion(args))
    trainer.reset_dummy_batch(batch)
    return trainer


def peak_bytes(candidate: Callable[[], Parts], device: torch.device) -> int | None:
    """The most bytes of a CUDA device that an update takes beyond what was there before it."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    with mock.patch("torch.cuda.reset_peak_memory_stats"):  # which the trainer calls at the end of an update
        candidate()
    return torch.cuda.max_memory_allocated(device) - before


@contextlib.contextmanager
def norms_timed(model: nn.Module, device: torch.device) -> Iterator[list[float]]:
    """Within the block every norm's forward pass appends its seconds to the list.

    The norms of ours are counted, and torch's LayerNorm where it is not the inside of one.
    """
    seconds: list[float] = []
    started: list[float] = []

    def start(*_) -> None:
        synchronize(device)
        started.append(time.perf_counter())

    def stop(*_) -> None:
        synchronize(device)
        seconds.append(time.perf_counter() - started.pop())

    ours = [module for module in model.modules() if isinstance(module, TokenNorm)]
    inside = {id(module) for norm in ours for module in norm.modules() if module is not norm}
    stock = [module for module in model.modules() if isinstance(module, nn.LayerNorm) and id(module) not in inside]
    with contextlib.ExitStack() as hooks:
        for norm in {id(module): module for module in [*ours, *stock]}.values():
            hooks.enter_context(norm.register_forward_pre_hook(start))
            hooks.enter_context(norm.register_forward_hook(stop))
        yield seconds


def share_of_norms(model: nn.Module, candidate: Callable[[], Parts], device: torch.device) -> float:
    """The share of :data:`PROFILED` updates that the norms' modules take forward."""
    with norms_timed(model, device) as seconds:
        whole = sum(candidate()["update"] for _ in range(PROFILED))
    return sum(seconds) / whole


def profile(trainers: dict[str, Trainer], candidates: dict, warmup: int, device: torch.device) -> None:
    """Prints the norms' share of an update and the operators that take most of its time, by model."""
    for name, candidate in candidates.items():
        for _ in range(warmup):
            candidate()
        share = share_of_norms(trainers[name].get_model(), candidate, device)
        with torch.profiler.profile() as profiler:
            for _ in range(PROFILED):
                candidate()
        order = "self_cpu_time_total" if device.type == "cpu" else "self_device_time_total"
        table = profiler.key_averages().table(sort_by=order, row_limit=14)
        sys.stdout.write(f"\n{name}: the norms' modules take {share:.2%} of an update forward\n{table}\n")


def measure(options: argparse.Namespace, architecture: str, precision: str) -> list[dict]:
    """The rows of one architecture and precision, or none where the time is only shown."""
    device, known = torch.device(options.device), ARCHITECTURES[architecture]
    types = options.types or known.types
    batch = sample(dictionary(types), options.tokens, options.longest, device)
    words = {"stock": known.stock, **{name: [*known.ours, *MODELS[name]] for name in options.models}}
    common = [*PRECISIONS[precision], *(["--cpu"] if device.type == "cpu" else [])]
    trainers = {name: trainer_of([*each, *common], types, batch) for name, each in words.items()}
    candidates = {
        name: one_part("update", functools.partial(trainer.train_step, [batch]), device)
        for name, trainer in trainers.items()
    }
    label = f"{architecture}, {precision}"
    if options.profile:
        sys.stdout.write(f"\n{label}\n")
        profile(trainers, candidates, options.warmup, device)
        return []
    seconds = take_turns([candidates], options.rounds, options.warmup, label)
    peaks = {name: peak_bytes(candidate, device) for name, candidate in candidates.items()}
    case = {"architecture": architecture, "precision": precision, "positions": batch["target"].numel()}
    case |= {"tokens": batch["ntokens"], "types": types}
    rows = [{**case, **row, "peak_bytes": peaks[row["candidate"]]} for row in summarize(seconds, "stock")]
    for row in rows:
        row["tokens_per_second"] = round(1000 * batch["ntokens"] / row["ms"])
    return rows


def benchmark(options: argparse.Namespace) -> None:
    """Measures the updates of every architecture, precision and model."""
    check_numbers(options)
    check_multiple(options.tokens, options.longest)
    if options.types:
        dictionary(options.types)
    if "fp16" in options.precisions and not options.device.startswith("cuda"):
        raise ValueError("--precisions fp16 is fairseq's --fp16, which needs a CUDA device; amp and float32 do not")
    found, rows = begin(options), []
    for package in ("fairseq", "fairseq_powernorm"):
        logging.getLogger(package).setLevel(logging.WARNING)
    for architecture, precision in itertools.product(options.architectures, options.precisions):
        rows += measure(options, architecture, precision)
        gc.collect()
        if options.device.startswith("cuda"):
            torch.cuda.empty_cache()
    if not options.profile:
        finish(options, found, rows)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1024, help="positions a side in a batch (default: 1024)")
    parser.add_argument("--longest", type=int, default=32, help="tokens of the longest sentence (default: 32)")
    parser.add_argument("--types", type=int, help="size of the dictionary (default: 10000; with wmt-big 32768)")
    parser.add_argument("--architectures", nargs="+", choices=ARCHITECTURES, default=["iwslt"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["float32"])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=USUAL)
    parser.add_argument("--profile", action="store_true", help="show where the time goes, and write nothing")
    add_options(parser, rounds=12, warmup=2)
    options = parser.parse_args()
    run_command_line(lambda: benchmark(options))


if __name__ == "__main__":
    main()
