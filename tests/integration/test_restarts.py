"""A run that is killed at random moments and started again ends as one that was left alone."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from fairseq_powernorm.checkpoints.io import load_checkpoint

pytestmark = pytest.mark.slow


def equal(one, other):
    one, other = (load_checkpoint(path)["model"] for path in (one, other))
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def train(commands, corpus, folder, *arguments, program="fairseq_powernorm.command_line"):
    command = [sys.executable, "-m", program, *(["train"] if "powernorm" in program else [])]
    flags = ["--user-dir", "fairseq_powernorm", "--arch", "powernorm_tiny", "--save-dir", folder]
    done = commands.run([*command, corpus / "bin", *commands.train_flags, *flags, *arguments])
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("program", ["fairseq_cli.train", "fairseq_powernorm.command_line"])
def test_a_restart_in_a_later_epoch_goes_through_the_same_batches(commands, corpus, tmp_path, program):
    """fairseq by itself draws the order of equally long sentences by the epoch that a process begins with."""
    norm = ["--norm-type", "power", "--disable-validation"]
    train(commands, corpus, tmp_path / "whole", *norm, "--max-epoch", "3", program="fairseq_cli.train")
    for epochs in ("1", "2", "3"):
        train(commands, corpus, tmp_path / "parts", *norm, "--max-epoch", epochs, program=program)
    assert equal(tmp_path / "whole" / "checkpoint3.pt", tmp_path / "parts" / "checkpoint3.pt")


@pytest.mark.parametrize("program", ["fairseq_cli.train", "fairseq_powernorm.command_line"])
def test_early_stopping_comes_after_the_same_epoch(commands, corpus, tmp_path, program):
    patience = ["--patience", "2", "--norm-type", "layer", "--lr", "1e-9", "--max-epoch", "9"]  # no loss gets better
    patience += ["--best-checkpoint-metric", "num_updates"]  # grows with every epoch: the first is the best
    output = train(commands, corpus, tmp_path / "whole", *patience, program=program)
    assert "early stop" in output and (tmp_path / "whole" / "checkpoint3.pt").exists()
    assert not (tmp_path / "whole" / "checkpoint4.pt").exists()
    (tmp_path / "parts").mkdir()
    # As if killed in the third epoch, with no checkpoint of an epoch left to count by.
    shutil.copy(tmp_path / "whole" / "checkpoint2.pt", tmp_path / "parts" / "checkpoint_last.pt")
    output = train(commands, corpus, tmp_path / "parts", *patience, program=program)
    assert "early stop" in output and (tmp_path / "parts" / "checkpoint3.pt").exists()
    assert not (tmp_path / "parts" / "checkpoint4.pt").exists()


def test_a_truncated_last_checkpoint_gives_way_to_the_one_before(commands, corpus, tmp_path):
    """Warm-up, micro-batches and all: the end is that of an undisturbed training."""
    flags = [
        "--norm-type",
        "power",
        "--norm-warmup-updates",
        "16",
        "--update-freq",
        "2",
        "--save-interval-updates",
        "5",
    ]
    flags += ["--no-epoch-checkpoints", "--disable-validation"]
    train(commands, corpus, tmp_path / "whole", *flags, "--max-update", "24")
    train(commands, corpus, tmp_path / "parts", *flags, "--max-update", "10")
    last = tmp_path / "parts" / "checkpoint_last.pt"
    os.truncate(last, last.stat().st_size // 2)
    (tmp_path / "parts" / "checkpoint_1_10.pt").unlink()  # what it was copied from went with the disk's cache
    output = train(commands, corpus, tmp_path / "parts", *flags, "--max-update", "24")
    assert "checkpoint_last.pt.damaged; going on from checkpoint_1_5.pt" in output
    assert equal(tmp_path / "whole" / "checkpoint_last.pt", last)


def processes_of(session):
    """The processes below one, itself included."""
    parents = {}
    for folder in os.listdir("/proc"):
        if folder.isdecimal():
            try:
                with open(f"/proc/{folder}/stat", encoding="utf-8") as stream:
                    parents[int(folder)] = int(stream.read().rsplit(")", 1)[1].split()[1])
            except OSError:  # it ended meanwhile
                continue
    found, waiting = [], [session]
    while waiting:
        found.append(process := waiting.pop())
        waiting += [child for child, parent in parents.items() if parent == process]
    return found


@pytest.mark.timeout(600)
def test_killed_at_random_moments_the_table_is_the_same(commands, corpus, root, tmp_path):
    """By turns everything at once, as where the power goes, and the script alone, whose trainings go on."""
    overrides = [f"recipe.binarized='{corpus}/bin'", f"recipe.raw='{corpus}/raw'", "train.max-update=60"]
    command = [root / "scripts" / "reproduce_table1.sh", "--recipe", "smoke_de_en", "--norms", "layer,power"]
    command += ["--seeds", "1", *(word for override in overrides for word in ("--override", override))]
    command = [str(word) for word in command]
    done = commands.run([*command, "--runs", tmp_path / "whole"])
    assert done.returncode == 0, done.stderr
    moments = random.Random(3)
    for turn in range(2):
        process = subprocess.Popen(
            [*command, "--runs", str(tmp_path / "killed")],
            cwd=root,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(moments.uniform(4, 16))
        for victim in processes_of(process.pid) if turn % 2 == 0 else [process.pid]:
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()
    done = commands.run([*command, "--runs", tmp_path / "killed"])
    assert done.returncode == 0, done.stderr
    tables = []
    for name in ("whole", "killed"):
        folder = tmp_path / name / "smoke_de_en"
        rows = [row.split(",") for row in (folder / "table.csv").read_text(encoding="utf-8").splitlines()]
        position = rows[0].index("train_seconds")
        tables.append([row[:position] + row[position + 1 :] for row in rows])
    assert tables[0] == tables[1]
    for norm in ("layer", "power"):
        runs = [tmp_path / name / "smoke_de_en" / norm / "seed1" for name in ("whole", "killed")]
        assert equal(*(run / "averaged.pt" for run in runs))
