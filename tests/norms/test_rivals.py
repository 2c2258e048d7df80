"""Norms against recorded runs of other people's modules, every number of every step."""

import json
import math

import numpy
import pytest
import torch
from torch import nn

from fairseq_powernorm import build_norm
from fairseq_powernorm.norms.regularized_batch_norm import norm_penalty

TOLERANCE = {"rtol": 1e-10, "atol": 1e-10}
OURS = {"scalenorm": {"scale": "weight"}}
"""By run, parameters of theirs that have another name here."""

STATELESS = {
    "rmsnorm_torch": ("rms", {"eps": 1e-6}),
    "scalenorm": ("scale", {}),
    "groupnorm_per_token_torch": ("group", {"count": 2}),
    "dyt_default": ("dynamic-tanh", {}),
    "dyt": ("dynamic-tanh", {"alpha": 0.2}),
    "derf_default": ("dynamic-erf", {}),
    "derf": ("dynamic-erf", {"alpha": 1.0, "shift": 0.1}),
}


@pytest.fixture
def recorded(real_data):
    """``recorded(RUN)`` gives the arrays of a run as tensors, and its number of steps."""

    def load(run):
        stored = numpy.load(real_data / "rival_norms" / f"{run}.npz")
        arrays = {key: torch.from_numpy(stored[key]) for key in stored.files if stored[key].dtype.kind in "fib"}
        return arrays, int(stored["steps"]), json.loads(str(stored["settings"]))

    return load


def load_parameters(norm, arrays, ours):
    """Gives the norm the parameters of a run; ``ours`` says what is called otherwise here."""
    theirs = {key.removeprefix("param_"): value for key, value in arrays.items() if key.startswith("param_")}
    parameters = {ours.get(key, key): value for key, value in theirs.items()}
    assert parameters.keys() == dict(norm.named_parameters()).keys()
    with torch.no_grad():
        for key, parameter in norm.named_parameters():
            parameter.copy_(parameters[key].reshape(parameter.shape))


def follow_step(norm, arrays, step, ours, mask, alone=False, tolerance=TOLERANCE):
    """One training step: output and dX at real tokens, and the gradients of all parameters; gives x.

    With ``alone`` the norm gets the real tokens alone, as rows, otherwise all positions and the mask.
    """
    x = arrays[f"x{step}"]
    real = torch.ones(x.shape[:-1], dtype=torch.bool) if mask is None else ~mask.t()
    tokens = real if alone else ...
    x = x[tokens].clone().requires_grad_()
    norm.zero_grad()
    y = norm(x, None if alone else mask)
    y.backward(arrays[f"dy{step}"][tokens], retain_graph=True)
    for key, value in {"y": y, "dx": x.grad}.items():
        found = value if alone else value[real]
        torch.testing.assert_close(
            found, arrays[f"{key}{step}"][real], msg=lambda text, key=key: key + text, **tolerance
        )
    names = {our: their for their, our in ours.items()}
    for key, parameter in norm.named_parameters():
        expected = arrays[f"d{names.get(key, key)}{step}"].reshape(parameter.shape)
        torch.testing.assert_close(parameter.grad, expected, msg=lambda text, key=key: key + text, **tolerance)
    return x


def follow_evaluation(norm, arrays, tolerance=TOLERANCE):
    """Evaluation mode, at real tokens."""
    mask = arrays.get("pad_eval")
    real = torch.ones(arrays["x_eval"].shape[:-1], dtype=torch.bool) if mask is None else ~mask.t()
    found = norm.eval()(arrays["x_eval"], mask)
    torch.testing.assert_close(found[real], arrays["y_eval"][real], **tolerance)


@pytest.mark.realdata
@pytest.mark.parametrize("run", STATELESS)
def test_norms_of_single_tokens_follow(run, recorded):
    name, settings = STATELESS[run]
    arrays, steps, _ = recorded(run)
    norm = build_norm(name, arrays["x0"].size(-1), dtype=torch.float64, **settings)
    start = {key: value.clone() for key, value in norm.named_parameters()}
    load_parameters(norm, arrays, OURS.get(run, {}))
    if run.endswith("default"):
        assert all(torch.equal(value, start[key]) for key, value in norm.named_parameters())
    for step in range(steps):
        follow_step(norm, arrays, step, OURS.get(run, {}), None)
    follow_evaluation(norm, arrays)


