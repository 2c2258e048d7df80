"""Numbers at the edge: few tokens, silent and loud channels, channels that explode, very long trainings."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_powernorm import available_norms, build_norm
from fairseq_powernorm.kernels.operators import move_projection
from fairseq_powernorm.norms.registry import NORMS as REGISTRY
from fairseq_powernorm.norms.registry import norms_with

NORMS = available_norms()
CHANNELS = 4


def step(norm, x, grad, mask=None):
    """Output and dX of one training step."""
    x = x.clone().requires_grad_()
    y = norm(x, mask)
    y.backward(grad)
    return y.detach(), x.grad


def finite(norm, *tensors):
    return all(bool(tensor.isfinite().all()) for tensor in (*tensors, *norm.state_dict().values()))


@pytest.mark.parametrize("groups", [0, 2])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", NORMS)
def test_a_single_token(name, padded, groups):
    """Alone, or among padding, which then has no influence on anything."""
    torch.manual_seed(0)
    scaling = {"group_scaling": groups} if groups and name in norms_with("group_scaling") else {}
    norm, alone = build_norm(name, CHANNELS, **scaling), build_norm(name, CHANNELS, **scaling)
    for _ in range(4):
        x, grad = torch.randn(5, 1, CHANNELS), torch.randn(5, 1, CHANNELS)
        mask = torch.tensor([[True, True, False, True, True]])
        if not padded:
            x, grad, mask = x[2:3], grad[2:3], None
        grad = grad if mask is None else grad.masked_fill(mask.t().unsqueeze(-1), 0)
        y, grad_x = step(norm, x, grad, mask)
        assert finite(norm, y[2] if padded else y, grad_x)
        if padded and REGISTRY[name].declaration.ignores_padding:
            expected, expected_grad = step(alone, x[2:3], grad[2:3])
            torch.testing.assert_close(y[2:3], expected)
            torch.testing.assert_close(grad_x[2:3], expected_grad)
    if name == "batch" and not groups:  # x − μ is 0: the output is β, and nothing depends on x
        assert not grad_x.abs().max() > 1e-4


@pytest.mark.parametrize("groups", [0, 2])
@pytest.mark.parametrize("scale", [1e4, 1e-6])
@pytest.mark.parametrize("name", NORMS)
def test_loud_and_silent_activations(name, scale, groups):
    """float32 against float64, at magnitudes where squares reach 1e8 and vanish beside ε."""
    scaling = {"group_scaling": groups} if groups and name in norms_with("group_scaling") else {}
    norm, exact = build_norm(name, CHANNELS, **scaling), build_norm(name, CHANNELS, **scaling).double()
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        x = torch.randn(40, CHANNELS, generator=generator, dtype=torch.float64) * scale
        grad = torch.randn(40, CHANNELS, generator=generator, dtype=torch.float64)
        y, grad_x = step(norm, x.float(), grad.float())
        expected, expected_grad = step(exact, x.float().double(), grad.float().double())
        assert finite(norm, y, grad_x)
        torch.testing.assert_close(y.double(), expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(grad_x.double() * scale, expected_grad * scale, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NORMS)
def test_a_channel_that_is_always_zero(name):
    """It stays at β, gets a gradient that is bounded by that of the output over √ε, and harms no other channel."""
    norm, without = build_norm(name, CHANNELS), build_norm(name, CHANNELS)
    torch.manual_seed(0)
    for _ in range(200):  # ψ² and σ² go to 0
        x, grad = torch.randn(16, CHANNELS), torch.randn(16, CHANNELS)
        silent = x.clone()
        silent[:, 1] = 0
        y, grad_x = step(norm, silent, grad)
        assert finite(norm, y, grad_x)
    bound = grad.abs().max() / math.sqrt(norm.eps) * 1.01
    assert grad_x.abs().max() <= bound
    if REGISTRY[name].statistics:  # channels do not meet
        torch.manual_seed(0)
        for _ in range(200):
            x, grad = torch.randn(16, CHANNELS), torch.randn(16, CHANNELS)
            y_without, grad_without = step(without, x, grad)
        others = [0, 2, 3]
        assert torch.equal(y[:, 1], norm.bias[1].expand(16))
        assert torch.equal(y[:, others], y_without[:, others])
        assert torch.equal(grad_x[:, others], grad_without[:, others])
        norm.eval()
        assert norm(torch.randn(3, CHANNELS)).isfinite().all()


@settings(deadline=None, max_examples=60)
@given(
    exponents=st.lists(st.integers(-6, 6), min_size=2, max_size=30),
    tokens=st.lists(st.integers(0, 9), min_size=30, max_size=30),
    alpha=st.sampled_from([0.0, 0.5, 0.9, 0.99]),
    seed=st.integers(0, 999),
)
def test_gradients_are_bounded_however_a_channel_explodes(exponents, tokens, alpha, seed):
    """Theorem 4, with the bound worked out: ν_t is a mean of ν_{t−1} and Λ_t/Γ_t, and |Λ| ≤ rms(g) √Γ by
    Cauchy-Schwarz, so |ν_t| ≤ B = max rms(g)/√Γ over the batches so far, and for each token
    |dX| ≤ (|g| + B |X̂|)/√(ψ² + ε). Activations jump by up to twelve orders of magnitude from batch to batch."""
    norm = build_norm("power", 1, alpha_fwd=alpha, alpha_bwd=alpha).double()
    generator, bound = torch.Generator().manual_seed(seed), 0.0
    for exponent, count in zip(exponents, tokens, strict=False):
        x = torch.randn(10, 1, generator=generator, dtype=torch.float64) * 10.0**exponent
        grad = torch.randn(10, 1, generator=generator, dtype=torch.float64)
        mask = torch.arange(10) >= count
        root = (norm.running_square_mean + norm.eps).sqrt().item()
        _, grad_x = step(norm, x, grad, mask)
        real = slice(0, count)
        limit = (grad[real].abs() + bound * x[real].abs() / root) / root
        assert (grad_x[real].abs() <= limit * (1 + 1e-9)).all()
        if count:
            rms = grad[real].square().mean().sqrt().item()
            bound = max(bound, rms / (x[real].square().mean().sqrt().item() / root))
        assert norm.gradient_projection.abs().item() <= bound * (1 + 1e-9)


def as_printed(projection, weight, grad_weight, square_mean, batch_square_mean, count, eps, alpha):
    """The last line of Algorithm 2, whatever Γ is."""
    ratio, correlation = batch_square_mean / (square_mean + eps), weight * grad_weight / count
    projection.mul_(1 - (1 - alpha) * ratio).add_(correlation, alpha=1 - alpha)


@pytest.mark.parametrize("printed", [False, True])
def test_one_loud_batch_is_forgotten_at_once(monkeypatch, printed):
    """By Algorithm 2 as printed ν is multiplied by −1000, and gradients are 28 times too large, for 84 updates."""
    if printed:
        monkeypatch.setattr("fairseq_powernorm.norms.power_norm.move_projection", as_printed)
    norm, generator = build_norm("power", 2), torch.Generator().manual_seed(0)
    ratios = []
    for number in range(400):
        x = torch.randn(256, 2, generator=generator)
        grad = torch.randn(256, 2, generator=generator) + 0.1 * x
        x[:, 1] *= 100 if number == 200 else 1
        _, grad_x = step(norm, x, grad)
        ratios.append(float(grad_x[:, 1].norm() / grad_x[:, 0].norm()))
    assert max(ratios[:200]) < 1.5 < ratios[200]
    if printed:
        assert max(ratios[201:]) == pytest.approx(28, abs=1) and sum(ratio > 1.5 for ratio in ratios[201:]) == 84
    else:
        assert max(ratios[201:]) < 1.5


@given(gamma=st.floats(0, 10), nu=st.floats(-5, 5), correlation=st.floats(-5, 5))
def test_within_theorem_4_it_is_the_line_as_printed(gamma, nu, correlation):
    gamma, nu, correlation = (torch.tensor([value], dtype=torch.float64) for value in (gamma, nu, correlation))
    expected = nu * (1 - 0.1 * gamma) + 0.1 * correlation
    one = torch.ones(1, dtype=torch.float64)
    move_projection(nu, None, correlation, one, gamma, one[0], 0.0, 0.9)
    torch.testing.assert_close(nu, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "total"), [("batch", 20_000), ("pn-v", 20_000), ("power", 100_000)])
def test_no_drift_in_very_long_trainings(name, total):
    """100,000 steps with batches of 1 to 6 tokens (padding included) and changing scales, then the last 300 again in
    float64 from the start: exponential averages have forgotten the rest, and so must rounding errors have been."""
    long, exact = build_norm(name, 2), build_norm(name, 2).double()
    generator = torch.Generator().manual_seed(0)
    scales = 10 ** torch.randn(97, 1, 1, generator=generator)
    xs, grads = (torch.randn(97, 6, 2, generator=generator) for _ in range(2))
    xs, masks = xs * scales, torch.rand(97, 6, generator=generator) < 0.3
    for number in range(total):
        at = number * 31 % 97
        step(long, xs[at], grads[at], masks[at])
        if number >= total - 300:
            step(exact, xs[at].double(), grads[at].double(), masks[at])
    for key, value in exact.named_buffers():
        torch.testing.assert_close(getattr(long, key).double(), value, rtol=1e-4, atol=1e-6)
