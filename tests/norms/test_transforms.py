"""Norms under torch's own machinery: functional_call, second derivatives, torch.compile, update_bn."""

import copy
import logging

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.optim.swa_utils import update_bn
from torch.utils.checkpoint import checkpoint

from fairseq_powernorm import available_norms, build_norm
from fairseq_powernorm.norms.recalibration import gather_statistics
from fairseq_powernorm.norms.registry import NORMS as REGISTRY
from fairseq_powernorm.norms.registry import norms_with
from fairseq_powernorm.norms.update import one_update

NORMS = available_norms()
WITH_STATISTICS = [name for name in NORMS if REGISTRY[name].statistics]
APPROXIMATE = [name for name in NORMS if not REGISTRY[name].declaration.exact_gradient]
WITH_WARMUP = norms_with("warmup_updates")
EXACT = [name for name in NORMS if name not in APPROXIMATE]
CHANNELS = 8


def build(name, channels=CHANNELS, groups=0, **settings):
    if name in norms_with("group_scaling"):
        settings["group_scaling"] = groups
    norm = build_norm(name, channels, **settings)
    for parameter in norm.parameters():
        nn.init.normal_(parameter, parameter.mean().item(), 0.2)
    return norm


def settings_for(name, warmup):
    return {"warmup_updates": warmup} if name in WITH_WARMUP else {}


def with_warmups(names, *warmups):
    """Each norm with each length of the warm-up, if it has one."""
    return [(name, warmup) for name in names for warmup in (warmups if name in WITH_WARMUP else (0,))]


def batch(dtype=torch.float32):
    """(T, B, C) activations, a mask, and a gradient that is 0 at padding."""
    x = torch.randn(5, 3, CHANNELS, dtype=dtype) + 0.3
    mask = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] + [True] * 4])
    return x, mask, torch.randn(x.shape, dtype=dtype).masked_fill(mask.t().unsqueeze(-1), 0)


def step(call, norm, x, mask, grad):
    """One training step by ``call``: output at real tokens, dX, dγ, dβ and the buffers after it."""
    norm.zero_grad()
    x = x.clone().requires_grad_()
    y = call(x, mask)
    y.backward(grad)
    buffers = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    real = y.detach().masked_fill(mask.t().unsqueeze(-1), 0)
    gradients = {f"d{name}": parameter.grad for name, parameter in norm.named_parameters()}
    return {"y": real, "dx": x.grad, **gradients, **buffers}


def assert_close(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, msg=lambda text, key=key: f"{key}: {text}", **tolerance)


@pytest.mark.parametrize("within_update", [False, True])
@pytest.mark.parametrize(("name", "warmup"), with_warmups(WITH_STATISTICS, 0, 100))
def test_functional_call_updates_what_it_lent(name, warmup, within_update):
    """The buffers that were handed in are updated as the module's own would have been, which stay as they were: also
    by a backward pass, and by the end of an update, which both come when the call is over."""
    norm = build(name, **settings_for(name, warmup))
    expected_norm, untouched = copy.deepcopy(norm), copy.deepcopy(norm.state_dict())
    lent = {key: value.clone() for key, value in norm.state_dict().items() if key in norm.statistics}
    for _ in range(3):
        x, mask, grad = batch()
        if within_update:
            with one_update(expected_norm):
                step(expected_norm, expected_norm, x, mask, grad)
            with one_update(norm):
                step(lambda x, mask: functional_call(norm, lent, (x, mask)), norm, x, mask, grad)
        else:
            step(expected_norm, expected_norm, x, mask, grad)
            step(lambda x, mask: functional_call(norm, lent, (x, mask)), norm, x, mask, grad)
    for key, value in lent.items():
        assert torch.equal(value, getattr(expected_norm, key)), key
    assert all(torch.equal(value, untouched[key]) for key, value in norm.state_dict().items())
    assert any((value != untouched[key]).any() for key, value in lent.items())


