"""Looks for the way to cut up the Triton kernels' work that is fastest on the CUDA device at hand.

    python benchmarks/tune_triton.py --output results/benchmarks/triton_cuda

What is varied are the constants at the top of ``fairseq_powernorm/kernels/cuda.py``: one at a time, keeping what
is better, until a round over all of them changes nothing. What counts is the geometric mean over all shapes and types
of the device's time for ``power``'s pass forward and its pass backward, over that of the constants as they are.
"""

import argparse
import contextlib
import itertools
import math
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from bench_norms import DTYPES, batch
from device_time import CapturedWork, batches_to_rotate
from interleaved import add_output_options, check_numbers, check_output, checked_device, finish, surroundings, timed
from tqdm import tqdm

from fairseq_powernorm.files import run_command_line
from fairseq_powernorm.functional.masking import to_rows

CHOICES = {
    "ELEMENTS": (1024, 2048, 4096, 8192),
    "WARPS": (4, 8, 16),
    "CHANNELS": (64, 128, 256, 512),
    "PROGRAMS_PER_MULTIPROCESSOR": (2, 4, 8, 16),
    "STAGES": (1, 2, 3, 4),
    "FINISHED_CHANNELS": (8, 16, 32),
    "FINISHED_STRETCHES": (128, 256, 512),
}
WORTHWHILE = 0.99  # of the time before: less is noise

Settings = Mapping[str, int]


@contextlib.contextmanager
def settings_in_use(module, settings: Settings) -> Iterator[None]:
    """Within the block the module's constants are those; what it has remembered by the old ones is forgotten."""
    before = {name: getattr(module, name) for name in settings}
    try:
        for name, value in settings.items():
            setattr(module, name, value)
        module._programs.cache_clear()
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)
        module._programs.cache_clear()


def search(
    cost: Callable[[Settings], float], start: Settings, choices: Mapping[str, Sequence[int]]
) -> tuple[dict[str, int], dict[tuple, float]]:
    """The settings of least cost that changing one setting at a time leads to.

    Args:
        cost: of settings; infinite where they do not work. Asked once for each.
        start: the first ones.
        choices: the values of each setting.

    Returns:
        The settings, and every cost by the settings' values.
    """
    best, costs = dict(start), {}

    def known(settings: Settings) -> float:
        key = tuple(settings[name] for name in choices)
        if key not in costs:
            costs[key] = cost(settings)
        return costs[key]

    while True:
        before = dict(best)
        for name, values in choices.items():
            for value in values:
                if known({**best, name: value}) < WORTHWHILE * known(best):
                    best = {**best, name: value}
        if best == before:
            return best, costs


def passes(module, case: tuple[str, int, int], device: torch.device) -> Callable[[], float]:
    """A function that gives the seconds of both passes on one type, number of tokens and of channels."""
    dtype, tokens, channels = case
    x, grad, mask = batch(tokens, channels, DTYPES[dtype], True, device)
    vector = torch.ones(channels, device=device)
    count = batches_to_rotate(x) if device.type == "cuda" else 1
    sets = [(to_rows(x.clone(), mask)[0], grad.clone().view(-1, channels)) for _ in range(count)]
    padding = to_rows(x, mask)[1]

    def forward(rows, _):
        return module.normalize(rows, padding, None, vector, vector, vector, 1e-5, 0)

    def backward(rows, given):
        return module.gradient(rows, given, padding, None, vector, vector, vector, None, 1e-5, 0)

    calls = [[lambda each=each, one=one: one(*each) for each in sets] for one in (forward, backward)]
    if device.type != "cuda":
        return lambda: sum(timed(call, device)[0] for (call,) in calls)
    captured = [CapturedWork(each, device) for each in calls]
    return lambda: sum(work.seconds() for work in captured)


def tune(options: argparse.Namespace) -> None:
    """Searches, prints the best settings, and writes every trial."""
    check_numbers(options)
    device = checked_device(options.device)
    check_output(options)
    if device.type == "cpu":
        os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported
    from fairseq_powernorm.kernels import cuda

    cases = list(itertools.product(options.dtypes, options.tokens, options.channels))
    choices = {name: CHOICES[name] for name in options.constants}
    start = {name: getattr(cuda, name) for name in choices}
    times: dict[tuple, list[float]] = {}
    progress = tqdm(desc="settings", disable=None)

    def cost(settings: Settings) -> float:
        progress.update()
        found = []
        with settings_in_use(cuda, settings):
            for case in cases:
                try:
                    seconds = passes(cuda, case, device)
                except Exception as error:  # such as more shared memory than the device has
                    sys.stderr.write(f"{settings}: {case}: {type(error).__name__}: {str(error).splitlines()[0]}\n")
                    return math.inf
                found.append(statistics.median(seconds() for _ in range(options.rounds)))
                del seconds
        times[tuple(settings.values())] = found
        first = next(iter(times.values()))
        return statistics.geometric_mean(own / other for own, other in zip(found, first, strict=True))

    best, costs = search(cost, start, choices)
    progress.close()
    columns = (*choices, "over_start", *(f"{'_'.join(map(str, case))}_us" for case in cases))
    rows = []
    for values, each in sorted(costs.items(), key=lambda item: item[1]):
        micros = [round(1e6 * seconds, 2) for seconds in times.get(values, [])]
        rows.append(dict(zip(columns, (*values, round(each, 4), *micros), strict=False)))  # none where it failed
    finish(options, {**surroundings(options), "start": start, "best": best}, rows)
    gain = costs[tuple(best.values())]
    sys.stdout.write(f"best of {len(costs)}: {best}, {gain:.3f} of the time with {start}\n")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_output_options(parser, required=True)
    parser.add_argument("--tokens", type=int, nargs="+", default=[8192, 65536])
    parser.add_argument("--channels", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["float32", "bfloat16"])
    parser.add_argument("--constants", nargs="+", choices=CHOICES, default=list(CHOICES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cuda", help="(default: cuda; on the CPU Triton's interpreter is timed)")
    run_command_line(lambda: tune(parser.parse_args()))


if __name__ == "__main__":
    main()
