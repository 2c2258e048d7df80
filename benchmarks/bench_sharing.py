"""How many trainings of a recipe share a device, or a CPU's cores, well: updates per second of all of them together.

    python benchmarks/bench_sharing.py --recipe mix_de_en --hardware gpu_fp16 --jobs 1 2 4 8 --output sharing_cuda

A small model leaves a large device idle while Python starts its kernels; trainings side by side fill the gaps until the
device, or the cores that start the kernels, are full. The trainings differ in their seed alone, save and validate
nothing, and are timed from a third of their updates on, when all of them are under way.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from interleaved import add_output_options, check_numbers, check_output, finish, surroundings
from tqdm import tqdm

from fairseq_powernorm.analysis.curves import LINE
from fairseq_powernorm.files import run_command_line
from fairseq_powernorm.pipeline.commands import train_arguments
from fairseq_powernorm.pipeline.configuration import ROOT, compose_run
from fairseq_powernorm.pipeline.inputs import check_data

REPORTS = 12  # of a training's speed
SKIPPED_SHARE = 1 / 3


def start(arguments: list[str], log: Path, threads: int) -> subprocess.Popen:
    """A training in a process of its own."""
    variables = {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "fairseq_powernorm.command_line", "train", *arguments]
    with log.open("w") as stream:
        return subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **variables}, stdout=stream, stderr=subprocess.STDOUT
        )


def lines_of(training: subprocess.Popen, log: Path) -> list[str]:
    """What a training has logged, once it ends.

    Raises:
        ValueError: it failed; the message has its last lines.
    """
    status, lines = training.wait(), log.read_text(encoding="utf-8", errors="replace").splitlines()
    if status:
        raise ValueError(f"training {log.stem} ended with status {status}: {' | '.join(lines[-5:])}")
    return lines


def updates_per_second(lines: Sequence[str], updates: int) -> float:
    """The speed behind the first third of the updates, by what fairseq logs of each stretch: tokens a second over
    tokens an update, which have more digits than its updates a second.

    Args:
        lines: of the log; all stretches are of the same length.
        updates: of the whole training.

    Raises:
        ValueError: fewer than two reports there.
    """
    reports = [json.loads(found[2]) for line in lines if (found := LINE.search(line))]
    counted = [report for report in reports if int(report["num_updates"]) >= SKIPPED_SHARE * updates]
    if len(counted) < 2:
        raise ValueError(
            f"a training of {updates} updates reported its speed {len(counted)} times; give more --updates"
        )
    return statistics.harmonic_mean(float(report["wps"]) / float(report["wpb"]) for report in counted[1:])


def run_together(options: argparse.Namespace, jobs: int, folder: Path) -> list[float]:
    """The updates per second of each of ``jobs`` trainings side by side."""
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    trainings: dict[Path, subprocess.Popen] = {}
    try:
        for number in range(1, jobs + 1):
            config = compose_run(options.recipe, options.norm, options.hardware, number, options.override)
            own = folder / f"{jobs}_{number}"
            arguments = [*train_arguments(config, own), "--no-save", "--disable-validation", "--log-format", "json"]
            arguments += ["--max-update", str(options.updates)]
            arguments += ["--log-interval", str(max(1, options.updates // REPORTS))]
            log = own.with_suffix(".log")
            trainings[log] = start(arguments, log, threads)
        lines = [lines_of(training, log) for log, training in trainings.items()]
    finally:
        for training in trainings.values():
            training.kill()
    return [updates_per_second(each, options.updates) for each in lines]


def benchmark(options: argparse.Namespace) -> None:
    """Measures every number of trainings."""
    check_numbers(options)
    if options.output is not None:  # else the figures are printed alone
        check_output(options)
    check_data(compose_run(options.recipe, options.norm, options.hardware, 1, options.override))
    found, speeds = surroundings(options), {}
    with tempfile.TemporaryDirectory() as folder:
        for jobs in tqdm(dict.fromkeys(options.jobs), desc="trainings side by side", disable=None):
            speeds[jobs] = run_together(options, jobs, Path(folder))
    first, rows = sum(speeds[options.jobs[0]]), []
    for jobs, each in speeds.items():
        mean, together = statistics.fmean(each), sum(each)
        sys.stdout.write(f"{jobs:3} trainings: {mean:.2f} updates a second each, {together:.2f} together\n")
        figures = {"each": mean, "together": together, "together_over_first": together / first}
        rows.append({"jobs": jobs, **{name: round(value, 3) for name, value in figures.items()}})
    if options.output is not None:
        finish(options, found, rows)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", required=True, help="a file of configs/recipe, prepared")
    parser.add_argument("--norm", default="power", help="a file of configs/norm (default: power)")
    parser.add_argument("--hardware", default="cpu", help="a file of configs/hardware (default: cpu)")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 4, 8], help="(default: 1 2 4 8)")
    parser.add_argument("--updates", type=int, default=240, help="of each training (default: 240)")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="a Hydra override")
    add_output_options(parser)
    run_command_line(lambda: benchmark(parser.parse_args()))


if __name__ == "__main__":
    main()
