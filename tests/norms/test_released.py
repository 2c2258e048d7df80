"""``power-released`` against runs of the authors' module, every number of every step."""

import numpy
import pytest
import torch

from fairseq_powernorm import build_norm

RUNS = ["groups4_warmup5", "nogroups_warmup1", "nopad_groups2_warmup3"]


@pytest.mark.realdata
@pytest.mark.parametrize("run", RUNS)
def test_follows_the_released_module(run, real_data):
    stored = numpy.load(real_data / "released_power_norm" / f"{run}.npz")
    recorded = {name: torch.from_numpy(stored[name]) for name in stored.files}
    norm = build_norm(
        "power-released",
        int(recorded["channels"]),
        eps=float(recorded["eps"]),
        alpha_fwd=float(recorded["alpha_fwd"]),
        alpha_bwd=float(recorded["alpha_bwd"]),
        warmup_updates=int(recorded["warmup"]),
        group_scaling=int(recorded["group_scaling"]),
    ).double()
    with torch.no_grad():
        norm.weight.copy_(recorded["weight"])
        norm.bias.copy_(recorded["bias"])
    for step in range(int(recorded["steps"])):
        x = recorded[f"x{step}"].requires_grad_()
        norm.zero_grad()
        y = norm(x, recorded.get(f"pad{step}"))
        y.backward(recorded[f"dy{step}"])
        found = {
            "y": y,
            "dx": x.grad,
            "dweight": norm.weight.grad,
            "dbias": norm.bias.grad,
            "running_phi": norm.running_square_mean,
            "ema_gz": norm.accumulated_projection,
        }
        for name, value in found.items():
            torch.testing.assert_close(value, recorded[f"{name}{step}"], rtol=1e-9, atol=1e-14, msg=f"{name}{step}")
    torch.testing.assert_close(norm.eval()(recorded["x_eval"]), recorded["y_eval"], rtol=1e-9, atol=1e-14)


def test_one_step_by_hand():
    """One channel, two tokens, 3 and 4: ψ_B² = 12.5. W = 0, so the first call divides by φ = 1."""
    norm = build_norm("power-released", 1, eps=1e-12, alpha_fwd=0.9, alpha_bwd=0.9).double()
    x = torch.tensor([[3.0], [4.0]], dtype=torch.float64, requires_grad=True)
    y = norm(x)
    torch.testing.assert_close(y.detach(), x.detach())
    torch.testing.assert_close(norm.running_square_mean, torch.tensor([0.9 + 1.25], dtype=torch.float64))
    y.backward(torch.tensor([[1.0], [2.0]], dtype=torch.float64))
    # E was 0, so dX = g / √ψ_B²; then E = mean g z = (3 + 8) / 2
    torch.testing.assert_close(x.grad, torch.tensor([[1.0], [2.0]], dtype=torch.float64) / 12.5**0.5)
    torch.testing.assert_close(norm.accumulated_projection, torch.tensor([5.5], dtype=torch.float64))


def test_an_inf_in_a_gradient_stays_as_in_the_release():
    norm = build_norm("power-released", 2)
    for grad in (float("inf"), 1.0):
        x = torch.randn(3, 2, requires_grad=True)
        norm(x).backward(torch.full((3, 2), grad))
    assert not norm.accumulated_projection.isfinite().any()
