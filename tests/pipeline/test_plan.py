"""Plans: who runs where, what a dry run prints, and that nothing survives its plan."""

import os
import signal
import subprocess
import sys
import time

import pytest

from fairseq_powernorm.pipeline import command_line, plan, recipes, run_folder
from fairseq_powernorm.pipeline.configuration import compose_run


def planned(name, *words):
    options = command_line.make_parser().parse_args([str(word) for word in words])
    return getattr(recipes, name)(options, "the command")


def jobs_of(steps):
    return [step for step in steps if isinstance(step, plan.Jobs)]


def test_runs_share_the_devices_and_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(plan, "cores", lambda: 8)
    jobs = plan.Jobs((), slots=3, gpus=8, devices=2)
    shared = {"OMP_NUM_THREADS": "2", "POWERNORM_SIDE_BY_SIDE": "1"}
    assert [jobs.environment_of(slot) for slot in (0, 2, 4)] == [
        {**shared, "CUDA_VISIBLE_DEVICES": "0,1"},
        {**shared, "CUDA_VISIBLE_DEVICES": "4,5"},
        {**shared, "CUDA_VISIBLE_DEVICES": "0,1"},
    ]
    assert plan.Jobs((), slots=1).environment_of(0) == {"OMP_NUM_THREADS": "8"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b,7")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    jobs = plan.Jobs((), slots=4, gpus=2, devices=1)
    devices = [jobs.environment_of(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(4)]
    assert devices == ["GPU-a", "GPU-b", "GPU-a", "GPU-b"] and jobs.environment_of(0)["OMP_NUM_THREADS"] == "5"
    assert "CUDA_VISIBLE_DEVICES" not in plan.Jobs((), slots=2).environment_of(1)


@pytest.mark.parametrize(
    ("words", "slots", "devices"),
    [
        (["wmt14_en_de_big", "--gpus", "8"], 1, 8),
        (["wmt14_en_de_big", "--gpus", "8", "--override", "batch.tokens_per_device=262144"], 4, 2),
        (["iwslt14_de_en", "--gpus", "8"], 4, 1),
        (["iwslt14_de_en", "--gpus", "1", "--jobs", "3"], 3, 1),
        (["iwslt14_de_en", "--hardware", "gpu_fp16"], 1, 1),
    ],
)
def test_a_run_trains_on_as_many_devices_as_its_update_has_passes(words, slots, devices):
    (jobs,) = jobs_of(planned("plan_recipe", "recipe", "--dry-run", "--recipe", *words))
    assert (jobs.slots, jobs.devices, len(jobs.jobs)) == (slots, devices, 4)
    assert all(f"hardware.devices={devices}" in job.arguments for job in jobs.jobs)


def test_jobs_are_as_many_as_the_caller_s_threads_leave_cores_for(monkeypatch):
    monkeypatch.setattr(recipes, "cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    (jobs,) = jobs_of(planned("plan_recipe", "recipe", "--recipe", "demo_de_en", "--dry-run"))
    assert jobs.slots == 2


def test_a_study_of_batch_sizes_prepares_once_and_has_a_table_for_each(tmp_path):
    steps = planned(
        *("plan_batch_sizes", "batch-sizes", "--dry-run", "--recipe", "demo_de_en", "--passes", "1,4"),
        *("--norms", "layer,power", "--seeds", "1,2", "--runs", tmp_path),
    )
    assert [type(step).__name__ for step in steps] == ["Command", *["Jobs", *["Command"] * 3] * 2, "Command"]
    assert [len(jobs.jobs) for jobs in jobs_of(steps)] == [4, 4]
    for jobs, tokens in zip(jobs_of(steps), (800, 200), strict=True):
        assert all(f"--max-tokens {tokens} " in job.commands[0] for job in jobs.jobs)
        assert all(f"{tmp_path}/{tokens}" in job.arguments for job in jobs.jobs)
    assert [f"{n}={tmp_path}/{n}/demo_de_en/table.csv" for n in (800, 200)] == list(steps[-1].words[-2:])


def test_finished_runs_with_statistics_get_a_second_ending(tmp_path):
    for norm, seed in (
        ("layer", "seed1"),
        ("rms", "seed1"),
        ("power", "seed1"),
        ("batch", "seed2,train.lr=1"),
        ("pn-v", "seed3"),
    ):
        folder = tmp_path / "demo_de_en" / norm / seed
        run_folder.store_config(compose_run("demo_de_en", norm), folder)
        (folder / "run.json").touch()
        if norm != "pn-v":
            (folder / "averaged.pt").touch()
    steps = planned(
        "plan_recalibration", "recalibration", "--recipe", "demo_de_en", "--batches", "7", "--runs", tmp_path
    )
    ((job,),), ending = (jobs.jobs for jobs in jobs_of(steps)), tmp_path / "recalibrated_7/demo_de_en/power/seed1"
    assert job.arguments[:5] == ("second-ending", "--run", f"{tmp_path}/demo_de_en/power/seed1", "--into", str(ending))
    assert "powernorm-recalibrate" in job.commands[0] and "--batches 7" in job.commands[0]
    assert not ending.exists()


def test_a_plan_stops_at_the_first_step_that_fails(tmp_path, capfd):
    write = (sys.executable, "-c", f"open({str(tmp_path / 'written')!r}, 'w')")
    with pytest.raises(ValueError, match="failed with status 3, see above"):
        plan.Executor().execute([plan.Command((sys.executable, "-c", "exit(3)")), plan.Command(write)])
    assert not (tmp_path / "written").exists()
    plan.Executor().execute([plan.Command(write)])
    assert (tmp_path / "written").exists()


@pytest.mark.slow
def test_jobs_that_fail_leave_the_others_to_go_on(tmp_path):
    words = ["average", "--run", str(tmp_path / "not there")]
    good = plan.Job(("curves", "--help"), ())
    with pytest.raises(ValueError, match="2 of 3 runs failed, see above; once the cause is gone, the same command"):
        plan.Executor().execute([plan.Jobs((plan.Job(tuple(words), ()), good, plan.Job(tuple(words), ())), slots=2)])


PROGRAM = """
import sys
from fairseq_powernorm.pipeline import plan, processes
processes.exit_on_sigterm()
def sleeper(*arguments):
    return [sys.executable, "-c", "import os, sys, subprocess; open(sys.argv[1] + str(os.getpid()), 'w');"
            "subprocess.run(['sleep', '120'])", sys.argv[1] + "/"]
plan.python_module = lambda module, *arguments: processes.dying_with(plan.os.getpid(), *sleeper())
plan.Executor().execute([plan.Jobs(tuple(plan.Job((str(n),), ()) for n in range(3)), slots=2)])
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_what_a_plan_has_started_ends_with_it(tmp_path, number, status):
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, tmp_path], stderr=subprocess.DEVNULL)
    while len(started := [int(path.name) for path in tmp_path.iterdir()]) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, number)
    assert process.wait() == status
    while any(os.path.exists(f"/proc/{child}") for child in started):
        time.sleep(0.05)
    assert len(list(tmp_path.iterdir())) == 2  # the third was not started
