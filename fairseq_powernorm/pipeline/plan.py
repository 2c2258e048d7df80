"""What a whole recipe or a study does, as one object: printed by ``--dry-run``, or carried out.

A plan is a list of steps. A step is one command, or jobs that run side by side: the runs, each a process of its own
(``powernorm-run run …``) that goes through its stages and has its share of the devices and cores.
"""

import logging
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from .configuration import ROOT
from .processes import SECONDS_TO_END, SIDE_BY_SIDE, clean_environment, python_module

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Command:
    """A script or a verb of ours with its options, run from :data:`~.configuration.ROOT`.

    Attributes:
        words: the command.
        dry_run: it prints what it would do itself, with ``--dry-run`` after it.
    """

    words: tuple[str, ...]
    dry_run: bool = False

    def shown(self) -> Iterator[str]:
        """The lines of ``--dry-run``."""
        if not self.dry_run:
            yield shlex.join(self.words)
            return
        command = [*executable(self.words), "--dry-run"]
        done = subprocess.run(
            command, cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, encoding="utf-8", check=False
        )
        if done.returncode:
            raise ValueError(f"{shlex.join(self.words)} --dry-run failed with status {done.returncode}, see above")
        yield from done.stdout.splitlines()


def executable(words: Sequence[str]) -> list[str]:
    """A command as it is started: ``powernorm-run`` by this Python, and ended together with this process."""
    return python_module("fairseq_powernorm.pipeline", *words[1:]) if words[0] == "powernorm-run" else list(words)


@dataclass(frozen=True)
class Job:
    """A run, or a second ending of one.

    Attributes:
        arguments: of ``powernorm-run``.
        commands: what it starts, as ``--dry-run`` prints it.
    """

    arguments: tuple[str, ...]
    commands: tuple[str, ...]


@dataclass(frozen=True)
class Jobs:
    """Jobs that run side by side, as many at a time as there are slots.

    Attributes:
        jobs: in the order in which they start.
        slots: how many at the same time.
        gpus: CUDA devices for all; None leaves them to the jobs.
        devices: of them, for one job.
    """

    jobs: tuple[Job, ...]
    slots: int
    gpus: int | None = None
    devices: int = 1

    def shown(self) -> Iterator[str]:
        """The lines of ``--dry-run``."""
        for job in self.jobs:
            yield from job.commands

    def environment_of(self, slot: int) -> dict[str, str]:
        """What is set for a slot's jobs: its devices, of those that the caller may use, and its threads. Two processes
        that each use every core are many times slower than two that share them."""
        given = {SIDE_BY_SIDE: "1"} if self.slots > 1 else {}
        given |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(max(1, cores() // self.slots))}
        if self.gpus is not None:
            visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
            names = (visible or [str(number) for number in range(self.gpus)])[: self.gpus]
            first = slot % (self.gpus // self.devices) * self.devices
            given["CUDA_VISIBLE_DEVICES"] = ",".join(names[first : first + self.devices])
        return given


Plan = Sequence[Command | Jobs]


def cores() -> int:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0))


def print_plan(plan: Plan) -> None:
    """Prints every command of a plan on stdout and does nothing."""
    for step in plan:
        sys.stdout.writelines(f"{line}\n" for line in step.shown())


class Executor:
    """Carries out plans; when it is told to stop, what it has started ends, with all that that has started."""

    def __init__(self) -> None:
        self.started: set[subprocess.Popen] = set()
        self.stopped = False
        self.lock = threading.Lock()

    def execute(self, plan: Plan) -> None:
        """Every step, one after the other.

        Raises:
            ValueError: a command or some of the jobs failed; the steps after it are left undone.
        """
        try:
            for step in plan:
                if isinstance(step, Jobs):
                    self._run_jobs(step)
                elif status := self._run(executable(step.words), step.words, {}):
                    raise ValueError(f"{shlex.join(step.words[:2])} failed with status {status}, see above")
        except BaseException:
            self.stop()
            raise

    def _run_jobs(self, step: Jobs) -> None:
        free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(step.slots):
            free.put(slot)

        def run_one(job: Job) -> int:
            slot = free.get()
            try:
                shown = ("powernorm-run", *job.arguments)
                return self._run(executable(shown), shown, step.environment_of(slot))
            finally:
                free.put(slot)

        with ThreadPoolExecutor(step.slots) as pool:
            try:
                failed = sum(status != 0 for status in pool.map(run_one, step.jobs))
            except BaseException:
                self.stop()  # before the pool waits for its threads
                raise
        if failed:
            raise ValueError(
                f"{failed} of {len(step.jobs)} runs failed, see above; once the cause is gone, the same command "
                "continues where they stopped"
            )

    def _run(self, command: Sequence[str], shown: Sequence[str], environment: dict[str, str]) -> int:
        """Starts a command in a process group of its own and waits for it; gives its exit status."""
        with self.lock:
            if self.stopped:
                return 1
            logger.info("+ %s", shlex.join(shown))
            process = subprocess.Popen(
                command, cwd=ROOT, env={**clean_environment(), **environment}, stdin=subprocess.DEVNULL, process_group=0
            )
            self.started.add(process)
        status = process.wait()
        with self.lock:
            self.started.discard(process)
        return status

    def stop(self) -> None:
        """Ends everything that runs and starts nothing more."""
        with self.lock:
            self.stopped, running = True, list(self.started)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in running:
                try:
                    os.killpg(process.pid, number)
                except ProcessLookupError:
                    continue
            for process in running:
                try:
                    process.wait(SECONDS_TO_END + 5)
                except subprocess.TimeoutExpired:
                    break