def test_rms_equals_torch():
    ours, theirs = build_norm("rms", 12, eps=1e-6), torch.nn.RMSNorm(12, eps=1e-6)
    torch.nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(5, 3, 12)
    assert torch.equal(ours(x), theirs(x))
    with pytest.raises(ValueError, match="RMSNorm has no bias, got bias=True"):
        build_norm("rms", 12, bias=True)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_group_equals_torch(count):
    ours, theirs = build_norm("group", 12, count=count), nn.GroupNorm(count, 12)
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(5, 3, 12)
    assert torch.equal(ours(x), theirs(x.reshape(15, 12)).view_as(x))
    if count == 1:
        torch.testing.assert_close(ours(x), nn.functional.layer_norm(x, (12,), ours.weight, ours.bias))


def test_scale_and_dynamic_by_hand():
    """A token (3, 4) has length 5: g √2 (0.6, 0.8); tanh(0.5 · 2) and erf(0.5 · 2)."""
    scale = build_norm("scale", 2)
    torch.testing.assert_close(scale(torch.tensor([[3.0, 4.0]])), math.sqrt(2) * torch.tensor([[0.6, 0.8]]))
    assert scale(torch.zeros(1, 2)).eq(0).all()
    for name, expected in (("dynamic-tanh", 0.7615942), ("dynamic-erf", 0.8427008)):
        torch.testing.assert_close(build_norm(name, 1)(torch.tensor([[2.0]])), torch.tensor([[expected]]))


UNIFIED = {
    "running_var": "running_square_mean",
    "ema_gz": "gradient_projection",
    "buffer_x2": "square_mean_window",
    "buffer_gz": "gradient_window",
    "iters": "num_updates",
    "skip_counter": "num_outliers",
}


def follow_unified(name, arrays, steps, settings, alone):
    """Every step's output, gradients and buffers, from the recorded state on."""
    window = settings["window_size"] if isinstance(settings["window_size"], list) else [settings["window_size"]] * 2
    norm = build_norm(
        name,
        arrays["x0"].size(-1),
        dtype=torch.float64,
        eps=settings["eps"],
        window=window[0],
        backward_window=window[1],
        warmup_updates=settings["warmup_iters"],
        outlier_filtration=settings["outlier_filtration"],
    )
    load_parameters(norm, arrays, {})
    for theirs, ours in UNIFIED.items():
        buffer = getattr(norm, ours)
        buffer.copy_(arrays[f"state_{theirs}"].reshape(buffer.shape))
    for step in range(steps):
        follow_step(norm, arrays, step, {}, arrays.get(f"pad{step}"), alone)
        for theirs, ours in UNIFIED.items():
            buffer = getattr(norm, ours)
            expected = arrays[f"{theirs}{step}"].reshape(buffer.shape).to(buffer.dtype)
            torch.testing.assert_close(buffer, expected, msg=lambda text, ours=ours: f"{ours}: {text}", **TOLERANCE)
    follow_evaluation(norm, arrays)


@pytest.mark.realdata
@pytest.mark.parametrize("run", ["default_in_warmup", "filter", "late", "masked", "window", "window1"])
def test_unified_released_follows(run, recorded):
    follow_unified("unified-released", *recorded(f"un_{run}"), alone=run != "masked")


@pytest.mark.realdata
@pytest.mark.parametrize("run", ["default_in_warmup", "late"])
def test_unified_is_the_release_where_its_1000_calls_are_over_or_within_the_warmup(run, recorded):
    follow_unified("unified", *recorded(f"un_{run}"), alone=False)


def test_unified_counts_updates_by_itself_and_as_it_is_told():
    norm = build_norm("unified", 2)
    for _ in range(3):
        norm(torch.randn(4, 2))
    assert norm.num_updates == 3
    norm.set_num_updates(0)  # as fairseq does when it fine-tunes
    assert norm.num_updates == 0
    released = build_norm("unified-released", 2)
    released.set_num_updates(7)
    assert released.num_updates == 0


def test_a_window_of_unified_by_hand():
    """One channel, one token, W = 2: ψ² = 1, 4, 16; the third update divides by √(4 · 16) = 8."""
    norm = build_norm("unified", 1, eps=1e-30, window=2, alpha_fwd=0.5).double()
    outputs = [norm(torch.full((1, 1), value, dtype=torch.float64)).item() for value in (1.0, 2.0, 4.0)]
    assert outputs == pytest.approx([1, 1, 4 / math.sqrt(8)])
    assert norm.square_mean_window[:, 0].tolist() == pytest.approx([4, 16])
    assert float(norm.running_square_mean) == pytest.approx(0.5 * (0.5 * (0.5 + 0.5) + 2) + 4)


PENALTIES = ["diff2", "mag", "reldiff", "reldiffcosine", "reldiffnorm", "symkl"]
RECORDED_BATCH_NORMS = {
    "batch_1_1": {"mean_weight": 0.0, "variance_weight": 0.0},
    "diff_0.1_0.01": {"mean_weight": 0.1, "variance_weight": 0.01},
    "diff_60_0": {"mean_weight": 60.0, "variance_weight": 0.0},
    "awkward": {"mean_weight": 0.1, "variance_weight": 0.01},
    **{kind: {"penalty": kind, "mean_weight": 0.7, "variance_weight": 0.2} for kind in PENALTIES},
}


