"""What each benchmark counts, by hand, and every benchmark at its smallest."""

import logging
import re

import pytest
import torch

from fairseq_powernorm import build_norm

CPU = torch.device("cpu")


def test_norms_whose_groups_do_not_fit_are_left_out_with_a_word(run, capsys):
    words = "--skip-tests --device cpu --rounds 1 --warmup 0 --tokens 8 --channels 10 --padding yes --backends plain"
    run("bench_norms", *words.split(), "--norms", "power", "power (groups)")
    out, err = capsys.readouterr()
    assert "10 channels without power (groups): its 4 groups do not divide them" in err
    assert "power plain" in out and "power (groups)" not in out
    assert "dtype float32, channels 10, tokens 8, padding yes" in out.splitlines()[0]


@pytest.mark.parametrize(("sentences", "longest"), [(1, 50), (4, 128), (32, 128)])
def test_a_fifth_is_padding_with_a_single_sentence_too(sentences, longest, script):
    _, _, mask = script("bench_norms").batch(sentences * longest, 2, torch.float32, True, CPU)
    assert mask.float().mean().item() == pytest.approx(0.2, abs=0.01)
    lengths = script("bench_norms").sentence_lengths(sentences, longest)
    assert len(lengths) == sentences and lengths.max() <= longest


def test_the_most_bytes_at_a_time_by_hand(script):
    """x of 40 kB, then y beside it, then z beside y where x has gone: two at a time, three in all."""

    def step():
        x = torch.zeros(10_000)
        y = x.neg()
        del x
        y.neg()

    torch.zeros(10_000).neg()  # what the profiler sees is the step alone
    assert script("candidates").peak_bytes(step, CPU) == pytest.approx(80_000, rel=0.01)


def test_a_training_step_needs_what_it_returns(script):
    bench_norms = script("bench_norms")
    x, grad, mask = bench_norms.batch(256, 64, torch.float32, True, CPU)
    ((module, backend),) = bench_norms.modules_of([], [], 64, False).values()
    peak = script("candidates").Candidate(module, mask, x, grad, backend, None).peak()
    assert 2 * x.nbytes <= peak <= 2.2 * x.nbytes  # y and dX, and vectors


def test_the_norms_share_of_an_update(script):
    """A layer norm of ours counts once, not once more for torch's inside it; the rest of the time is not theirs."""
    bench_train_step = script("bench_train_step")
    model = torch.nn.Sequential(build_norm("layer", 8), torch.nn.Linear(8, 8), torch.nn.LayerNorm(8))
    with bench_train_step.norms_timed(model, CPU) as seconds:
        model(torch.randn(4, 8))
    assert len(seconds) == 2 and min(seconds) > 0
    model(torch.randn(4, 8))
    assert len(seconds) == 2  # the clocks are gone


def test_folding_is_quiet_in_the_benchmark(script, caplog):
    caplog.set_level(logging.INFO, logger="fairseq_powernorm")  # put back after the test
    bench_decode = script("bench_decode")
    models = bench_decode.models_to_measure(script("small_models").dictionary(20), CPU)
    assert "power, folded" in models and "folded" not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("bench_norms", "--tokens 64 --channels 16 --padding yes", "power kernels +both"),
        ("bench_train_step", "--tokens 32 --longest 8 --types 50 --models power", "power +update"),
        ("bench_decode", "--sentences 2 --length 3 --types 50", "power, folded +translation"),
    ],
)
def test_each_benchmark_at_its_smallest(name, options, said, root, run_python):
    command = ["--rounds", "1", "--warmup", "1", "--threads", "1", "--device", "cpu", *options.split()]
    done = run_python(root / "benchmarks" / f"{name}.py", "--skip-tests", *command)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    expected = said.replace(" +", " ")
    assert any(line.startswith(expected) for line in lines), done.stdout
    assert "norms of the encoder" not in done.stderr and "USDT" not in done.stderr


@pytest.mark.slow
def test_the_profile_says_the_norms_share(root, run_python):
    command = ["--profile", "--skip-tests", "--device", "cpu"]
    command += ["--warmup", "1", "--threads", "1", "--tokens", "32", "--longest", "8", "--types", "50"]
    command += ["--models", "power"]
    done = run_python(root / "benchmarks" / "bench_train_step.py", *command)
    assert done.returncode == 0, done.stderr
    shares = re.findall(r"^(\w+): the norms' modules take ([\d.]+)% of an update forward$", done.stdout, re.M)
    assert [name for name, _ in shares] == ["stock", "power"] and all(0 < float(share) < 50 for _, share in shares)
