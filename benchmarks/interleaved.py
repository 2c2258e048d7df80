"""Timing on a noisy machine: candidates take turns in one process, and what counts are ratios within a turn."""

import argparse
import csv
import datetime
import json
import os
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from green_tests import ROOT, require_green_tests
from omegaconf import OmegaConf
from tqdm import tqdm

from fairseq_powernorm.files import atomic_write, refuse_to_overwrite
from fairseq_powernorm.kernels.operators import VARIABLE, missing
from fairseq_powernorm.pipeline.provenance import commit, hardware, processor, versions

QUIET = {
    "KINETO_LOG_LEVEL": "99",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}  # torch's profiler writes lines to stderr at each use
os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
BUSY = 0.5  # load average per core from which other work is warned of

Parts = Mapping[str, float]
"""What one call of a candidate took: seconds by part, such as forward and backward."""


def take_turns(
    passes: Sequence[Mapping[str, Callable[[], Parts]]], rounds: int, warmup: int, label: str = ""
) -> dict[str, dict[str, list[float]]]:
    """Calls every candidate once a round in each pass, in a new order each time.

    A round takes one pass after the other, and no candidate comes directly behind itself: what a call finds in the
    caches is what some other candidate left there. So training and evaluation, say, are passes of their own.

    Args:
        passes: the candidates by name, once for each pass.
        rounds: that count.
        warmup: rounds in front of them that do not.
        label: of the progress bar.

    Returns:
        The seconds by candidate and part, a list with one entry for each round behind the warm-up.
    """
    seconds: dict[str, dict[str, list[float]]] = {name: {} for candidates in passes for name in candidates}
    last, generator = None, random.Random(0)
    for number in tqdm(range(warmup + rounds), desc=label, leave=False, disable=None):
        for candidates in passes:
            order = list(candidates)
            generator.shuffle(order)
            if order[0] == last:
                order.append(order.pop(0))
            last = order[-1]
            for name in order:
                parts = candidates[name]()
                if number >= warmup:
                    for part, value in parts.items():
                        seconds[name].setdefault(part, []).append(value)
    return seconds


