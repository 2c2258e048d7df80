"""Bad options: one line, before the tests of the norms are run."""

import pytest
import torch

BAD = [
    ("bench_norms", "--device gpu", "expected --device cpu, cuda or cuda:N, got 'gpu'"),
    ("bench_norms", "--device meta", "expected --device cpu, cuda or cuda:N, got 'meta'"),
    ("bench_norms", "--device cuda:99", "this machine has "),
    ("bench_norms", "--tokens 0", "expected --tokens >= 1, got 0"),
    (
        "bench_norms",
        "--tokens 512 1000",
        "expected --tokens that are a multiple of the longest sentence's 128, got 1000",
    ),
    ("bench_norms", "--threads 0", "expected --threads >= 1, got 0"),
    ("bench_norms", "--rounds 0", "expected --rounds >= 1, got 0"),
    ("bench_norms", "--rounds -3", "expected --rounds >= 1, got -3"),
    ("bench_norms", "--warmup -1", "expected --warmup >= 0, got -1"),
    ("bench_train_step", "--types 3", "expected --types > 4, the number of special symbols, got 3"),
    ("bench_train_step", "--longest 0", "expected --longest >= 1, got 0"),
    ("bench_train_step", "--tokens 100", "a multiple of the longest sentence's 32, got 100"),
    ("bench_train_step", "--tokens 0", "expected --tokens >= 1, got 0"),
    ("bench_decode", "--sentences 0", "expected --sentences >= 1, got 0"),
    ("bench_decode", "--length 1024", "expected --length <= 1023"),
    ("bench_preparation", "--pairs 0 --folder absent", "expected --pairs >= 1, got 0"),
]


@pytest.mark.parametrize(("name", "words", "said"), BAD)
def test_bad_options_end_with_one_line_before_the_tests(name, words, said, run, tmp_path, capsys):
    device = [] if "--device" in words or name == "bench_preparation" else ["--device", "cpu"]
    with pytest.raises(SystemExit) as error:
        run(name, *device, *words.split(), "--force", "--output", tmp_path / "x")
    assert str(error.value).startswith(f"{name}.py: error: ") and said in str(error.value)
    assert "\n" not in str(error.value) and not capsys.readouterr().out and not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_cuda_where_there_is_none(interleaved):
    with pytest.raises(ValueError, match="--device cuda: this machine has 0 CUDA devices"):
        interleaved.checked_device("cuda")


@pytest.mark.parametrize("name", ["bench_norms", "bench_train_step", "bench_decode"])
def test_an_existing_or_missing_output_is_refused_before_the_tests(name, run, tmp_path):
    (tmp_path / "a.b.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"a\.b\.json exists; give --force to replace it"):
        run(name, "--device", "cpu", "--output", tmp_path / "a.b")
    with pytest.raises(SystemExit, match="--output is needed"):
        run(name, "--device", "cpu")
    (tmp_path / "c.csv").mkdir()
    with pytest.raises(SystemExit, match=r"c\.csv is a folder"):
        run(name, "--device", "cpu", "--output", tmp_path / "c", "--force")


def test_missing_kernels_are_refused_before_the_tests(run, script, monkeypatch, tmp_path):
    monkeypatch.setattr(script("bench_norms").operators, "missing", lambda _: "no kernels, says the test")
    with pytest.raises(SystemExit, match="no kernels, says the test"):
        run("bench_norms", "--device", "cpu", "--output", tmp_path / "x")
