"""What Slurm says of the job that this process is a task of, or of the jobs that it has submitted."""

import getpass
import os
import re
import subprocess
from typing import Any

FIRST_PORT, PORTS = 29400, 1000  # below those that Linux hands out by itself


def node_rank() -> int:
    """The number of this machine among those of the job step, from 0."""
    return int(os.environ.get("SLURM_NODEID", "0"))


def master() -> str | None:
    """ADDRESS:PORT at which the processes of a training on several machines meet: the address by which Slurm itself
    reaches the first machine of the job step, and a port that jobs on the same machine do not share."""
    job, nodes = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_STEP_NODELIST")
    if not job or not nodes:
        return None
    done = subprocess.run(
        ["scontrol", "--oneliner", "show", "node", nodes], capture_output=True, encoding="utf-8", check=False
    )
    found = re.search(r"NodeAddr=(\S+)", done.stdout)
    return f"{found[1]}:{FIRST_PORT + int(job) % PORTS}" if found else None


def has_accounting() -> bool:
    """Whether Slurm keeps accounts of jobs, which ``sacct`` reads."""
    return subprocess.run(["sacct"], capture_output=True, check=False).returncode == 0


def watch_queue() -> None:
    """Lets submitit ask ``squeue`` for the state of its jobs, where Slurm keeps no accounts.

    submitit knows ``sacct`` alone: without accounts it would warn at every look, and wait forever for a job that was
    cancelled. A job that is no longer in the queue is over.
    """
    from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

    class QueueWatcher(SlurmInfoWatcher):
        def _make_command(self) -> list[str] | None:
            columns = ["--noheader", "--array", "--states=all", "--format=%i|%T|%N"]
            return ["squeue", f"--user={getpass.getuser()}", *columns] if super()._make_command() else None

        def read_info(self, string: bytes | str) -> dict[str, dict[str, Any]]:
            text = string if isinstance(string, str) else string.decode()
            found = super().read_info(f"JobID|State|NodeList\n{text}")
            return {job: found.get(job, {"State": "GONE"}) for job in self._registered - self._finished}

    SlurmJob.watcher = QueueWatcher(delay_s=60)
