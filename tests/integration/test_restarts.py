"""A run that is killed at random moments and started again ends as one that was left alone."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from fairseq_powernorm.checkpoints.io import load_checkpoint
from fairseq_powernorm.files import exclusive

pytestmark = pytest.mark.slow


def equal(one, other):
    one, other = (load_checkpoint(path)["model"] for path in (one, other))
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def train(commands, corpus, folder, *arguments, program="powernorm-train"):
    flags = [corpus / "bin", *commands.train_flags, "--max-tokens", "2400", "--arch", "powernorm_tiny"]
    flags += ["--save-dir", folder, *arguments]
    if program == "powernorm-train":
        done = commands.console_script(program, *flags)
    else:
        done = commands.fairseq("train", *flags, "--user-dir", "fairseq_powernorm")
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("program", ["fairseq-train", "powernorm-train"])
def test_a_restart_in_a_later_epoch_goes_through_the_same_batches(commands, corpus, tmp_path, program):
    """fairseq by itself draws the order of equally long sentences by the epoch that a process begins with."""
    norm = ["--norm-type", "power", "--disable-validation"]
    train(commands, corpus, tmp_path / "whole", *norm, "--max-epoch", "3", program="fairseq-train")
    for epochs in ("1", "2", "3"):
        train(commands, corpus, tmp_path / "parts", *norm, "--max-epoch", epochs, program=program)
    assert equal(tmp_path / "whole" / "checkpoint3.pt", tmp_path / "parts" / "checkpoint3.pt")


@pytest.mark.parametrize("program", ["fairseq-train", "powernorm-train"])
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
    flags = ["--norm-type", "power", "--norm-warmup-updates", "16", "--max-tokens", "600", "--update-freq", "2"]
    flags += ["--save-interval-updates", "5"]
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
def test_a_recipe_that_is_killed_goes_on_to_the_same_end(commands, corpus, root, tmp_path):
    """By SIGKILL: the script alone in the middle of a training and at a random moment, when all that it has started
    ends with it, and everything at once as where the power goes.
    """
    overrides = [f"recipe.binarized='{corpus}/bin'", f"recipe.raw='{corpus}/raw'", "recipe.prepare=['true']"]
    command = [root / "scripts" / "run_recipe.sh", "--recipe", "smoke_de_en", "--norms", "power", "--seeds", "1"]
    command += [word for override in overrides for word in ("--override", override)]
    command = [str(word) for word in command]
    done = commands.run([*command, "--runs", tmp_path / "whole"])
    assert done.returncode == 0, done.stderr
    moments = random.Random(3)
    folders = [tmp_path / name / "smoke_de_en" for name in ("whole", "killed")]
    whole, killed = (folder / "power" / "seed1" for folder in folders)
    for turn in ("the script while it trains", "everything at a random moment", "the script at a random moment"):
        process = subprocess.Popen(
            [*command, "--runs", str(tmp_path / "killed")],
            cwd=root,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if "random" in turn:
            time.sleep(moments.uniform(4, 16))
        else:
            while not list(killed.glob("checkpoints/checkpoint_*_20.pt")):
                assert process.poll() is None
                time.sleep(0.02)
        for victim in processes_of(process.pid) if "everything" in turn else [process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        process.wait()
        if "trains" in turn:
            with exclusive(killed):  # which what the script had started would hold
                assert not (killed / "run.json").exists()
    done = commands.run([*command, "--runs", tmp_path / "killed"])
    assert done.returncode == 0, done.stderr
    tables = []
    for folder in folders:
        rows = [row.split(",") for row in (folder / "table.csv").read_text(encoding="utf-8").splitlines()]
        position = rows[0].index("train_seconds")
        tables.append([row[:position] + row[position + 1 :] for row in rows])
    assert tables[0] == tables[1]
    assert equal(whole / "averaged.pt", killed / "averaged.pt")
    assert (whole / "test" / "hypothesis.txt").read_bytes() == (killed / "test" / "hypothesis.txt").read_bytes()
