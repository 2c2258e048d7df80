"""Every norm against the slow float64 reference: outputs, gradients and state, over many steps."""

import inspect

import pytest
import torch

from fairseq_powernorm import build_norm
from fairseq_powernorm.functional import reference
from fairseq_powernorm.norms.batch_norm import BatchNorm
from fairseq_powernorm.norms.pn_v import SquareMeanNorm
from fairseq_powernorm.norms.registry import NORMS, build_from_spec, norms_with, settings_of
from fairseq_powernorm.norms.spec import NormSpec

CHANNELS, EPS, ALPHA_FWD, ALPHA_BWD = 6, 1e-3, 0.8, 0.7
STEPS = 25
TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}


def random_batch(step):
    """Activations (T, B, C) with a mean and a spread that drift, a mask, and a gradient that is not 0 at padding."""
    generator = torch.Generator().manual_seed(step)
    length, sentences = 1 + step % 7, 1 + step % 4
    x = torch.randn(length, sentences, CHANNELS, generator=generator, dtype=torch.float64) * (1 + step / 5) + step / 10
    lengths = torch.randint(1, length + 1, (sentences,), generator=generator)
    mask = torch.arange(length)[None, :] >= lengths[:, None]
    grad = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    return x, mask if step % 3 else None, grad


def flatten_mask(mask, x):
    return torch.zeros(x[..., 0].numel(), dtype=torch.bool) if mask is None else mask.t().reshape(-1)


def reference_of(norm, rows, padding, state, warming_up):
    """Output and backward pass by the norm's declared reference, which is given what it takes."""
    function = norm.declaration.reference
    given = {"state": state, "warming_up": warming_up, "eps": norm.eps, "alpha_fwd": ALPHA_FWD, "alpha_bwd": ALPHA_BWD}
    given |= norm.__dict__.get("own_values", {})
    given |= {key: value.detach() for key, value in norm.named_parameters() if key not in ("weight", "bias")}
    taken = {name: value for name, value in given.items() if name in inspect.signature(function).parameters}
    weight = rows.new_ones(CHANNELS) if norm.weight is None else norm.weight.detach()
    bias = rows.new_zeros(CHANNELS) if norm.bias is None else norm.bias.detach()
    return function(rows, padding, weight, bias, **taken)


def cases():
    """Every norm with a reference: without and with scaling, and with a warm-up where it has one."""
    for name, norm in NORMS.items():
        if norm.declaration.reference is not None:
            for groups in (0, 3) if name in norms_with("group_scaling") else (0,):
                for warmup in (0, 9) if name in norms_with("warmup_updates") else (0,):
                    yield pytest.param(name, groups, warmup, id=f"{name}, {groups} groups, warm-up {warmup}")


@pytest.mark.parametrize(("name", "groups", "warmup"), list(cases()))
def test_follows_the_reference_over_many_steps(name, groups, warmup):
    settings = {"eps": EPS, "alpha_fwd": ALPHA_FWD, "alpha_bwd": ALPHA_BWD}
    settings |= {"group_scaling": groups, "warmup_updates": warmup}
    own = {"updates": 12} if "updates" in settings_of(name) else {}  # so that a schedule is under way
    norm = build_from_spec(NormSpec(name, **settings, own=own), CHANNELS).double()
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter, parameter.mean().item(), 0.3)
    state = reference.start_state(CHANNELS)
    for step in range(STEPS):
        if hasattr(norm, "set_num_updates"):
            norm.set_num_updates(step)
        x, mask, grad = random_batch(step)
        x.requires_grad_()
        norm.zero_grad()
        y = norm(x, mask)
        y.backward(grad)

        rows, padding = x.detach().reshape(-1, CHANNELS), flatten_mask(mask, x)
        if not norm.statistics:  # no use for the mask: padding passes through it like tokens
            padding = torch.zeros_like(padding)
        scaled, scaling_backward = reference.group_scaling(rows, groups, EPS) if groups else (rows, lambda g: g)
        expected, backward = reference_of(norm, scaled, padding, state, step < warmup)
        expected_dx, *expected_gradients = backward(grad.reshape(-1, CHANNELS))
        torch.testing.assert_close(y.reshape(-1, CHANNELS)[~padding], expected[~padding], **TOLERANCE)
        torch.testing.assert_close(x.grad.reshape(-1, CHANNELS), scaling_backward(expected_dx), **TOLERANCE)
        for parameter, gradient in zip(norm.parameters(), expected_gradients, strict=norm.has_bias):
            torch.testing.assert_close(parameter.grad, gradient, **TOLERANCE)
        for buffer in norm.statistics:
            torch.testing.assert_close(getattr(norm, buffer), state[buffer], **TOLERANCE)