@pytest.mark.realdata
@pytest.mark.parametrize("run", RECORDED_BATCH_NORMS)
def test_regularized_batch_follows(run, recorded):
    arrays, steps, settings = recorded(f"rbn_{run}")
    own = RECORDED_BATCH_NORMS[run]
    assert settings.get("penalty_type", "diff") == own.get("penalty", "diff") and settings["momentum"] == 0.05
    norm = build_norm("regularized-batch", 12, eps=settings["eps"], alpha_fwd=0.95, dtype=torch.float64, **own)
    load_parameters(norm, arrays, {})
    # "awkward" squares an offset of 1000 before it subtracts, and carries the rounding of that
    tolerance = {"rtol": 1e-8, "atol": 1e-8} if run == "awkward" else TOLERANCE
    for step in range(steps):
        mask = arrays.get(f"pad{step}")
        x = follow_step(norm, arrays, step, {}, mask, tolerance=tolerance)
        x.grad = None
        norm.zero_grad()
        penalty = norm_penalty(norm)
        torch.testing.assert_close(penalty.double(), arrays[f"loss{step}"].reshape(()), **tolerance)
        if penalty.requires_grad:
            penalty.backward()
            torch.testing.assert_close(x.grad, arrays[f"dx_loss{step}"], **tolerance)
        assert norm.weight.grad is None and norm.bias.grad is None
        for buffer in ("running_mean", "running_var"):
            torch.testing.assert_close(getattr(norm, buffer), arrays[f"{buffer}{step}"], **tolerance)
    follow_evaluation(norm, arrays, tolerance)


REP = {"bn_weight": "weight", "bn_bias": "bias", "alpha": "alpha"}
PROGRESSIVE = {f"norm2_{their}": ours for their, ours in REP.items()} | {
    "norm1_weight": "layer_weight",
    "norm1_bias": "layer_bias",
}


@pytest.mark.realdata
@pytest.mark.parametrize("run", ["vision_default", "vision", "llama_default", "llama"])
def test_rep_batch_follows(run, recorded):
    arrays, steps, _ = recorded(f"repbn_{run}")
    norm = build_norm("rep-batch", 12, alpha_fwd=0.9, dtype=torch.float64)
    load_parameters(norm, arrays, REP)
    if run == "vision_default":
        assert norm.alpha.item() == 1.0 == build_norm("rep-batch", 12).alpha.item()
    for step in range(steps):
        follow_step(norm, arrays, step, REP, arrays.get(f"pad{step}"))
        for buffer in ("running_mean", "running_var"):
            torch.testing.assert_close(getattr(norm, buffer), arrays[f"bn_{buffer}{step}"], **TOLERANCE)
    follow_evaluation(norm, arrays)


@pytest.mark.realdata
@pytest.mark.parametrize("run", ["vision", "llama"])
def test_progressive_rep_batch_follows(run, recorded):
    """Their counters go down, at every forward call or every 16th; ours is put where theirs are. Their evaluation is
    always RepBN: so is ours after the last step."""
    arrays, steps, settings = recorded(f"prepbn_{run}")
    start = {"start_eps": 1e-6} if run == "vision" else {"uncentred": True, "start_eps": settings["eps"]}
    schedule = {"warmup_updates": settings["warm"], "updates": settings["step"]}
    norm = build_norm("progressive-rep-batch", 12, dtype=torch.float64, **start, **schedule)
    ours = PROGRESSIVE if run == "vision" else {k: v for k, v in PROGRESSIVE.items() if k != "norm1_bias"}
    load_parameters(norm, arrays, ours)
    warm, left = int(arrays["state_warm"]), int(arrays["state_iter"])
    shares = []
    for step in range(steps):
        norm.set_num_updates(settings["warm"] - warm if warm else settings["warm"] + settings["step"] - left)
        shares.append(norm.layer_share().item())
        follow_step(norm, arrays, step, ours, arrays.get(f"pad{step}"))
        for buffer in ("running_mean", "running_var"):
            torch.testing.assert_close(getattr(norm, buffer), arrays[f"norm2_bn_{buffer}{step}"], **TOLERANCE)
        warm, left = int(arrays[f"warm{step}"]), int(arrays[f"iter{step}"])
    assert shares[0] == 1 and shares[-1] == 0 and len(set(shares)) > 2
    norm.set_num_updates(settings["warm"] + settings["step"])
    follow_evaluation(norm, arrays)
