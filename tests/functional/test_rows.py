"""The four passes over rows, plain and by kernel, against float64 arithmetic written out in another way."""

import importlib

import pytest
import torch

from fairseq_powernorm.functional import rows as passes
from fairseq_powernorm.functional import running as statistics
from fairseq_powernorm.functional.running import move_running
from fairseq_powernorm.kernels import cpu

BACKENDS = [
    "off",
    pytest.param("force", marks=pytest.mark.skipif(not cpu.is_available(), reason=str(cpu.reason()))),
    "triton",
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


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request, monkeypatch):
    if request.param == "triton":  # on the CPU, by its interpreter
        pytest.importorskip("triton")
        if torch.cuda.is_available():
            pytest.skip("Triton compiles here; tests/kernels/test_triton_rows.py runs it on the device")
        triton_rows = importlib.import_module("fairseq_powernorm.kernels.triton_rows")
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
        self.centre, self.grad_shift = (self.vectors[0], self.vectors[5]) if centred else (None, None)
        real = torch.ones(count, 1).bool() if self.padding is None else ~self.padding
        x, grad = self.rows.double()[real[:, 0]], self.grad.double()[real[:, 0]]
        x.requires_grad_()
        scaled = x
        if self.groups:
            parts = [part / (part.pow(2).mean(1, keepdim=True) + EPS).sqrt() for part in x.chunk(self.groups, dim=1)]
            scaled = torch.cat(parts, dim=1)
        centre, scale, shift, grad_scale, grad_product, grad_shift = (vector.double() for vector in self.vectors)
        values = scaled - centre if centred else scaled
        self.squares, self.sums = values.pow(2).sum(0), values.sum(0)
        self.products, self.grad_sums = (grad * values).sum(0), grad.sum(0)
        self.output = shift.repeat(count, 1).masked_scatter(real, scale * values + shift)
        grad_scaled = grad_scale * grad - grad_product * values - (grad_shift if centred else 0)
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
    wide, scaling = torch.promote_types(dtype, torch.float32), (case.groups, EPS)
    given = case.rows, case.padding, case.centre
    output, squares = passes.normalize(*given, *case.vectors[1:3], *scaling)
    assert_close(output, case.output, dtype)
    assert_close(squares, case.squares, wide)
    for actual, expected in zip(passes.moments(*given, *scaling), (case.squares, case.sums), strict=True):
        assert_close(actual, expected, wide)
    given = case.rows, case.grad, case.padding, case.centre
    for actual, expected in zip(passes.gradient_sums(*given, *scaling), (case.products, case.grad_sums), strict=True):
        assert_close(actual, expected, wide)
    grad_rows, *sums = passes.gradient(*given, *case.vectors[3:5], case.grad_shift, *scaling)
    assert_close(grad_rows, case.grad_rows, dtype)
    for actual, expected in zip(sums, (case.products, case.grad_sums), strict=True):
        assert_close(actual, expected, wide)


def test_without_padding_and_with_other_strides():
    case = Case((64, 12, 3), torch.float32, True, with_padding=False)
    turned = case.rows.t().contiguous().t()
    assert not turned.is_contiguous()
    output, squares = passes.normalize(turned, None, case.centre, *case.vectors[1:3], 3, EPS)
    assert_close(output, case.output, torch.float32)
    assert_close(squares, case.squares, torch.float32)
    spread = torch.ones(1, 12).expand(64, 12)  # the gradient of a sum
    products, sums = passes.gradient_sums(case.rows, spread, None, None, 0, EPS)
    torch.testing.assert_close(products, case.rows.sum(0))
    torch.testing.assert_close(sums, torch.full((12,), 64.0))


def test_a_sum_over_many_rows_keeps_its_digits():
    """One float32 accumulator would lose three digits of such a sum."""
    rows = torch.rand(200_000, 2)
    squares, sums = passes.moments(rows, None, None)
    torch.testing.assert_close(sums.double(), rows.double().sum(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(squares.double(), rows.double().pow(2).sum(0), rtol=1e-6, atol=0)


def test_the_same_threads_give_the_same_bits():
    case = Case((4000, 33, 3), torch.float32, False)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results = [passes.moments(case.rows, case.padding, None, 3, EPS)[0] for _ in range(5)]
            assert all(torch.equal(results[0], result) for result in results)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_statistic_moves_unless_its_next_value_is_bad_or_the_batch_empty(bad):
    running, updated, tokens = torch.ones(5), torch.arange(5.0), torch.tensor(3.0)
    move_running(running, updated, tokens)
    assert torch.equal(running, updated)
    move_running(running, updated + 1, torch.tensor(0.0))
    assert torch.equal(running, updated)
    for place in (0, 4):
        spoilt = updated + 1
        spoilt[place] = bad
        move_running(running, spoilt, tokens)
        assert torch.equal(running, updated)
    move_running(running, torch.full((5,), 3e38), tokens)  # a sum of these would be inf
    assert (running == 3e38).all()