@pytest.mark.parametrize("name", [name for name, norm in NORMS.items() if norm.declaration.exact_gradient])
@pytest.mark.parametrize("groups", [0, 2])
def test_exact_backward_passes_gradcheck(name, groups):
    if groups and name not in norms_with("group_scaling"):
        pytest.skip(f"{name} takes no group scaling")
    norm = build_norm(name, 4, **({"group_scaling": groups} if groups else {})).double()
    mask = torch.tensor([[False, False, False], [False, False, True]])
    names = list(dict(norm.named_parameters()))

    def loss(x, *parameters):
        y = torch.func.functional_call(norm, dict(zip(names, parameters, strict=True)), (x, mask))
        return y.masked_fill(mask.t().unsqueeze(-1), 0)

    shapes = [(3, 2, 4), *(parameter.shape for parameter in norm.parameters())]
    assert torch.autograd.gradcheck(
        loss, [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    )


def test_power_in_warmup_has_the_exact_gradient():
    x = torch.randn(5, 2, 4, dtype=torch.float64, requires_grad=True)
    norm = build_norm("power", 4, warmup_updates=1).double()
    assert torch.autograd.gradcheck(norm, (x,))


def column(*values):
    return torch.tensor([[value] for value in values], dtype=torch.float64)


def test_two_steps_of_power_by_hand():
    """One channel, tokens 1 and 3 twice, gradients 1 and 2, α = 0.9: ψ²_0 = 1, so ψ²_1 = 0.9 + 0.1 · 5 = 1.4."""
    norm = build_norm("power", 1, eps=1e-30).double()
    x, grad = column(1, 3).requires_grad_(), column(1, 2)
    norm(x).backward(grad)
    torch.testing.assert_close(x.grad, grad)  # ν_0 = 0 and ψ_0 = 1: the gradient passes as it is
    torch.testing.assert_close(norm.running_square_mean, torch.tensor([1.4], dtype=torch.float64))
    torch.testing.assert_close(norm.gradient_projection, torch.tensor([0.1 * 3.5], dtype=torch.float64))  # Λ = 7 / 2
    x.grad = None
    norm(x).backward(grad)
    root = 1.4**0.5
    expected = column((1 - 0.35 * 1 / root) / root, (2 - 0.35 * 3 / root) / root)
    torch.testing.assert_close(x.grad, expected)
    gamma, correlation = 5 / 1.4, 3.5 / root
    nu = 0.35 * (1 - 0.1 * gamma) + 0.1 * correlation
    torch.testing.assert_close(norm.gradient_projection, torch.tensor([nu], dtype=torch.float64))


def test_a_jump_beyond_theorem_4_by_hand():
    """Tokens 30 and 40 at ψ²_0 = 1: Γ = 1250, (1 − α) Γ = 125 > 1, so ν_1 = Λ/Γ = (1 · 30 + 2 · 40)/2/1250."""
    norm = build_norm("power", 1, eps=1e-30).double()
    norm(column(30, 40)).backward(column(1, 2))
    torch.testing.assert_close(norm.gradient_projection, torch.tensor([55 / 1250], dtype=torch.float64))


BY_CONSTANTS = (BatchNorm.normalize_by, SquareMeanNorm.normalize_by)


@pytest.mark.parametrize(
    "name", [name for name, norm in NORMS.items() if getattr(norm, "normalize_by", None) in BY_CONSTANTS]
)
def test_evaluation_uses_running_statistics_and_is_differentiable(name):
    norm = build_norm(name, 5).double().eval()
    for buffer in norm.buffers():
        if buffer.is_floating_point():
            torch.nn.init.uniform_(buffer, 0.5, 2)
    x = torch.randn(3, 2, 5, dtype=torch.float64, requires_grad=True)
    centred = issubclass(NORMS[name], BatchNorm)
    deviation = norm.running_var if centred else norm.running_square_mean
    mean = norm.running_mean if centred else 0
    expected = norm.weight * (x - mean) / torch.sqrt(deviation + norm.eps) + norm.bias
    torch.testing.assert_close(norm(x), expected)
    assert torch.autograd.gradcheck(norm, (x,))
