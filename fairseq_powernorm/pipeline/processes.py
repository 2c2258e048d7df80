"""Starting the commands of a run: printed first, logged whole, with progress, and ended together with their parent.

What a command computes depends on its arguments alone. So the caller's folder, locale and the variables of schedulers
and launchers do not reach it (:func:`clean_environment`).
"""

import itertools
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from .commands import fairseq_command
from .configuration import IN_CLONE, ROOT

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_PROGRESS = 15.0
SECONDS_TO_END = 45.0  # torchrun gives its workers 30
LINES_SHOWN_ON_FAILURE = 12
LINES_KEPT = 100  # torchrun's report is forty lines long
TORCHRUN_S_REPORT = "] failed (exitcode: "
FOREIGN_PREFIXES = ("SLURM_", "SBATCH_", "SRUN_", "PMI_", "PMIX_", "OMPI_", "MPI_", "TORCHELASTIC_", "PET_", "LC_")
FOREIGN_VARIABLES = (
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "NODE_RANK", "ROLE_NAME"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("LANG", "LANGUAGE", "LOGLEVEL", "WANDB_NAME", "PYTHONIOENCODING", "PYTHONSAFEPATH", "PYTHONWARNINGS"),
    *("PYTHONOPTIMIZE", "PYTHONINSPECT", "PYTHONCOERCECLOCALE"),
)

SIDE_BY_SIDE = "POWERNORM_SIDE_BY_SIDE"
"""The variable that is set where several runs share a terminal, which one bar each would overwrite."""


class Report(NamedTuple):
    """How far a command is: so many units of a total, if that is known, and what else is to be said."""

    done: int
    total: int | None
    unit: str
    text: str = ""

    def __str__(self) -> str:
        """``update 20 of 1000, loss 9.5``."""
        total = f" of {self.total}" if self.total else ""
        return f"{self.unit} {self.done}{total}{', ' if self.text else ''}{self.text}"


Progress = Callable[[str], Report | None]
"""Takes a line of output; gives a report of how far the command is, or None."""


class Display:
    """Shows reports: a bar with the remaining time on a terminal, elsewhere (and side by side) a line every 15 seconds.

    Args:
        label: what to call the run.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.bar: tqdm | None = None
        self.began = self.shown = time.monotonic()

    def show(self, report: Report) -> None:
        """Takes the next report."""
        now = time.monotonic()
        if self.bar is None:  # a training may go on somewhere in the middle
            self.first, self.began = report.done, now
            never = True if SIDE_BY_SIDE in os.environ else None
            shown = {"desc": self.label, "unit": f" {report.unit}s", "leave": False, "disable": never}
            self.bar = tqdm(total=report.total, initial=report.done, **shown)
        if not self.bar.disable:
            self.bar.set_postfix_str(report.text, refresh=False)
            self.bar.update(report.done - self.bar.n)
        elif now - self.shown >= SECONDS_BETWEEN_PROGRESS:
            logger.info("%s: %s%s", self.label, report, self._remaining(report, now - self.began))
            self.shown = now

    def _remaining(self, report: Report, elapsed: float) -> str:
        if not report.total or report.done <= self.first:
            return ""
        left = elapsed * (report.total - report.done) / (report.done - self.first)
        return f", {tqdm.format_interval(left)} left"

    def close(self) -> None:
        """Takes the bar away."""
        if self.bar is not None:
            self.bar.close()


def clean_environment(defaults: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a command: ``defaults``, over them this process's own without what would change a result.

    With RANK or SLURM_NNODES set, fairseq takes a single training for a part of a larger one and torchrun finds another
    number of workers; with another locale, files are read in another encoding. The devices to use, the threads and the
    paths of programs stay. Python reads and writes UTF-8, is this one in scripts too, finds a clone's package first.
    """
    kept = {
        name: value
        for name, value in {**(defaults or {}), **os.environ}.items()
        if not name.startswith(FOREIGN_PREFIXES) and name not in FOREIGN_VARIABLES
    }
    paths = [path for path in kept.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(ROOT)]
    kept["PYTHONPATH"] = os.pathsep.join([str(ROOT), *paths] if IN_CLONE else paths)
    return {**kept, "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1", "POWERNORM_PYTHON": sys.executable}


def dying_with(parent: int, *words: str) -> list[str]:
    """A command that ends when its parent process does, however that ends."""
    return [sys.executable, "-IS", str(Path(__file__).with_name("die_with_parent.py")), str(parent), *words]


