"""The operators, in plain torch and by each kernel, against float64 arithmetic written out in another way."""

import importlib

import pytest
import torch

from fairseq_powernorm.kernels import operators, plain

MISSING = operators.missing("cpu")
NEEDS_CPU_KERNELS = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
THREADS = (1, 2, 3)
BACKENDS = [
    "plain",
    *(pytest.param(f"cpu, {threads} threads", marks=NEEDS_CPU_KERNELS) for threads in THREADS),
    pytest.param("triton", marks=[pytest.mark.gpu] if torch.cuda.is_available() else []),
]
SHAPES = [
    (1, 1, 0),
    (1, 8, 8),
    (3, 6, 2),
    (129, 7, 7),
    (257, 48, 3),
    (300, 1023, 0),
    (1, 1023, 3),
    (2048, 64, 4),
    (0, 4, 2),
    (0, 4, 0),
]
ERRORS = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}
EPS = 1e-3


class OnDevice:
    """The operators on a CUDA device, for tensors that are and stay on the CPU."""

    def __getattr__(self, name):
        def call(*arguments):
            there = [each.cuda() if isinstance(each, torch.Tensor) else each for each in arguments]
            found = getattr(operators, name)(*there)
            if found is None:  # it changed its first argument
                arguments[0].copy_(there[0])
                return None
            return found.cpu() if isinstance(found, torch.Tensor) else tuple(tensor.cpu() for tensor in found)

        return call


class Interpreted:
    """The implementations for CUDA devices on the CPU, by Triton's interpreter."""

    def __getattr__(self, name):
        return getattr(importlib.import_module("fairseq_powernorm.kernels.cuda"), name, getattr(plain, name))


@pytest.fixture(params=BACKENDS)
def passes(request):
    """A namespace with the operators' names."""
    threads = torch.get_num_threads()
    torch.use_deterministic_algorithms(True)  # fills torch.empty with NaN, so that what is not written shows
    if request.param == "plain":
        yield plain
    elif request.param == "triton":
        pytest.importorskip("triton")
        yield OnDevice() if torch.cuda.is_available() else Interpreted()
    else:
        torch.set_num_threads(int(request.param.split()[1]))
        yield operators
    torch.set_num_threads(threads)
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
        centre, second_moment, weight, bias, projection, mean = (vector.double() for vector in self.vectors)
        root = (second_moment + EPS).sqrt()
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
def test_every_pass_is_what_its_formula_says(passes, shape, dtype, centred):
    case = Case(shape, dtype, centred)
    wide = torch.promote_types(dtype, torch.float32)
    given = case.rows, case.padding, case.centre
    output, mean_square, count = passes.normalize(*given, *case.vectors[1:4], EPS, case.groups)
    assert_close(output, case.output, dtype)
    assert_close(mean_square, case.mean_square, wide)
    assert_close(count, case.tokens, wide)
    evaluated, real = passes.normalize_by_constants(*given[::2], *case.vectors[1:4], EPS, case.groups), ~case.padding
    assert_close(evaluated[real[:, 0]], case.output[real[:, 0]], dtype)
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


def test_without_padding_and_with_other_strides(passes):
    case = Case((64, 12, 3), torch.float32, True, with_padding=False)
    turned = case.rows.t().contiguous().t()
    assert not turned.is_contiguous()
    output, mean_square, count = passes.normalize(turned, None, case.centre, *case.vectors[1:4], EPS, 3)
    assert_close(output, case.output, torch.float32)
    assert_close(mean_square, case.mean_square, torch.float32)
    assert count == 64
    spread = torch.ones(1, 12).expand(64, 12)  # the gradient of a sum
    products, sums = passes.gradient_sums(case.rows, spread, None, None, torch.ones(12), 1e-30, 0)
    torch.testing.assert_close(products, case.rows.sum(0))
    torch.testing.assert_close(sums, torch.full((12,), 64.0))


@pytest.mark.parametrize("groups", [0, 3])
def test_batches_of_sentences_and_norms_without_affine_parameters(passes, groups):
    """(T, B, C) with a (T, B) view of the mask is what (N, C) and (N, 1) are; None is a γ of 1 and a β of 0."""
    x, grad = torch.randn(2, 5, 4, 6)
    padding, moment, projection = (torch.rand(4, 5) < 0.3).t(), torch.rand(6) + 0.5, torch.randn(6)
    rows = x.view(20, 6), grad.view(20, 6), padding.reshape(20, 1)
    one, zero = torch.ones(6), torch.zeros(6)
    output, *measured = passes.normalize(x, padding, None, moment, None, None, EPS, groups)
    expected, *others = passes.normalize(rows[0], rows[2], None, moment, one, zero, EPS, groups)
    torch.testing.assert_close(output, expected.view_as(x))
    torch.testing.assert_close(measured, others)
    evaluated = passes.normalize_by_constants(x, None, moment, None, None, EPS, groups)
    torch.testing.assert_close(evaluated[~padding], output[~padding])
    found = passes.gradient(x, grad, padding, None, moment, None, projection, None, EPS, groups)
    expected = passes.gradient(*rows, None, moment, one, projection, None, EPS, groups)
    torch.testing.assert_close(found[0], expected[0].view_as(x))
    torch.testing.assert_close(found[1:], expected[1:])
    for actual, value in zip(
        passes.moments(x, padding, None, EPS, groups), passes.moments(rows[0], rows[2], None, EPS, groups), strict=True
    ):
        torch.testing.assert_close(actual, value)


