"""Averaging: float64 sums, buffers by policy, and nothing lost on bad input."""

import argparse
import functools
import os
import pickle
import subprocess
import sys

import pytest
import torch

from fairseq_powernorm.checkpoints.average import average_checkpoints, buffer_policies, command, policy_of
from fairseq_powernorm.checkpoints.io import load_checkpoint, number_of_updates, save_checkpoint


def checkpoint(updates, dtype=torch.float32, **model):
    state = {
        "weight": torch.full((2, 2), float(updates), dtype=dtype),
        "encoder.layer_norm.running_square_mean": torch.full((2,), float(updates)),
        "encoder.layer_norm.num_forward_calls": torch.tensor(updates),
        "encoder.version": torch.tensor([3.0]),
    }
    return {
        "cfg": {"model": argparse.Namespace(arch="powernorm_tiny")},
        "model": {**state, **model},
        "optimizer_history": [{"num_updates": updates}],
        "last_optimizer_state": {"state": torch.zeros(1000)},
        "extra_state": {"val_loss": 1.0},
    }


def write(folder, *states):
    paths = [folder / f"checkpoint{number}.pt" for number in range(1, len(states) + 1)]
    for path, state in zip(paths, states, strict=True):
        save_checkpoint(state, path)
    return paths


def test_weights_statistics_and_counters(tmp_path):
    paths = write(tmp_path, checkpoint(3), checkpoint(8), checkpoint(4))
    averaged = average_checkpoints(paths)
    assert averaged["model"]["weight"].tolist() == [[5, 5], [5, 5]]
    assert averaged["model"]["encoder.layer_norm.running_square_mean"].tolist() == [5, 5]
    assert averaged["model"]["encoder.layer_norm.num_forward_calls"] == 8  # the newest, not a floor-divided mean
    assert averaged["model"]["encoder.version"].tolist() == [3]
    assert number_of_updates(averaged) == 8
    assert averaged["extra_state"]["averaged_from"] == ["checkpoint1.pt", "checkpoint2.pt", "checkpoint3.pt"]
    assert "last_optimizer_state" not in averaged


def test_one_checkpoint_is_its_own_average_bit_for_bit(tmp_path):
    weight = torch.randn(50, 50)
    (path,) = write(tmp_path, checkpoint(3, weight=weight))
    assert torch.equal(average_checkpoints([path])["model"]["weight"], weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_sums_are_exact_in_float64(tmp_path, dtype):
    """Nine large and one small value: in the weights' own precision the small one would vanish, or the sum overflow."""
    values = [6e4 if dtype == torch.float16 else 1e8] * 9 + [8.0]
    paths = write(tmp_path, *(checkpoint(1, weight=torch.tensor([value], dtype=dtype)) for value in values))
    expected = torch.tensor([values[0]], dtype=dtype).double() * 9
    expected = ((expected + 8) / 10).to(dtype)
    found = average_checkpoints(paths)["model"]["weight"]
    assert found.dtype == dtype and torch.equal(found, expected)


def test_every_policy_is_declared():
    assert set(buffer_policies().values()) == {"mean", "newest"}
    assert policy_of("decoder.layers.0.fc1.weight", torch.zeros(1)) == "mean"
    with pytest.raises(ValueError, match=r"no averaging policy is declared for the integer buffer a\.steps"):
        policy_of("a.steps", torch.zeros(1, dtype=torch.int64))


def test_nothing_to_average():
    with pytest.raises(ValueError, match="no checkpoint was given"):
        average_checkpoints([])


def test_unequal_checkpoints_are_named(tmp_path):
    paths = write(tmp_path, checkpoint(1), checkpoint(2, extra=torch.zeros(1)), checkpoint(3, weight=torch.zeros(3)))
    with pytest.raises(ValueError, match=r"checkpoint2.pt and .*checkpoint1.pt .*only one of them has extra"):
        average_checkpoints(paths[:2])
    with pytest.raises(ValueError, match=r"weight is \(3,\) and \(2, 2\)"):
        average_checkpoints([paths[0], paths[2]])
    bad = write(tmp_path / "bad", checkpoint(1, weight=torch.tensor([float("nan")])))
    with pytest.raises(ValueError, match="weight holds values that are not finite"):
        average_checkpoints(bad)


def folded(state, *sites):
    model = argparse.Namespace(arch="powernorm_tiny", norm_type="power", **dict.fromkeys(sites, "folded"))
    return {**state, "cfg": {"model": model}}


def test_folded_and_unfolded_checkpoints_are_no_average(tmp_path):
    one, other = "encoder_norm_self_attn", "encoder_norm_ffn"
    states = [checkpoint(1), folded(checkpoint(2), one), folded(checkpoint(3), one), folded(checkpoint(4), other)]
    paths = write(tmp_path, *states)
    for first, second in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match=r"checkpoint2.pt is folded and .*checkpoint1.pt is not: average first"):
            average_checkpoints([paths[first], paths[second]])
    with pytest.raises(ValueError, match=r"checkpoint4.pt and .*checkpoint2.pt are folded at different sites"):
        average_checkpoints([paths[1], paths[3]])
    assert average_checkpoints(paths[1:3])["model"]["weight"][0, 0] == 2.5


