"""What a run learns from Slurm, whose programs are played here; tests/integration/test_slurm.py has the real ones."""

import os
import subprocess
import sys

import pytest

from fairseq_powernorm.pipeline import commands, slurm, sweep
from fairseq_powernorm.pipeline.configuration import compose_run

NODES = """\
NodeName=gpu07 Arch=x86_64 CoresPerSocket=16 NodeAddr=10.0.0.7 NodeHostName=gpu07 Version=22.05.8
NodeName=gpu09 Arch=x86_64 CoresPerSocket=16 NodeAddr=10.0.0.9 NodeHostName=gpu09 Version=22.05.8
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Makes a program of Slurm's that prints a text if it is given these arguments."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def make(name, arguments="", output=""):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n[ \"$*\" = '{arguments}' ] && cat <<'END'\n{output}END\n")
        path.chmod(0o755)

    return make


def launcher(*overrides):
    return commands.launcher_of(compose_run("demo_de_en", overrides=["hardware.devices=4", *overrides]), 1)


def test_processes_meet_on_the_first_machine(program, monkeypatch):
    program("scontrol", "--oneliner show node gpu[07,09]", NODES)
    monkeypatch.setenv("SLURM_JOB_ID", "1234567")
    with pytest.raises(ValueError, match="2 nodes need HOST:PORT of the first"):  # a job, but not started by srun
        launcher("hardware.nodes=2")
    monkeypatch.setenv("SLURM_STEP_NODELIST", "gpu[07,09]")
    assert launcher("hardware.nodes=2")[-4:] == ["--master-addr", "10.0.0.7", "--master-port", "29967"]
    assert launcher("hardware.nodes=2", "hardware.master=a:1")[-4:] == ["--master-addr", "a", "--master-port", "1"]
    monkeypatch.setenv("SLURM_STEP_NODELIST", "unknown")
    with pytest.raises(ValueError, match="2 nodes need HOST:PORT of the first"):
        launcher("hardware.nodes=2")


@pytest.mark.parametrize("devices", [1, 2])
def test_processes_on_the_cpu_have_the_only_backends_that_work_there(devices):
    config = compose_run("smoke_de_en", overrides=[f"hardware.devices={devices}"])
    flags = dict.fromkeys(commands.train_arguments(config, "F"))
    assert {"--ddp-backend", "legacy_ddp", "--distributed-backend", "gloo"} <= flags.keys() or devices == 1
    assert ("--distributed-backend" in flags) == (devices > 1)


def test_a_sweep_by_slurm_says_what_is_missing(tmp_path, program, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sweep", "--multirun", "hydra/launcher=submitit_slurm"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="needs a machine with Slurm, this one has no srun"):
        sweep.prepare_launcher()
    program("srun")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the extra cluster"):
        sweep.prepare_launcher()


QUEUE = """\
7_0|COMPLETED|node1
7_1|RUNNING|node2
7_[2-3]|PENDING|
"""


def test_without_accounting_the_queue_says_what_became_of_jobs(program, monkeypatch):
    submitit = pytest.importorskip("submitit.slurm.slurm")
    monkeypatch.setattr(submitit.SlurmJob, "watcher", submitit.SlurmJob.watcher)
    monkeypatch.setattr("getpass.getuser", lambda: "me")
    program("sacct", "with accounting")
    assert not slurm.has_accounting()
    program("squeue", "--user=me --noheader --array --states=all --format=%i|%T|%N", QUEUE)
    slurm.watch_queue()
    watcher = submitit.SlurmJob.watcher
    for job in ("7_0", "7_1", "7_2", "7_3", "6"):
        watcher.register_job(job)
    states = {job: watcher.get_state(job, mode="force") for job in ("7_0", "7_1", "7_3", "6")}
    assert states == {"7_0": "COMPLETED", "7_1": "RUNNING", "7_3": "PENDING", "6": "GONE"}
    assert [watcher.is_done(job, mode="cache") for job in states] == [True, False, False, True]


def test_an_import_of_the_sweep_leaves_hydra_to_fairseq():
    """Which speaks version 1.1 of it."""
    program = "import fairseq_powernorm.pipeline.sweep; from hydra import version; print(version.base_at_least('1.2'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