def test_a_sum_over_many_rows_keeps_its_digits(passes):
    """One float32 accumulator would lose three digits of such a sum."""
    rows = torch.rand(200_000, 2)
    squares, sums, _ = passes.moments(rows, None, None, 0.0, 0)
    torch.testing.assert_close(sums.double(), rows.double().sum(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(squares.double(), rows.double().pow(2).sum(0), rtol=1e-6, atol=0)


def test_the_same_threads_give_the_same_bits(passes):
    case = Case((4000, 33, 3), torch.float32, False)
    results = [passes.moments(case.rows, case.padding, None, EPS, 3)[0] for _ in range(5)]
    assert all(torch.equal(results[0], result) for result in results)


@NEEDS_CPU_KERNELS
@pytest.mark.parametrize("name", ["normalize", "moments", "gradient_sums", "gradient"])
def test_every_thread_counts(name):
    """Each thread has several stretches of rows here; what only one of them summed up would be off by far."""
    case, threads = Case((6000, 64, 4), torch.float64, True), torch.get_num_threads()
    given = {
        "normalize": (case.rows, case.padding, case.centre, *case.vectors[1:4], EPS, 4),
        "moments": (case.rows, case.padding, case.centre, EPS, 4),
        "gradient_sums": (case.rows, case.grad, case.padding, case.centre, case.vectors[1], EPS, 4),
        "gradient": (
            *(case.rows, case.grad, case.padding, case.centre, *case.vectors[1:3], case.vectors[4], case.mean, EPS, 4),
        ),
    }[name]
    found = []
    try:
        for number in THREADS:
            torch.set_num_threads(number)
            found.append(getattr(operators, name)(*given))
    finally:
        torch.set_num_threads(threads)
    for several in found[1:]:
        for actual, expected in zip(several, found[0], strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_statistic_moves_unless_its_next_value_is_bad_or_the_batch_empty(passes, bad):
    running, batch, tokens = torch.ones(5), torch.arange(5.0), torch.tensor(3.0)
    passes.move_average(running, batch, tokens, 0.75)
    moved = torch.tensor([0.75, 1.0, 1.25, 1.5, 1.75])
    torch.testing.assert_close(running, moved)
    moved = running.clone()
    passes.move_average(running, batch + 1, torch.tensor(0.0), 0.75)
    passes.move_projection(running, None, batch, batch + 1, batch, torch.tensor(0.0), EPS, 0.75)
    assert torch.equal(running, moved)
    for place in (0, 4):
        spoilt = batch + 1
        spoilt[place] = bad
        passes.move_average(running, spoilt, tokens, 0.75)
        passes.move_projection(running, None, spoilt, batch + 1, batch, tokens, EPS, 0.75)
        passes.move_projection(running, None, batch, batch + 1, spoilt, tokens, EPS, 0.75)
        assert torch.equal(running, moved)
    passes.move_average(running, torch.full((5,), 3e38), tokens, 0.0)  # a sum of these would be inf
    assert (running == 3e38).all()
    passes.move_average(running, torch.ones(5, dtype=torch.float64), tokens.double(), 0.0)
    assert running.dtype == torch.float32 and (running == 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_how_nu_moves(passes, dtype):
    """Γ = mean s²/(d + ε), Λ = γ dγ/N, and ν by the line of Algorithm 2, but Λ/Γ where (1 − α) Γ > 1."""
    wide = torch.promote_types(dtype, torch.float32)
    weight, (grad_weight, deviation, mean_square) = torch.randn(7).to(dtype), torch.rand(3, 7).to(wide)
    mean_square[3] = 40.0
    count = torch.tensor(6.0, dtype=wide)
    ratio, correlation = mean_square / (deviation + EPS), weight.to(wide) * grad_weight / 6
    projection = torch.randn(7).to(wide)
    expected = projection * (1 - 0.1 * ratio) + 0.1 * correlation
    expected = torch.where(ratio * 0.1 > 1, correlation / ratio, expected)
    without_weight = projection.clone()
    passes.move_projection(projection, weight, grad_weight, deviation, mean_square, count, EPS, 0.9)
    passes.move_projection(without_weight, None, correlation * 6, deviation, mean_square, count, EPS, 0.9)
    for found in (projection, without_weight):
        assert found.dtype == wide
        torch.testing.assert_close(found, expected)
    assert (ratio * 0.1 > 1).any() and not (ratio * 0.1 > 1).all()