def test_folders_are_named_before_the_work(tmp_path, monkeypatch):
    (path,) = write(tmp_path, checkpoint(1))
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("fairseq_powernorm.checkpoints.average.load_checkpoint", lambda _: pytest.fail("it was read"))
    with pytest.raises(IsADirectoryError, match="folder is a folder; expected a file"):
        average_checkpoints([path, tmp_path / "folder"])
    monkeypatch.setattr(sys, "argv", ["x", "--inputs", str(path), "--output", str(tmp_path / "folder"), "--force"])
    with pytest.raises(SystemExit, match=r"x: error: .*folder is a folder; expected a file"):
        command()


def test_bad_files_are_named(tmp_path):
    (path,) = write(tmp_path, checkpoint(1))
    truncated, foreign, text, pickled = (
        tmp_path / name for name in ("truncated.pt", "foreign.pt", "text.pt", "old.pt")
    )
    truncated.write_bytes(path.read_bytes()[:-2000])
    torch.save({"weights": 1}, foreign)
    text.write_text("not a checkpoint")
    pickled.write_bytes(pickle.dumps({"model": {}}))
    for bad, message in [(truncated, "truncated"), (foreign, "no 'model'"), (text, "not a checkpoint at all")]:
        with pytest.raises(ValueError, match=message):
            load_checkpoint(bad)
    with pytest.raises(ValueError, match="not a checkpoint at all"):
        load_checkpoint(pickled)
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "absent.pt")


class RunsCode:
    def __reduce__(self):
        return os.system, ("touch should_not_exist",)


def test_a_checkpoint_cannot_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {}, "cfg": RunsCode()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"evil.pt: holds objects that are not safe to load.*system"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "should_not_exist").exists()


def test_a_full_disk_leaves_no_file(tmp_path):
    program = (
        "import resource, signal, torch\n"
        "from fairseq_powernorm.checkpoints.io import save_checkpoint\n"
        "from fairseq_powernorm.files import run_command_line\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "run_command_line(lambda: save_checkpoint({'model': {'w': torch.zeros(100000)}}, 'out.pt'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path, run_python):
    run_command = functools.partial(run_python, "-m", "fairseq_powernorm.checkpoints.average")
    write(tmp_path, checkpoint(1), checkpoint(2), checkpoint(3))
    output = tmp_path / "averaged.pt"
    done = run_command("--folder", tmp_path, "--last", 2, "--output", output)
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(output)["model"]["weight"][0, 0] == 2.5
    before = output.read_bytes()
    done = run_command("--inputs", tmp_path / "checkpoint1.pt", "--output", output)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "--force" in done.stderr
    assert output.read_bytes() == before
    done = run_command("--inputs", tmp_path / "checkpoint1.pt", "--output", output, "--force")
    assert done.returncode == 0 and load_checkpoint(output)["model"]["weight"][0, 0] == 1
    for words in (
        ("--inputs", tmp_path / "checkpoint1.pt", "--last", 2),
        ("--folder", tmp_path, "--best", 1, "--by", "epoch"),
    ):
        done = run_command(*words, "--output", tmp_path / "other.pt")
        assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("powernorm-average: error: --"), (
            done.stderr
        )
    done = run_command("--folder", tmp_path, "--last", 7, "--output", tmp_path / "other.pt")
    assert done.returncode == 1 and "asked for the last 7" in done.stderr and not (tmp_path / "other.pt").exists()
