"""How far a command is, how it would be typed, and what a record says of its surroundings."""

import os
import signal
import subprocess
import sys
import time

import pytest

from fairseq_powernorm.pipeline import commands, processes, provenance


def test_a_command_can_be_pasted_into_a_shell():
    command = commands.fairseq_command("train", ["data bin", "--adam-betas", "(0.9, 0.98)"])
    assert command == "fairseq-train 'data bin' --adam-betas '(0.9, 0.98)'"


def test_training_progress_reads_fairseqs_json_lines():
    progress = processes.training_progress(1000)
    stamp = "2026-01-01 00:00:00 | INFO |"
    assert progress(f"{stamp} fairseq.tasks | something else") is None
    line = f'{stamp} train_inner | {{"epoch": 1, "loss": "9.5", "num_updates": "20"}}'
    assert str(progress(line)) == "update 20 of 1000, loss 9.5, validation loss none yet"
    assert progress(f'{stamp} valid | {{"epoch": 1, "valid_loss": "8.25"}}') is None
    assert str(progress(line.replace('"20"', '"40"'))) == "update 40 of 1000, loss 9.5, validation loss 8.25"
    for odd in (
        '{"loss": "9.5", "num_updates": "20"} {}',
        '{"num_updates": "20"}',
        '{"loss": "1", "num_updates": "x"}',
    ):
        assert progress(f"{stamp} train_inner | {odd}") is None  # for the log alone: it ends no training
    assert str(processes.training_progress(None)(line)) == "update 20, loss 9.5, validation loss none yet"


def test_generation_progress_counts_translations():
    progress = processes.generation_progress(3)
    reports = [progress(line) for line in ("H-0\t-1\tx", "D-0\t-1\tx", "D-2\t-1\ty")]
    assert list(map(str, reports)) == ["None", "sentence 1 of 3", "sentence 2 of 3"]


def display_of(done, total, seconds, monkeypatch):
    """A display after two reports so many seconds apart."""
    now = [100.0]
    monkeypatch.setattr(processes.time, "monotonic", lambda: now[0])
    display = processes.Display("power seed 1")
    for count in done:
        display.show(processes.Report(count, total, "update", "loss 3.0"))
        now[0] += seconds
    return display


def test_lines_say_how_long_it_still_takes(monkeypatch, caplog):
    """Counted from where this process began: a training may go on in the middle."""
    caplog.set_level("INFO")
    display_of([500, 520, 540], 1080, 20, monkeypatch)
    assert [record.getMessage() for record in caplog.records] == [
        "power seed 1: update 520 of 1080, loss 3.0, 09:20 left",
        "power seed 1: update 540 of 1080, loss 3.0, 09:00 left",
    ]
    caplog.clear()
    display_of([500, 520], None, 20, monkeypatch)
    assert [record.getMessage() for record in caplog.records] == ["power seed 1: update 520, loss 3.0"]


def test_a_bar_on_a_terminal_unless_runs_go_side_by_side(monkeypatch, caplog, capsys):
    caplog.set_level("INFO")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    display = display_of([500, 520, 540], 1080, 20, monkeypatch)
    display.bar.refresh()
    display.close()
    shown = capsys.readouterr().err
    assert "power seed 1:  50%|" in shown and "540/1080" in shown and "loss 3.0" in shown
    assert not caplog.records
    monkeypatch.setenv(processes.SIDE_BY_SIDE, "1")
    display_of([500, 520], 1080, 20, monkeypatch).close()
    assert capsys.readouterr().err == "" and len(caplog.records) == 1


def test_a_command_that_fails_is_told_by_its_last_line(tmp_path):
    log = tmp_path / "logs" / "train.log"
    with pytest.raises(ValueError, match=r"power seed 1: fairseq-preprocess failed with status 2: .*train.log"):
        processes.run_fairseq("preprocess", ["--no-such-flag"], log, "power seed 1")
    assert "unrecognized arguments: --no-such-flag" in log.read_text(encoding="utf-8")


