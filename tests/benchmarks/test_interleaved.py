"""Turns and ratios by hand, what is recorded, and that nothing good is replaced by nothing."""

import argparse
import itertools
import json
import subprocess

import pytest
import torch

from fairseq_powernorm.pipeline import provenance


def calls_of(take_turns, names, passes, rounds, warmup):
    calls = []

    def candidate(name, part):
        calls.append((part, name))
        return {part: len(calls)}

    given = [{name: lambda name=name, part=part: candidate(name, part) for name in names} for part in passes]
    return calls, take_turns(given, rounds=rounds, warmup=warmup)


def test_every_candidate_has_its_turn_in_every_round(interleaved):
    names = ["a", "b", "c"]
    calls, seconds = calls_of(interleaved.take_turns, names, ["forward"], rounds=20, warmup=2)
    rounds = [[name for _, name in calls[start : start + 3]] for start in range(0, len(calls), 3)]
    assert len(rounds) == 22 and all(sorted(each) == names for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1  # not always in one order
    assert all(len(parts["forward"]) == 20 and min(parts["forward"]) > 6 for parts in seconds.values())


def test_evaluation_has_turns_of_its_own(interleaved):
    """Within a round all train, then all evaluate, and nobody comes directly behind itself."""
    names = ["a", "b", "c"]
    calls, seconds = calls_of(interleaved.take_turns, names, ["train", "evaluate"], rounds=30, warmup=1)
    for start in range(0, len(calls), 6):
        assert [part for part, _ in calls[start : start + 6]] == ["train"] * 3 + ["evaluate"] * 3
    assert all(before[1] != after[1] for before, after in itertools.pairwise(calls))
    orders = [tuple(name for _, name in calls[start : start + 3]) for start in range(0, len(calls), 3)]
    assert any(train != evaluate for train, evaluate in zip(orders[::2], orders[1::2], strict=True))
    assert all({part: len(each) for part, each in parts.items()} == {"train": 30, "evaluate": 30}
               for parts in seconds.values())  # fmt: skip


def test_ratios_are_taken_within_a_round(interleaved):
    """A machine that is twice as slow in some rounds changes no ratio."""
    seconds = {"layer": {"both": [1.0, 2.0, 1.0, 2.0, 1.0]}, "power": {"both": [0.5, 1.0, 0.5, 1.0, 0.7]}}
    layer, power = interleaved.summarize(seconds, "layer")
    assert (layer["ratio"], layer["ms"]) == (1.0, 1000.0)
    assert (power["ratio"], power["ratio_p20"], power["ms"], power["rounds"]) == (0.5, 0.5, 700.0, 5)
    assert power["ratio_p80"] == pytest.approx(0.54)


def options_of(tmp_path, **given):
    defaults = {"output": tmp_path / "my.v1.2", "force": False, "skip_tests": False, "device": "cpu", "tokens": [64]}
    return argparse.Namespace(**{**defaults, **given})


ROW = {"tokens": 64, "candidate": "power", "part": "both", "rounds": 1, "ms": 1.0, "ratio": 0.5}


def test_an_output_with_dots_keeps_them(interleaved, tmp_path, capsys):
    interleaved.finish(options_of(tmp_path), {"commit": "abc"}, [ROW])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my.v1.2.csv", "my.v1.2.json"]
    assert "my.v1.2.csv" in capsys.readouterr().err


def test_no_rows_replace_nothing(interleaved, tmp_path):
    (tmp_path / "my.v1.2.csv").write_text("good\n")
    with pytest.raises(ValueError, match="nothing was measured"):
        interleaved.finish(options_of(tmp_path, force=True), {}, [])
    assert [path.read_text() for path in tmp_path.iterdir()] == ["good\n"]


def test_the_record_has_every_option_and_the_machine(interleaved, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRSEQ_POWERNORM_KERNELS", "off")
    found = json.loads(json.dumps(interleaved.surroundings(options_of(tmp_path, rounds=3))))
    assert found["options"]["tokens"] == [64] and found["options"]["rounds"] == 3
    assert found["options"]["output"] == str(tmp_path / "my.v1.2") and found["options"]["skip_tests"] is False
    assert found["FAIRSEQ_POWERNORM_KERNELS"] == "off" and found["cores_allowed"] >= 1 and found["processor"]
    assert found["cpu_kernels"] == "loaded" or "no kernels" in found["cpu_kernels"]
    assert len(found["load_average"]) == 3


def test_other_work_is_warned_of_in_one_line(interleaved, capsys):
    interleaved.warn_of_load(1.0, 2)
    assert not capsys.readouterr().err
    interleaved.warn_of_load(1.02, 2)
    assert capsys.readouterr().err.splitlines() == [
        "warning: a load average of 1.02 on 2 cores at the start; other work distorts ratios too"
    ]


def test_results_do_not_make_a_commit_dirty(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)

    (tmp_path / "results").mkdir()
    for path in ("results/norms.csv", "code.py"):
        (tmp_path / path).write_text("1\n")
    git("init")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "x")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    clean = provenance.commit()
    (tmp_path / "results" / "norms.csv").write_text("2\n")
    assert provenance.commit() == clean and "dirty" not in clean and clean != "unknown"
    (tmp_path / "code.py").write_text("2\n")
    assert provenance.commit() == f"{clean}-dirty"


def test_every_cuda_device_is_waited_for(interleaved, monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    for name in ("cpu", "cuda", "cuda:1"):
        interleaved.synchronize(torch.device(name))
    assert waited == [torch.device("cuda"), torch.device("cuda:1")]
