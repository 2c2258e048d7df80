"""The four passes over rows, plain and by kernel, against float64 arithmetic written out in another way."""

import importlib

import pytest
import torch

from fairseq_powernorm.functional import rows as passes
from fairseq_powernorm.functional import running as statistics
from fairseq_powernorm.kernels import cpu

BACKENDS = [
    "off",
    pytest.param("force", marks=pytest.mark.skipif(not cpu.is_available(), reason=str(cpu.reason()))),
    pytest.param("triton", marks=[pytest.mark.gpu] if torch.cuda.is_available() else []),
]
SHAPES = [
    (1, 1, 0),
    (1, 8, 8),
    (3, 6, 2),
    (129, 7, 7),
    (257, 48, 3),
    (300, 1023, 0),
    (2048, 64, 4),
    (0, 4, 2),
    (0, 4, 0),
]
ERRORS = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}
EPS = 1e-3


class OnDevice:
    """A backend's functions on a CUDA device, for tensors that are and stay on the CPU."""

    def __init__(self, backend):
        self.backend = backend

    def __getattr__(self, name):
        def call(*arguments):
            there = [each.cuda() if isinstance(each, torch.Tensor) else each for each in arguments]
            found = getattr(self.backend, name)(*there)
            if found is None:  # it moved its first argument
                arguments[0].copy_(there[0])
                return None
            return tuple(tensor.cpu() for tensor in found)

        return call


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request, monkeypatch):
    if request.param == "triton":  # on the CPU, by its interpreter
        pytest.importorskip("triton")
        triton_rows = importlib.import_module("fairseq_powernorm.kernels.triton_rows")
        if torch.cuda.is_available():
            triton_rows = OnDevice(triton_rows)
        for module in (passes, statistics):
            monkeypatch.setattr(module, "backend_for", lambda rows: triton_rows)
    else:
        monkeypatch.setenv("FAIRSEQ_POWERNORM_KERNELS", request.param)
    torch.use_deterministic_algorithms(True)  # fills torch.empty with NaN, so that what is not written shows
    yield request.param
    torch.use_deterministic_algorithms(False)


class Case:
    """Random rows with NaN at padding, and what the passes should make of them, in float64, by autograd."""

    def __init__(self, shape, dtype, centred, with_padding=True):
        count, channels, self.groups = shape
        wide = torch.promote_types(dtype, torch.float32)
        self.padding = torch.rand(count, 1) < 0.3 if with_padding else None
        self.rows, self.grad = (torch.randn(count, channels).add(1).to(dtype) for _ in range(2))
        self.vectors = [torch.randn(channels).to(wide) for _ in range(6)]
        self.vectors[1] = self.vectors[1].square()
        self.centre, self.mean = (self.vectors[0], self.vectors[5]) if centred else (None, None)
        real = torch.ones(count, 1).bool() if self.padding is None else ~self.padding
        x, grad = self.rows.double()[real[:, 0]], self.grad.double()[real[:, 0]]
        x.requires_grad_()
        scaled = x
        if self.groups:
            parts = [part / (part.pow(2).mean(1, keepdim=True) + EPS).sqrt() for part in x.chunk(self.groups, dim=1)]
            scaled = torch.cat(parts, dim=1)
        centre, deviation, weight, bias, projection, mean = (vector.double() for vector in self.vectors)
        root = (deviation + EPS).sqrt()
        values = scaled - centre if centred else scaled
        self.squares, self.sums = values.pow(2).sum(0), values.sum(0)
        self.tokens = torch.tensor(len(x), dtype=torch.float64)
        self.mean_square = self.squares / max(1, len(x))
        self.grad_weight, self.grad_bias = (grad * values / root).sum(0), grad.sum(0)
        self.output = bias.repeat(count, 1).masked_scatter(real, weight * values / root + bias)
        grad_scaled = (weight * grad - projection * values / root - (mean if centred else 0)) / root
        (grad_x,) = torch.autograd.grad(scaled, x, grad_scaled.detach())
        self.grad_rows = torch.zeros_like(self.output).masked_scatter(real, grad_x)
        if self.padding is not None:
            self.rows, self.grad = (t.masked_fill(self.padding, float("nan")) for t in (self.rows, self.grad))