def as_function(norm, mask):
    """The norm as a function of x and its parameters, and points to differentiate it at."""

    def call(x, *parameters):
        given = dict(zip(dict(norm.named_parameters()), parameters, strict=True))
        return functional_call(norm, given, (x, mask)).masked_fill(mask.t().unsqueeze(-1), 0)

    shapes = [(*reversed(mask.shape), norm.channels), *(parameter.shape for parameter in norm.parameters())]
    return call, [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("groups", [0, 2])
@pytest.mark.parametrize("name", EXACT)
def test_exact_gradients_can_be_differentiated(name, groups, training):
    """By x, γ, β and dY, against finite differences of the first gradient."""
    norm = build(name, 4, groups).double().train(training)
    mask = torch.tensor([[False, False, False], [False, False, True]])
    assert torch.autograd.gradgradcheck(*as_function(norm, mask))


@pytest.mark.parametrize("groups", [0, 2])
@pytest.mark.parametrize("name", EXACT)
def test_the_gradient_that_is_differentiated_is_the_usual_one(name, groups):
    norm = build(name, groups=groups)
    x, mask, grad = batch()
    expected = step(norm, norm, x, mask, grad)
    x.requires_grad_()
    parameters = dict(norm.named_parameters())
    found = torch.autograd.grad(norm(x, mask), (x, *parameters.values()), grad, create_graph=True)
    for tensor, key in zip(found, ("dx", *(f"d{name}" for name in parameters)), strict=True):
        torch.testing.assert_close(tensor.detach(), expected[key])


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("name", APPROXIMATE)
def test_an_approximate_gradient_refuses(name, constant):
    """Also where dY does not depend on the activations."""
    norm, x = build(name), torch.randn(6, CHANNELS, requires_grad=True)
    y = norm(x)
    (grad,) = torch.autograd.grad(y.sum() if constant else y.square().sum(), x, create_graph=True)
    assert grad.isfinite().all()  # the first derivative is there for whoever asked for a graph
    with pytest.raises(RuntimeError, match=f"^the backward pass of {name} is an approximation: it has no second"):
        grad.square().sum().backward()


@pytest.mark.parametrize("groups", [0, 2])
@pytest.mark.parametrize("name", APPROXIMATE)
def test_in_evaluation_every_norm_can_be_differentiated_twice(name, groups):
    norm = build(name, 4, groups).double().eval()
    mask = torch.zeros(2, 3, dtype=torch.bool)
    function, points = as_function(norm, mask)
    assert torch.autograd.gradcheck(function, points)
    assert torch.autograd.gradgradcheck(function, points)


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    logger = logging.getLogger("torch.__trace")  # pytest would record thousands of its lines
    logger.disabled = True
    yield
    logger.disabled = False
    torch._dynamo.reset()


@pytest.mark.parametrize(("name", "warmup"), with_warmups(NORMS, 0, 2))
@pytest.mark.usefixtures("fresh_compiler")
def test_the_whole_graph_compiles(name, warmup):
    """Training and evaluation without a graph break, with the eager numbers: outputs, gradients and statistics. Twelve
    updates, as torch gives up at the eighth graph of a function."""
    eager = build(name, groups=warmup, **settings_for(name, warmup)).double()
    compiled = copy.deepcopy(eager)
    call = torch.compile(compiled, backend="aot_eager", fullgraph=True)
    for number in range(12):
        x, mask, grad = batch(torch.float64)
        for norm in (eager, compiled):
            if hasattr(norm, "set_num_updates"):
                norm.set_num_updates(number)
        assert_close(step(call, compiled, x, mask, grad), step(eager, eager, x, mask, grad))
    for norm in (eager, compiled):
        norm.eval()
    assert_close(step(call, compiled, x, mask, grad), step(eager, eager, x, mask, grad))
    with torch.no_grad():
        torch.testing.assert_close(call(x, mask), eager(x, mask))


@pytest.mark.parametrize(("backend", "reentrant"), [("aot_eager", True), ("aot_eager_decomp_partition", False)])
@pytest.mark.parametrize(("name", "warmup"), with_warmups(WITH_STATISTICS, 0, 100))
@pytest.mark.usefixtures("fresh_compiler")
def test_recomputation_of_a_compiled_norm_changes_nothing(name, warmup, reentrant, backend):
    """Activation checkpointing around a compiled graph: it runs again in the backward pass, which only it can see."""
    plain = build(name, **settings_for(name, warmup)).double()
    recomputed = copy.deepcopy(plain)
    compiled = torch.compile(recomputed, backend=backend, fullgraph=True)
    for _ in range(3):
        x, mask, grad = batch(torch.float64)
        expected = step(plain, plain, x, mask, grad)
        found = step(lambda x, mask: checkpoint(compiled, x, mask, use_reentrant=reentrant), recomputed, x, mask, grad)
        assert_close(found, expected)


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_update_bn_knows_no_norm_of_ours_and_gather_statistics_does_its_work(name):
    """torch's function looks for torch's BatchNorm; docs/guarantees.md says what to use."""
    model = nn.Sequential(nn.Linear(CHANNELS, CHANNELS), build(name))
    loader = [torch.randn(20, CHANNELS) for _ in range(3)]
    before = copy.deepcopy(model.state_dict())
    update_bn(loader, model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model.eval()
    with torch.no_grad(), gather_statistics(model):
        for rows in loader:
            model(rows)
    assert any((getattr(model[1], key) != before[f"1.{key}"]).any() for key in model[1].running_statistics)
