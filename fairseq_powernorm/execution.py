"""Running fairseq's commands: printed first, logged whole, with progress; and what a run's record says of its
surroundings."""

import importlib.metadata
import json
import logging
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .recipes import ROOT

logger = logging.getLogger(__name__)

PACKAGES = ("fairseq-powernorm", "fairseq-fixed", "torch", "numpy", "sacrebleu", "sentencepiece", "hydra-core")
SECONDS_BETWEEN_PROGRESS = 15.0
LINES_SHOWN_ON_FAILURE = 12
CODE = (".", ":(exclude)results")  # git's pathspecs of what a result can depend on

Progress = Callable[[str], str | None]
"""Takes a line of output; gives a short report of how far the command is, or None."""


def shell_command(program: str, arguments: Sequence[str], launcher: Sequence[str] = ()) -> str:
    """A fairseq command as one would type it, quoted for a shell: ``fairseq-train …``, or with the arguments of
    torchrun in ``launcher``, ``torchrun … -m fairseq_cli.train …``."""
    start = ["torchrun", *launcher, "-m", f"fairseq_cli.{program}"] if launcher else [f"fairseq-{program}"]
    return shlex.join([*start, *arguments])


def python_command(module: str, arguments: Sequence[str]) -> str:
    """A command of ours as one would type it: ``python -m MODULE …``, quoted for a shell."""
    return shlex.join(["python", "-m", module, *arguments])


def training_launcher(devices: int, nodes: int = 1, node_rank: int = 0, master: str = "") -> list[str]:
    """The arguments of torchrun for a training on several devices, one process a device; none for a single device.

    Args:
        devices: on all nodes together.
        nodes: machines.
        node_rank: which of them this is.
        master: ``HOST:PORT`` of node 0, needed with several.

    Raises:
        ValueError: devices that do not divide among the nodes, or several nodes without a master.
    """
    if devices == 1:
        return []
    if nodes < 1 or devices % nodes:
        raise ValueError(f"{devices} devices do not divide among {nodes} nodes")
    if nodes == 1:
        return ["--standalone", "--nproc-per-node", str(devices)]
    host, _, port = master.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"{nodes} nodes need HOST:PORT of the first as hardware.master, got {master!r}")
    if not 0 <= node_rank < nodes:
        raise ValueError(f"expected a node rank from 0 to {nodes - 1}, got {node_rank}")
    each = ["--nnodes", str(nodes), "--node-rank", str(node_rank), "--nproc-per-node", str(devices // nodes)]
    return [*each, "--master-addr", host, "--master-port", port]


def check_devices(devices: int, nodes: int = 1) -> None:
    """Raises ``ValueError`` if this machine has fewer CUDA devices than its share: fairseq would use the CPU."""
    import torch

    if torch.cuda.device_count() < devices // nodes:
        raise ValueError(
            f"the recipe's hardware has {devices // nodes} CUDA devices a machine, this one has "
            f"{torch.cuda.device_count()}; --hardware cpu trains without one"
        )


def run_fairseq(
    program: str,
    arguments: Sequence[str],
    log: Path,
    label: str,
    environment: Mapping[str, str] | None = None,
    progress: Progress = lambda line: None,
    launcher: Sequence[str] = (),
) -> None:
    """Runs ``fairseq-PROGRAM`` from the repository's root and waits for it.

    Everything it prints is appended to ``log``; reports of ``progress`` go to the logger, at most one every 15
    seconds, behind ``label``.

    Args:
        program: ``train``, ``generate``, …
        arguments: its command line.
        log: file to append to.
        label: what to call the run.
        environment: variables to set beside the present ones; the present ones win.
        progress: reads the output.
        launcher: arguments of torchrun, to start it once a device.

    Raises:
        ValueError: it ended with an error; the message holds its last lines and names the log.
    """
    command = shell_command(program, arguments, launcher)
    # Training goes through powernorm-train, which restores what fairseq's checkpoints leave out.
    module = ["fairseq_powernorm.transformer.commands", "train"] if program == "train" else [f"fairseq_cli.{program}"]
    start = ["torch.distributed.run", *launcher, "-m", *module] if launcher else module
    logger.info("+ %s", command)
    log.parent.mkdir(parents=True, exist_ok=True)
    variables = {**(environment or {}), **os.environ, "PYTHONUNBUFFERED": "1"}
    tail: deque[str] = deque(maxlen=LINES_SHOWN_ON_FAILURE)
    last_report = time.monotonic()
    with open(log, "a", encoding="utf-8") as output:
        output.write(f"+ {command}\n")
        process = subprocess.Popen(
            [sys.executable, "-m", *start, *arguments],
            cwd=ROOT,
            env=variables,
            close_fds=False,  # the lock of `files.exclusive` goes along
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        try:
            for line in process.stdout:
                output.write(line)
                tail.append(line.rstrip())
                report = progress(line)
                if report and time.monotonic() - last_report >= SECONDS_BETWEEN_PROGRESS:
                    logger.info("%s: %s", label, report)
                    last_report = time.monotonic()
        except BaseException:
            process.kill()
            raise
        finally:
            status = process.wait()
    if status != 0:
        reason = next((line for line in reversed(tail) if line), "no output")
        for line in tail:
            logger.error("%s| %s", label, line)
        raise ValueError(f"{label}: fairseq-{program} failed with status {status}: {reason}; see {log}")


def training_progress(max_update: int | None) -> Progress:
    """Reads ``fairseq-train --log-format json`` and reports updates, loss and the last validation loss."""
    valid = "none yet"

    def progress(line: str) -> str | None:
        nonlocal valid
        found = re.search(r"\| INFO \| (train_inner|valid) \| (\{.*\})", line)
        if not found:
            return None
        stats = json.loads(found[2])
        if found[1] == "valid":
            valid = stats.get("valid_loss", valid)
            return None
        total = f" of {max_update}" if max_update else ""
        return f"update {stats['num_updates']}{total}, loss {stats['loss']}, validation loss {valid}"

    return progress


def generation_progress(sentences: int) -> Progress:
    """Counts the translations that ``fairseq-generate`` prints."""
    done = 0

    def progress(line: str) -> str | None:
        nonlocal done
        if not line.startswith("D-"):
            return None
        done += 1
        return f"{done} of {sentences} sentences"

    return progress


def commit() -> str:
    """The repository's short commit, with ``-dirty`` behind it if tracked files differ from it; ``unknown`` outside
    of git.

    What lies in results/ does not count: several benchmarks in a row rewrite it, and it changes no figure."""
    git = ["git", "-C", str(ROOT)]
    try:
        short = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *CODE], capture_output=True, check=False)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return short.stdout.strip() + ("-dirty" if changes.returncode else "")


def processor() -> str:
    """The processor's model name."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def hardware() -> str:
    """The CUDA devices, or else the processor and the number of cores."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{processor()}, {os.cpu_count()} cores"


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