def test_a_training_of_several_processes_is_told_by_what_they_said_not_by_torchrun(tmp_path):
    program = [sys.executable, "-c", "raise ValueError('too long')"]
    words = ["--standalone", "--nproc-per-node", "1", "--no-python", *program]
    with pytest.raises(ValueError, match=r"power seed 1: torchrun failed with status 1: ValueError: too long; see "):
        processes.run_logged(
            processes.python_module("torch.distributed.run", *words), "torchrun", tmp_path / "log", "power seed 1"
        )


def test_the_record_names_versions_and_hardware():
    versions = provenance.versions()
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"torch", "fairseq-fixed", "sacrebleu"} <= set(versions)
    assert "cores" in provenance.hardware() or " x " in provenance.hardware()
    assert provenance.commit()


def test_what_schedulers_and_launchers_say_reaches_no_command(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "LOCAL_RANK", "SLURM_NODEID", "SLURM_NTASKS", "PMI_RANK", "LANG"):
        monkeypatch.setenv(name, "7")
    for name in ("TORCHELASTIC_RUN_ID", "PET_NNODES", "OMPI_COMM_WORLD_SIZE", "LC_CTYPE", "PYTHONIOENCODING"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("MALLOC_TOP_PAD_", "5")
    found = processes.clean_environment({"MALLOC_TOP_PAD_": "1", "MALLOC_TRIM_THRESHOLD_": "2"})
    assert {name for name, value in found.items() if value == "7"} == set()
    assert (found["CUDA_VISIBLE_DEVICES"], found["MALLOC_TOP_PAD_"], found["MALLOC_TRIM_THRESHOLD_"]) == ("3", "5", "2")


def test_commands_read_and_write_utf8_in_any_locale(monkeypatch, tmp_path):
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("PYTHONCOERCECLOCALE", "0")
    program = f"open({str(tmp_path / 'file')!r}, 'w').write('ö'); print('ß')"
    processes.run_logged([sys.executable, "-c", program], "python", tmp_path / "log", "label")
    assert (tmp_path / "file").read_bytes() == "ö".encode()
    assert (tmp_path / "log").read_text(encoding="utf-8") == "+ python\nß\n"


SLEEPER = "import os, sys, time; open(sys.argv[1] + str(os.getpid()), 'w'); time.sleep(120)"
RUN = """
import sys
from pathlib import Path
from fairseq_powernorm.pipeline import processes
processes.exit_on_sigterm()
folder, worker = sys.argv[1], [sys.executable, "-c", sys.argv[2], sys.argv[1] + "/"]
command = processes.python_module(
    *("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"),
    *processes.dying_with(0, *worker),
)
processes.run_logged(command, "torchrun", Path(folder) / "log", "label")
"""


def alive(number):
    try:
        with open(f"/proc/{number}/stat", encoding="utf-8") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_torchruns_workers_end_with_the_run_however_that_ends(tmp_path, number):
    """torchrun gives each worker a session of its own, which no signal to the run's group reaches."""
    run = subprocess.Popen([sys.executable, "-c", RUN, tmp_path, SLEEPER], stdout=subprocess.DEVNULL)
    while len(workers := [path.name for path in tmp_path.iterdir() if path.name.isdecimal()]) < 2:
        assert run.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.1)
    os.kill(run.pid, number)
    run.wait()
    while any(alive(worker) for worker in workers):
        time.sleep(0.1)


def test_a_process_that_was_killed_takes_along_what_it_had_started(tmp_path):
    program = (
        "import subprocess, sys; from fairseq_powernorm.pipeline import processes\n"
        "import os; child = subprocess.Popen(processes.dying_with(os.getpid(), 'sleep', '100'))\n"
        "print(child.pid, flush=True); child.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    time.sleep(0.5)  # until it has asked for it
    parent.kill()
    while alive(child):
        time.sleep(0.05)


@pytest.mark.slow
def test_torchrun_starts_a_command_once_a_device(tmp_path):
    processes.run_fairseq(
        "preprocess", ["--help"], tmp_path / "log", "x", launcher=["--standalone", "--nproc-per-node=2"]
    )
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert log.startswith("+ torchrun --standalone --nproc-per-node=2 -m fairseq_cli.preprocess --help\n")
    assert log.count("usage: ") == 2
