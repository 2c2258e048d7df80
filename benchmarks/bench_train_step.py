"""Whole training updates of ``powernorm_iwslt_de_en`` by norm, against stock fairseq's LayerNorm architecture.

    python benchmarks/bench_train_step.py --output results/benchmarks/train_step_cpu

An update is forward, backward, clipping and Adam on one batch; every norm has its own model in the same process.
``stock`` is ``transformer_iwslt_de_en``, pre-norm; ratios are to it. ``--profile`` shows where the time goes instead:
the share of an update that the norms' modules take forward, by a clock around each, and the operators by torch's
profiler.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import torch
from interleaved import (
    Parts,
    add_options,
    begin,
    check_multiple,
    check_numbers,
    finish,
    summarize,
    synchronize,
    take_turns,
    timed,
)
from small_models import OURS, STOCK, build, dictionary, flags, sample
from torch import nn

from fairseq_powernorm.files import run_command_line
from fairseq_powernorm.norms.base import TokenNorm

PROFILED = 4  # updates
GROUPS = ["--norm-group-scaling", "heads"]
MODELS = {
    "stock": STOCK,
    "layer": [*OURS, "--norm-type", "layer"],
    "power": [*OURS, "--norm-type", "power"],
    "power (groups)": [*OURS, "--norm-type", "power", *GROUPS],
    "power (both stacks)": [*OURS, "--norm-type", "power", "--decoder-norm-type", "power"],
    "pn-v": [*OURS, "--norm-type", "pn-v"],
    "batch": [*OURS, "--norm-type", "batch"],
}


def update(model: nn.Module, criterion, batch: dict, optimizer, device: torch.device) -> Callable[[], Parts]:
    """One optimizer update, as fairseq's trainer makes it."""

    def forward() -> torch.Tensor:
        return criterion(model, batch)[0]

    def step() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 25.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def call() -> Parts:
        forward_seconds, loss = timed(forward, device)
        backward_seconds, _ = timed(lambda: loss.backward(), device)
        step_seconds, _ = timed(step, device)
        parts = {"forward": forward_seconds, "backward": backward_seconds, "step": step_seconds}
        return {**parts, "update": sum(parts.values())}

    return call


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
    hooks = []
    for norm in {id(module): module for module in [*ours, *stock]}.values():
        hooks += [norm.register_forward_pre_hook(start), norm.register_forward_hook(stop)]
    try:
        yield seconds
    finally:
        for hook in hooks:
            hook.remove()


def share_of_norms(model: nn.Module, candidate: Callable[[], Parts], device: torch.device) -> float:
    """The share of :data:`PROFILED` updates that the norms' modules take forward."""
    with norms_timed(model, device) as seconds:
        whole = sum(candidate()["update"] for _ in range(PROFILED))
    return sum(seconds) / whole


def profile(
    models: dict[str, nn.Module], candidates: dict[str, Callable[[], Parts]], warmup: int, device: torch.device
) -> None:
    """Prints the norms' share of an update and the operators that take most of its time, by model."""
    for name, candidate in candidates.items():
        for _ in range(warmup):
            candidate()
        share = share_of_norms(models[name], candidate, device)
        with torch.profiler.profile() as profiler:
            for _ in range(PROFILED):
                candidate()
        order = "self_cpu_time_total" if device.type == "cpu" else "self_device_time_total"
        table = profiler.key_averages().table(sort_by=order, row_limit=14)
        sys.stdout.write(f"\n{name}: the norms' modules take {share:.2%} of an update forward\n{table}\n")


def benchmark(options: argparse.Namespace) -> None:
    """Measures the updates of every model."""
    check_numbers(options)
    check_multiple(options.tokens, options.longest)
    words = dictionary(options.types)
    found = begin(options)
    device = torch.device(options.device)
    batch = sample(words, options.tokens, options.longest, device)
    models, candidates = {}, {}
    for name in dict.fromkeys(["stock", *options.models]):
        args = flags(*MODELS[name])
        task, model = build(args, words)
        models[name] = model.to(device).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, betas=(0.9, 0.98))
        candidates[name] = update(model, task.build_criterion(args), batch, optimizer, device)
    if options.profile:
        profile(models, candidates, options.warmup, device)
        return
    rows = summarize(take_turns([candidates], options.rounds, options.warmup, "updates"), "stock")
    case = {"positions": batch["target"].numel(), "tokens": batch["ntokens"], "types": len(words)}
    for row in rows:
        row["tokens_per_second"] = round(1000 * batch["ntokens"] / row["ms"]) if row["part"] == "update" else None
    finish(options, found, [{**case, **row} for row in rows])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1024, help="positions a side in a batch (default: 1024)")
    parser.add_argument("--longest", type=int, default=32, help="tokens of the longest sentence (default: 32)")
    parser.add_argument("--types", type=int, default=10_000, help="size of the dictionary (default: 10000)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--profile", action="store_true", help="show where the time goes, and write nothing")
    add_options(parser, rounds=12, warmup=2)
    options = parser.parse_args()
    run_command_line(lambda: benchmark(options))


if __name__ == "__main__":
    main()
