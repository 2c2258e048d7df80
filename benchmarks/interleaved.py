"""Timing on a noisy machine: candidates take turns in one process, and what counts are ratios within a turn."""

import argparse
import csv
import datetime
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from tqdm import tqdm

from fairseq_powernorm.execution import commit, hardware, versions
from fairseq_powernorm.files import atomic_write, refuse_to_overwrite

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("tests/functional", "tests/kernels", "tests/norms", "tests/checkpoints/test_fold.py")

Parts = Mapping[str, float]
"""What one call of a candidate took: seconds by part, such as forward and backward."""


def take_turns(candidates: Mapping[str, Callable[[], Parts]], rounds: int, warmup: int, label: str = "") -> dict:
    """Calls every candidate once a round, in a new order each time.

    Returns:
        The seconds by candidate and part, a list with one entry for each round behind the warm-up.
    """
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in candidates}
    order, generator = list(candidates), random.Random(0)
    for number in tqdm(range(warmup + rounds), desc=label, leave=False, disable=None):
        generator.shuffle(order)
        for name in order:
            parts = candidates[name]()
            if number >= warmup:
                for part, value in parts.items():
                    seconds[name].setdefault(part, []).append(value)
    return seconds


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the values lie, by linear interpolation."""
    return float(torch.tensor(values, dtype=torch.float64).quantile(share))


def summarize(seconds: Mapping[str, Mapping[str, Sequence[float]]], baseline: str) -> list[dict[str, Any]]:
    """A row for each candidate and part: the median and the 20th and 80th percentile of its milliseconds, and of its
    ratio to the baseline in the same round."""
    rows = []
    for name, parts in seconds.items():
        for part, values in parts.items():
            ratios = [value / other for value, other in zip(values, seconds[baseline][part], strict=True)]
            row: dict[str, Any] = {"candidate": name, "part": part, "rounds": len(values)}
            for unit, numbers, scale in (("ms", values, 1000.0), ("ratio", ratios, 1.0)):
                row[unit] = round(scale * statistics.median(numbers), 4)
                row[f"{unit}_p20"] = round(scale * percentile(numbers, 0.2), 4)
                row[f"{unit}_p80"] = round(scale * percentile(numbers, 0.8), 4)
            rows.append(row)
    return rows


def require_green_tests() -> None:
    """Ends the program where the tests of what is to be measured fail: a wrong result is not worth timing."""
    sys.stderr.write(f"first the tests: {' '.join(TESTS)}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:warnings", *TESTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr
    if done.returncode:
        sys.exit(f"no benchmark while the tests are red: {last}")
    sys.stderr.write(f"{last}\n")


def add_options(parser: argparse.ArgumentParser, rounds: int, warmup: int) -> None:
    """The options that all benchmarks share."""
    parser.add_argument("--output", type=Path, required=True, help="writes OUTPUT.csv and OUTPUT.json")
    parser.add_argument("--force", action="store_true", help="replace the output")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"(default: {rounds})")
    parser.add_argument("--warmup", type=int, default=warmup, help=f"rounds that are not counted (default: {warmup})")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch on the CPU")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(default: %(default)s)"
    )
    parser.add_argument("--skip-tests", action="store_true", help="for trying the benchmark itself; writes nothing")


def keep_pages() -> None:
    """Starts the program again with the allocator's settings of the recipes (``configs/hardware/cpu.yaml``).

    Without them glibc takes the pages of every larger tensor back at once, and a norm's time is that of page faults.
    """
    settings = OmegaConf.load(ROOT / "configs" / "hardware" / "cpu.yaml").hardware.environment
    if any(name not in os.environ for name in settings):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**settings, **os.environ})


def begin(options: argparse.Namespace) -> None:
    """Checks the output and the tests, and sets the threads."""
    if options.device == "cpu":
        keep_pages()
    for suffix in (".csv", ".json"):
        refuse_to_overwrite(options.output.with_suffix(suffix), options.force)
    if not options.skip_tests:
        require_green_tests()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)


def finish(options: argparse.Namespace, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the rows and what they were measured on."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    if options.skip_tests:
        for row in rows:
            sys.stdout.write(f"{row['candidate']:28} {row['part']:10} {row['ms']:10.3f} ms  x {row['ratio']:.3f}\n")
        return
    with atomic_write(options.output.with_suffix(".csv")) as stream:
        writer = csv.DictWriter(stream, fieldnames=keys, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    surroundings = {
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "hardware": hardware(),
        "device": options.device,
        "threads": options.threads,
        "versions": versions(),
    }
    with atomic_write(options.output.with_suffix(".json")) as stream:
        json.dump(surroundings, stream, indent=2)
        stream.write("\n")
    sys.stderr.write(f"wrote {options.output}.csv and .json\n")