def assert_close(actual, expected, dtype):
    assert actual.dtype == dtype and actual.shape == expected.shape
    largest = float(expected.detach().abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(actual.double(), expected.detach(), rtol=0, atol=ERRORS[dtype] * max(largest, 1.0))


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("dtype", ERRORS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_pass_is_what_its_formula_says(shape, dtype, centred):
    case = Case(shape, dtype, centred)
    wide = torch.promote_types(dtype, torch.float32)
    given = case.rows, case.padding, case.centre
    output, mean_square, count = passes.normalize(*given, *case.vectors[1:4], EPS, case.groups)
    assert_close(output, case.output, dtype)
    assert_close(mean_square, case.mean_square, wide)
    assert_close(count, case.tokens, wide)
    expected = case.squares, case.sums, case.tokens
    for actual, value in zip(passes.moments(*given, EPS, case.groups), expected, strict=True):
        assert_close(actual, value, wide)
    given, expected = (case.rows, case.grad, *given[1:], case.vectors[1]), (case.grad_weight, case.grad_bias)
    for actual, value in zip(passes.gradient_sums(*given, EPS, case.groups), expected, strict=True):
        assert_close(actual, value, wide)
    vectors = case.vectors[2], case.vectors[4], case.mean
    grad_rows, *sums = passes.gradient(*given, *vectors, EPS, case.groups)
    assert_close(grad_rows, case.grad_rows, dtype)
    for actual, value in zip(sums, expected, strict=True):
        assert_close(actual, value, wide)


def test_without_padding_and_with_other_strides():
    case = Case((64, 12, 3), torch.float32, True, with_padding=False)
    turned = case.rows.t().contiguous().t()
    assert not turned.is_contiguous()
    output, mean_square, count = passes.normalize(turned, None, case.centre, *case.vectors[1:4], EPS, 3)
    assert_close(output, case.output, torch.float32)
    assert_close(mean_square, case.mean_square, torch.float32)
    assert count == 64
    spread = torch.ones(1, 12).expand(64, 12)  # the gradient of a sum
    products, sums = passes.gradient_sums(case.rows, spread, None, None, torch.ones(12), 1e-30)
    torch.testing.assert_close(products, case.rows.sum(0))
    torch.testing.assert_close(sums, torch.full((12,), 64.0))


def test_a_sum_over_many_rows_keeps_its_digits():
    """One float32 accumulator would lose three digits of such a sum."""
    rows = torch.rand(200_000, 2)
    squares, sums, _ = passes.moments(rows, None, None)
    torch.testing.assert_close(sums.double(), rows.double().sum(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(squares.double(), rows.double().pow(2).sum(0), rtol=1e-6, atol=0)


def test_the_same_threads_give_the_same_bits():
    case = Case((4000, 33, 3), torch.float32, False)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results = [passes.moments(case.rows, case.padding, None, EPS, 3)[0] for _ in range(5)]
            assert all(torch.equal(results[0], result) for result in results)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_statistic_moves_unless_its_next_value_is_bad_or_the_batch_empty(bad):
    running, batch, tokens = torch.ones(5), torch.arange(5.0), torch.tensor(3.0)
    statistics.move_average(running, batch, tokens, 0.75)
    moved = torch.tensor([0.75, 1.0, 1.25, 1.5, 1.75])
    torch.testing.assert_close(running, moved)
    moved = running.clone()
    statistics.move_average(running, batch + 1, torch.tensor(0.0), 0.75)
    statistics.move_projection(running, batch, batch, torch.tensor(0.0), 0.75)
    assert torch.equal(running, moved)
    for place in (0, 4):
        spoilt = batch + 1
        spoilt[place] = bad
        statistics.move_average(running, spoilt, tokens, 0.75)
        statistics.move_projection(running, batch, spoilt, tokens, 0.75)
        assert torch.equal(running, moved)
    statistics.move_average(running, torch.full((5,), 3e38), tokens, 0.0)  # a sum of these would be inf
    assert (running == 3e38).all()
    statistics.move_average(running, torch.ones(5, dtype=torch.float64), tokens.double(), 0.0)
    assert running.dtype == torch.float32 and (running == 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_how_nu_moves(dtype):
    """Γ = mean s²/(d + ε), Λ = γ dγ/N, and ν by the line of Algorithm 2, but Λ/Γ where (1 − α) Γ > 1."""
    wide = torch.promote_types(dtype, torch.float32)
    weight, (grad_weight, deviation, mean_square) = torch.randn(7).to(dtype), torch.rand(3, 7).to(wide)
    mean_square[3] = 40.0
    count = torch.tensor(6.0, dtype=wide)
    found = statistics.ratio_and_correlation(weight, grad_weight, deviation, mean_square, count, EPS)
    ratio, correlation = mean_square / (deviation + EPS), weight.to(wide) * grad_weight / 6
    for actual, expected in zip(found, (ratio, correlation), strict=True):
        assert actual.dtype == wide
        torch.testing.assert_close(actual, expected)
    projection = torch.randn(7).to(wide)
    expected = projection * (1 - 0.1 * ratio) + 0.1 * correlation
    expected = torch.where(ratio * 0.1 > 1, correlation / ratio, expected)
    statistics.move_projection(projection, ratio, correlation, count, 0.9)
    torch.testing.assert_close(projection, expected)
    assert (ratio * 0.1 > 1).any() and not (ratio * 0.1 > 1).all()