def python_module(module: str, *arguments: str) -> list[str]:
    """``python -m MODULE …`` as a child of this process."""
    return dying_with(os.getpid(), sys.executable, "-m", module, *arguments)


def run_fairseq(
    program: str,
    arguments: Sequence[str],
    log: Path,
    label: str,
    environment: Mapping[str, str] | None = None,
    progress: Progress = lambda line: None,
    launcher: Sequence[str] = (),
) -> None:
    """Runs ``fairseq-PROGRAM``, as :func:`run_logged` does; with ``launcher``, arguments of torchrun, once a device.

    Training goes through ``powernorm-train``, which restores what fairseq's checkpoints leave out.
    """
    module = ["fairseq_powernorm.command_line", "train"] if program == "train" else [f"fairseq_cli.{program}"]
    command = python_module(*module, *arguments)
    if launcher:
        worker = dying_with(0, sys.executable, "-u", "-m", *module, *arguments)
        command = python_module("torch.distributed.run", *launcher, "--no-python", *worker)
    run_logged(command, fairseq_command(program, arguments, launcher), log, label, environment, progress)


def run_logged(
    command: Sequence[str],
    shown: str,
    log: Path,
    label: str,
    environment: Mapping[str, str] | None = None,
    progress: Progress = lambda line: None,
) -> None:
    """Runs a command from the repository's root and waits for it.

    Everything it prints is appended to ``log``; reports of ``progress`` are displayed. If this process is to end
    meanwhile, so is the command: it is asked to, and killed if it does not.

    Args:
        command: what is started.
        shown: how one would type it.
        log: file to append to.
        label: what to call the run.
        environment: variables to set where the caller has not set them.
        progress: reads the output.

    Raises:
        ValueError: it ended with an error; the message holds its last lines and names the log.
    """
    logger.info("+ %s", shown)
    log.parent.mkdir(parents=True, exist_ok=True)
    tail: deque[str] = deque(maxlen=LINES_KEPT)
    with open(log, "a", encoding="utf-8") as output:
        output.write(f"+ {shown}\n")
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**clean_environment(environment), "PYTHONUNBUFFERED": "1"},
            close_fds=False,  # the lock of `files.exclusive` goes along
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        display = Display(label)
        try:
            for line in process.stdout or ():
                output.write(line)
                tail.append(line.rstrip())
                if report := progress(line):
                    display.show(report)
            status = process.wait()
        except BaseException:
            stop(process)
            raise
        finally:
            display.close()
    if status != 0:
        lines = list(itertools.takewhile(lambda line: TORCHRUN_S_REPORT not in line, tail)) or list(tail)
        lines = lines[-LINES_SHOWN_ON_FAILURE:]
        reason = next((line for line in reversed(lines) if line), "no output")
        for line in lines:
            logger.error("%s| %s", label, line)
        program = shown.split()[0]
        raise ValueError(f"{label}: {program} failed with status {status}: {reason}; see {log}")


def stop(process: subprocess.Popen) -> None:
    """Ends a process: SIGTERM first, on which torchrun ends its workers, SIGKILL after 45 seconds."""
    process.terminate()
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def exit_on_sigterm() -> None:
    """Lets SIGTERM end this process as Ctrl-C does: what was begun is cleaned up, and what was started is ended."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def training_progress(max_update: int | None) -> Progress:
    """Reads ``fairseq-train --log-format json`` and reports updates, loss and the last validation loss."""
    valid = "none yet"

    def progress(line: str) -> Report | None:
        nonlocal valid
        found = re.search(r"\| INFO \| (train_inner|valid) \| (\{.*\})", line)
        if not found:
            return None
        try:
            stats = json.loads(found[2])
            if found[1] == "valid":
                valid = stats.get("valid_loss", valid)
                return None
            text = f"loss {stats['loss']}, validation loss {valid}"
            return Report(int(stats["num_updates"]), max_update, "update", text)
        except (KeyError, TypeError, ValueError, AttributeError):  # no reason to end a training
            return None

    return progress


def generation_progress(sentences: int) -> Progress:
    """Counts the translations that ``fairseq-generate`` prints."""
    done = 0

    def progress(line: str) -> Report | None:
        nonlocal done
        if not line.startswith("D-"):
            return None
        done += 1
        return Report(done, sentences, "sentence")

    return progress
