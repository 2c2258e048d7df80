"""The benchmarks' arithmetic by hand, and every benchmark at its smallest."""

import importlib.util
import subprocess
import sys

import pytest


@pytest.fixture
def interleaved(root):
    specification = importlib.util.spec_from_file_location("interleaved", root / "benchmarks" / "interleaved.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_every_candidate_has_its_turn_in_every_round(interleaved):
    calls = []

    def candidate(name):
        calls.append(name)
        return {"forward": len(calls)}

    names = ["a", "b", "c"]
    seconds = interleaved.take_turns({name: lambda name=name: candidate(name) for name in names}, rounds=20, warmup=2)
    rounds = [calls[start : start + 3] for start in range(0, len(calls), 3)]
    assert len(rounds) == 22 and all(sorted(each) == names for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1  # not always in one order
    assert all(len(parts["forward"]) == 20 and min(parts["forward"]) > 6 for parts in seconds.values())


def test_ratios_are_taken_within_a_round(interleaved):
    """A machine that is twice as slow in some rounds changes no ratio."""
    seconds = {"layer": {"both": [1.0, 2.0, 1.0, 2.0, 1.0]}, "power": {"both": [0.5, 1.0, 0.5, 1.0, 0.7]}}
    layer, power = interleaved.summarize(seconds, "layer")
    assert (layer["ratio"], layer["ms"]) == (1.0, 1000.0)
    assert (power["ratio"], power["ratio_p20"], power["ms"], power["rounds"]) == (0.5, 0.5, 700.0, 5)
    assert power["ratio_p80"] == pytest.approx(0.54)


def test_nothing_is_measured_while_the_tests_are_red(interleaved, monkeypatch, tmp_path):
    (tmp_path / "test_red.py").write_text("def test_red():\n    assert 1 == 2\n")
    monkeypatch.setattr(interleaved, "TESTS", (str(tmp_path / "test_red.py"),))
    with pytest.raises(SystemExit, match=r"no benchmark while the tests are red: .*1 failed"):
        interleaved.require_green_tests()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("bench_norms", "--tokens 64 --channels 16 --padding yes", "power kernels +both"),
        ("bench_train_step", "--tokens 32 --longest 8 --types 50 --models power", "power +update"),
        ("bench_decode", "--sentences 2 --length 3 --types 50", "power, folded +translation"),
    ],
)
def test_each_benchmark_at_its_smallest(name, options, said, root, tmp_path):
    command = [sys.executable, f"benchmarks/{name}.py", "--output", str(tmp_path / "x"), "--skip-tests"]
    command += ["--rounds", "1", "--warmup", "1", "--threads", "1", "--device", "cpu", *options.split()]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    expected = said.replace(" +", " ")
    assert any(line.startswith(expected) for line in lines), done.stdout
    assert not list(tmp_path.iterdir())
