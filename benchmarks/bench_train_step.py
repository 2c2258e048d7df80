"""Whole training updates of ``powernorm_iwslt_de_en`` by norm, against stock fairseq's LayerNorm architecture.

    python benchmarks/bench_train_step.py --output results/benchmarks/train_step_cpu

An update is forward, backward, clipping and Adam on one batch; every norm has its own model in the same process.
``stock`` is ``transformer_iwslt_de_en``, pre-norm; ratios are to it. Also: the share of an update that the norms'
modules take, by torch's profiler (``--profile``).
"""

import argparse
import sys
from collections.abc import Callable

import torch
from bench_norms import timed
from interleaved import Parts, add_options, begin, finish, summarize, take_turns
from small_models import OURS, STOCK, build, dictionary, flags, sample
from torch import nn

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


def update(model: nn.Module, criterion, batch: dict, optimizer, device: str) -> Callable[[], Parts]:
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


def profile(candidates: dict[str, Callable[[], Parts]]) -> None:
    """Prints the operators that take most of an update's time, by model."""
    for name, candidate in candidates.items():
        with torch.profiler.profile() as profiler:
            candidate()
        sys.stderr.write(f"\n{name}\n{profiler.key_averages().table(sort_by='self_cpu_time_total', row_limit=14)}\n")


def main() -> None:
    """Measures the updates of every model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1024, help="positions a side in a batch (default: 1024)")
    parser.add_argument("--longest", type=int, default=32, help="tokens of the longest sentence (default: 32)")
    parser.add_argument("--types", type=int, default=10_000, help="size of the dictionary (default: 10000)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--profile", action="store_true", help="show where the time goes, and write nothing")
    add_options(parser, rounds=12, warmup=2)
    options = parser.parse_args()
    begin(options)
    words = dictionary(options.types)
    batch = sample(words, options.tokens, options.longest, options.device)
    candidates = {}
    for name in dict.fromkeys(["stock", *options.models]):
        args = flags(*MODELS[name])
        task, model = build(args, words)
        model = model.to(options.device).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, betas=(0.9, 0.98))
        candidates[name] = update(model, task.build_criterion(args), batch, optimizer, options.device)
    if options.profile:
        profile(candidates)
        return
    rows = summarize(take_turns(candidates, options.rounds, options.warmup, "updates"), "stock")
    case = {"positions": options.tokens, "tokens": batch["ntokens"], "types": options.types}
    for row in rows:
        row["tokens_per_second"] = round(1000 * batch["ntokens"] / row["ms"]) if row["part"] == "update" else None
    finish(options, [{**case, **row} for row in rows])


if __name__ == "__main__":
    main()