def synchronize(device: torch.device) -> None:
    """Waits for a CUDA device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(function: Callable[[], object], device: torch.device) -> tuple[float, object]:
    """Seconds, and the result."""
    synchronize(device)
    started = time.perf_counter()
    result = function()
    synchronize(device)
    return time.perf_counter() - started, result


def one_part(part: str, function: Callable[[], object], device: torch.device) -> Callable[[], Parts]:
    """A candidate that has one part."""
    return lambda: {part: timed(function, device)[0]}


def summarize(seconds: Mapping[str, Mapping[str, Sequence[float]]], baseline: str) -> list[dict[str, Any]]:
    """A row for each candidate and part: the median and the 20th and 80th percentile of its milliseconds, and of its
    ratio to the baseline in the same round."""
    rows = []
    for name, parts in seconds.items():
        for part, values in parts.items():
            ratios = [value / other for value, other in zip(values, seconds[baseline][part], strict=True)]
            row: dict[str, Any] = {"candidate": name, "part": part, "rounds": len(values)}
            for unit, numbers, scale in (("ms", values, 1000.0), ("ratio", ratios, 1.0)):
                found = (scale * numpy.quantile(numbers, (0.5, 0.2, 0.8))).round(4).tolist()
                row |= zip((unit, f"{unit}_p20", f"{unit}_p80"), found, strict=True)
            rows.append(row)
    return rows


def add_output_options(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """The options that all benchmarks share."""
    parser.add_argument("--output", type=Path, required=required, help="writes OUTPUT.csv and OUTPUT.json")
    parser.add_argument("--force", action="store_true", help="replace the output")


def add_options(parser: argparse.ArgumentParser, rounds: int, warmup: int) -> None:
    """The options of benchmarks whose candidates take turns."""
    add_output_options(parser)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"(default: {rounds})")
    parser.add_argument("--warmup", type=int, default=warmup, help=f"rounds that are not counted (default: {warmup})")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch on the CPU")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--skip-tests", action="store_true", help="for trying the benchmark itself; prints, writes nothing"
    )


def check_numbers(options: argparse.Namespace) -> None:
    """Raises ``ValueError`` for a number below 1; below 0 for the rounds of warm-up, of which there may be none."""
    for name, given in vars(options).items():
        least = 0 if name == "warmup" else 1
        for value in given if isinstance(given, list) else [given]:
            if isinstance(value, int) and not isinstance(value, bool) and value < least:
                raise ValueError(f"expected --{name} >= {least}, got {value}")


def check_multiple(tokens: int, longest: int) -> None:
    """Raises ``ValueError`` if sentences of ``longest`` positions cannot make up a batch of ``tokens`` positions."""
    if tokens % longest:
        raise ValueError(f"expected --tokens that are a multiple of the longest sentence's {longest}, got {tokens}")


def checked_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: neither the CPU nor a CUDA device of this machine.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"expected --device cpu, cuda or cuda:N, got {name!r}")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= found:
        raise ValueError(f"--device {name}: this machine has {found} CUDA devices that torch can use")
    return device


def writes(options: argparse.Namespace) -> bool:
    """Whether there will be files: not where the benchmark itself is tried, nor with ``--profile``."""
    return not any(getattr(options, name, False) for name in ("skip_tests", "profile"))


def output_paths(options: argparse.Namespace) -> tuple[Path, Path]:
    """OUTPUT.csv and OUTPUT.json; what OUTPUT has behind a dot stays."""
    return Path(f"{options.output}.csv"), Path(f"{options.output}.json")


def check_output(options: argparse.Namespace) -> None:
    """Raises ``ValueError`` or ``OSError`` if the output is not given, exists, or cannot have its folder."""
    if not writes(options):
        return
    if options.output is None:
        raise ValueError("--output is needed; without it --skip-tests prints the figures")
    for path in output_paths(options):
        refuse_to_overwrite(path, options.force)
        path.parent.mkdir(parents=True, exist_ok=True)


def keep_pages() -> None:
    """Starts the program again with the allocator's settings of the recipes (``configs/hardware/cpu.yaml``).

    Without them glibc takes the pages of every larger tensor back at once, and a norm's time is that of page faults.
    """
    settings = OmegaConf.load(ROOT / "configs" / "hardware" / "cpu.yaml").hardware.environment
    if any(name not in os.environ for name in settings):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**settings, **QUIET, **os.environ})


def warn_of_load(load: float, cores: int) -> None:
    """One line on stderr if the machine is busy: ``load``, of the last minute, over all its cores."""
    if load / cores > BUSY:
        sys.stderr.write(
            f"warning: a load average of {load:.2f} on {cores} cores at the start; other work distorts ratios too\n"
        )


def surroundings(options: argparse.Namespace) -> dict[str, Any]:
    """What is measured, and on what: every option, code, machine, versions."""
    return {
        "command": " ".join(["python", *sys.argv]),
        "options": {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()},
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "hardware": hardware(),
        "processor": processor(),
        "cores_allowed": len(os.sched_getaffinity(0)),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        VARIABLE: os.environ.get(VARIABLE),
        "cpu_kernels": missing("cpu") or "loaded",
        "versions": versions(),
    }


def begin(options: argparse.Namespace) -> dict[str, Any]:
    """Checks the options, output and tests, and sets the threads and the device.

    Returns:
        :func:`surroundings` at the start: the tests and the benchmark load the machine themselves, and what lies in
        the repository may be another commit once they end.

    Raises:
        ValueError, OSError: a bad option.
    """
    check_numbers(options)
    device = checked_device(options.device)
    check_output(options)
    if device.type == "cpu":
        keep_pages()
    elif device.index is not None:
        torch.cuda.set_device(device)
    found = surroundings(options)
    warn_of_load(os.getloadavg()[0], os.cpu_count() or 1)  # the load is the whole machine's, whatever cores we may use
    if not options.skip_tests:
        require_green_tests()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    return found


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """A line for each row: what was measured (all that stands in front of its candidate), the time and the ratio."""
    for row in rows:
        keys = list(row)
        case = ", ".join(f"{key} {row[key]}" for key in keys[: keys.index("candidate")])
        figures = f"{row['ms']:10.3f} ms  x {row['ratio']:.3f}"
        sys.stdout.write(f"{row['candidate']:28} {row['part']:12} {figures}  {case}".rstrip() + "\n")


def finish(options: argparse.Namespace, found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the rows and what they were measured on, or prints them where nothing is to be written.

    Raises:
        ValueError: no rows; files that are there stay.
    """
    if not rows:
        raise ValueError("nothing was measured, nothing is written")
    if not writes(options):
        print_rows(rows)
        return
    keys = list(dict.fromkeys(key for row in rows for key in row))
    table, record = output_paths(options)
    with atomic_write(table) as stream:
        writer = csv.DictWriter(stream, fieldnames=keys, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with atomic_write(record) as stream:
        json.dump(found, stream, indent=2)
        stream.write("\n")
    sys.stderr.write(f"wrote {table} and {record}\n")
