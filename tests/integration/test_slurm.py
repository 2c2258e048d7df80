"""A real Slurm with two nodes on this machine (with_slurm.sh): a training on both nodes, one that Slurm puts back into
its queue, and a sweep."""

import csv
import os
import re
import subprocess
import sys
import time

import pytest
import torch

from fairseq_powernorm.checkpoints.io import load_checkpoint
from fairseq_powernorm.files import read_lines

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.timeout(1800)]

EXACT = ["++train.norm-warmup-updates=0", "train.optimizer=sgd", "train.adam-betas=null", "train.lr=0.1"]
"""Adam blows the differences of rounding up, and in a warm-up each micro-batch is normalised by itself."""


@pytest.fixture(scope="module")
def slurm(root, tmp_path_factory):
    """``slurm(PROGRAM, ARGUMENT…)`` gives what a command on the cluster prints; the cluster ends when this process
    does, however that ends."""
    log = tmp_path_factory.mktemp("slurm") / "log"
    with open(log, "wb") as errors:
        cluster = subprocess.Popen(
            [root / "tests" / "integration" / "with_slurm.sh", "sh", "-c", 'echo "$SLURM_CONF"; cat'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    environment = {**os.environ, "POWERNORM_PYTHON": sys.executable, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}

    def run(*words):
        done = subprocess.run(
            [str(word) for word in words], cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    with cluster:
        if not (configuration := cluster.stdout.readline().strip()):
            pytest.skip(f"Slurm cannot be started here: {log.read_text().strip()}")
        environment["SLURM_CONF"] = run.configuration = configuration
        yield run


@pytest.fixture(scope="module")
def recipe(corpus):
    return [f"recipe.binarized='{corpus}/bin'", f"recipe.raw='{corpus}/raw'"]


def overrides(*words):
    return [word for each in words for word in ("--override", each)]


def two_nodes(slurm, runs, *settings):
    """Submits a run of two processes, each on a node of its own; gives the job's number."""
    words = ["sbatch", "--parsable", "--nodes=2", f"--output={runs}.log", "scripts/slurm_run.sh"]
    return slurm(*words, "--recipe", "smoke_de_en", "--norm", "power", "--runs", runs, *overrides(*settings)).strip()


def wait_until(true, what, seconds=900):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def state(slurm, job):
    return slurm("squeue", "--noheader", "--array", "--states=all", "--format=%T", f"--jobs={job}").strip()


def model(run):
    return load_checkpoint(run / "checkpoints" / "checkpoint_last.pt")["model"]


def updates_of_restarts(run):
    """After how many updates each training of a run began."""
    return [
        int(number) for number in re.findall(r"Loaded checkpoint .* @ (\d+) updates", (run / "train.log").read_text())
    ]


@pytest.fixture(scope="module")
def undisturbed(slurm, recipe, tmp_path_factory):
    """A training on two nodes."""
    runs = tmp_path_factory.mktemp("undisturbed") / "runs"
    job = two_nodes(slurm, runs, *recipe, *EXACT)
    wait_until(lambda: state(slurm, job) not in ("PENDING", "RUNNING", "COMPLETING"), "the job does not end")
    assert state(slurm, job) == "COMPLETED", runs.with_suffix(".log").read_text()
    return runs / "smoke_de_en" / "power" / "seed1"


def test_two_nodes_equal_one_process(slurm, recipe, undisturbed, tmp_path):
    """They take by turns the batches that the one accumulates."""
    words = ["train", "--recipe", "smoke_de_en", "--norm", "power", "--runs", tmp_path]
    one = [sys.executable, "-m", "fairseq_powernorm.pipeline", *words]
    slurm(*one, *overrides(*recipe, *EXACT, "batch.tokens_per_device=400"))
    found, expected = model(undisturbed), model(tmp_path / "smoke_de_en" / "power" / "seed1")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")
    assert " --norm-sync " in (undisturbed / "train.node1.log").read_text()
    assert len(read_lines(undisturbed / "test" / "hypothesis.txt")) == 40


@pytest.mark.parametrize("cause", ["PREEMPTION", "JOB REQUEUE"])
def test_a_training_that_goes_back_into_the_queue_ends_as_an_undisturbed_one(
    slurm, recipe, undisturbed, tmp_path, cause
):
    """A job of a partition that comes first takes its nodes away; or it hears that its time is nearly up."""
    runs = tmp_path / "runs"
    run = runs / "smoke_de_en" / "power" / "seed1"
    job = two_nodes(slurm, runs, *recipe, *EXACT)
    wait_until(lambda: list(run.glob("checkpoints/checkpoint_1_*.pt")), "no checkpoint")
    if cause == "PREEMPTION":
        slurm("srun", "--partition=urgent", "--nodes=2", "true")
    else:
        slurm("scancel", "--batch", "--signal=USR1", job)
        wait_until(lambda: "DUE TO" in (tmp_path / "runs.log").read_text(), "the job goes on")
    wait_until(lambda: state(slurm, job) not in ("PENDING", "RUNNING", "COMPLETING"), "the job does not end")
    output = (tmp_path / "runs.log").read_text()
    assert state(slurm, job) == "COMPLETED" and f"DUE TO {cause}" in output, output
    assert [0 < updates < 60 for updates in updates_of_restarts(run)] == [True]
    expected, found = model(undisturbed), model(run)
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)
    for name in ("hypothesis.txt", "score.json"):
        assert (run / "test" / name).read_bytes() == (undisturbed / "test" / name).read_bytes()


def test_a_sweep_and_its_table(slurm, recipe, root, tmp_path):
    """One of its jobs is put back into the queue, which the sweep waits for."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="the extra cluster is not installed")
    runs = tmp_path / "runs"
    words = ["recipe=smoke_de_en", "norm=layer,power", "seed=1,2", *recipe, f"+runs='{os.path.relpath(runs, root)}'"]
    words += ["hydra/launcher=submitit_slurm", f"hydra.sweep.dir='{tmp_path}/hydra'"]
    environment = {**os.environ, "SLURM_CONF": slurm.configuration, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    with open(tmp_path / "sweep.log", "w") as log:
        sweep = subprocess.Popen(
            [sys.executable, "-m", "fairseq_powernorm.pipeline.sweep", "--multirun", *words],
            cwd=root,
            env=environment,
            stdout=log,
            stderr=log,
        )
    disturbed = runs / "smoke_de_en" / "layer" / "seed1"
    wait_until(lambda: list(disturbed.glob("checkpoints/checkpoint_1_*.pt")), "no checkpoint")
    (job,) = re.findall(r"\d+_0\b", slurm("squeue", "--noheader", "--array", "--format=%i"))
    slurm("scontrol", "requeue", job)
    assert sweep.wait(timeout=1200) == 0, (tmp_path / "sweep.log").read_text()
    assert "sacct" not in (tmp_path / "sweep.log").read_text()  # there is none
    table = [sys.executable, "-m", "fairseq_powernorm.pipeline", "table", "--recipe", "smoke_de_en", "--runs", runs]
    slurm(*table, *overrides(*recipe))
    assert [0 < updates < 60 for updates in updates_of_restarts(disturbed)] == [True]
    with open(runs / "smoke_de_en" / "table.csv", encoding="utf-8") as stream:
        rows = [(row["norm"], row["seeds"]) for row in csv.DictReader(stream)]
    assert rows == [("layer", "1 2"), ("power", "1 2")]
