"""Progressive RepBN between its ends, where λ changes with every update."""

import copy
import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from fairseq_powernorm import build_norm
from fairseq_powernorm.norms.update import one_update

CHANNELS = 6


def build(**settings):
    settings = {"updates": 8, "warmup_updates": 2, **settings}
    norm = build_norm("progressive-rep-batch", CHANNELS, **settings).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter, parameter.mean().item(), 0.2)
    return norm


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    x, grad = (torch.randn(4, 3, CHANNELS, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = torch.tensor([[False] * 4, [False] * 3 + [True], [False, False, True, True]])
    return x + 0.5, mask, grad


def step(call, norm, seed):
    x, mask, grad = batch(seed)
    x.requires_grad_()
    norm.zero_grad()
    y = call(x, mask)
    y.backward(grad)
    gradients = {f"d{name}": parameter.grad for name, parameter in norm.named_parameters()}
    real = y.detach().masked_fill(mask.t().unsqueeze(-1), 0)
    return {"y": real, "dx": x.grad, **gradients, **{name: buffer.clone() for name, buffer in norm.named_buffers()}}


def assert_same(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, msg=lambda text, key=key: f"{key}: {text}", **tolerance)


def shares(norm, updates):
    found = []
    for number in range(updates):
        norm.set_num_updates(number)
        found.append(norm.layer_share().item())
    return found


def test_the_schedule():
    assert shares(build(updates=4), 8) == [1, 1, 1, 0.75, 0.5, 0.25, 0, 0]
    assert shares(build(updates=0), 4) == [1, 1, 0, 0]
    assert shares(build(updates=0, warmup_updates=0), 2) == [0, 0]


@pytest.mark.parametrize("uncentred", [False, True])
def test_validation_is_what_training_has_at_that_moment(uncentred):
    """Halfway: half of LN and half of BatchNorm by running statistics plus α x."""
    norm = build(updates=4, warmup_updates=0, uncentred=uncentred)
    rep = build_norm("rep-batch", CHANNELS).double()
    rep.load_state_dict({key: value for key, value in norm.state_dict().items() if key in rep.state_dict()})
    for number in range(2):
        step(norm, norm, number)
        step(rep, rep, number)
    norm.eval(), rep.eval()
    x, _, _ = batch(7)
    parameters = norm.layer_weight, norm.layer_bias
    layer = (
        F.layer_norm(x, (CHANNELS,), *parameters, 1e-6)
        if not uncentred
        else F.rms_norm(x, (CHANNELS,), parameters[0], 1e-6)
    )
    torch.testing.assert_close(norm(x), 0.5 * layer + 0.5 * rep(x))
    assert norm.not_constant() == "it is LayerNorm in part until update 4, and the model has had 2"
    norm.set_num_updates(4)
    torch.testing.assert_close(norm(x), rep(x), rtol=0, atol=0)
    assert norm.not_constant() is None


def test_the_warmup_shows_repbn_no_data():
    norm = build()
    for number in range(2):
        found = step(norm, norm, number)
        assert not found["running_mean"].any() and (found["running_var"] == 1).all()
        assert not any(found[f"d{name}"].any() for name in ("weight", "bias", "alpha"))
    assert step(norm, norm, 3)["running_mean"].all() and norm.num_updates == 3


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputation_has_the_share_of_its_first_pass(reentrant):
    plain = build()
    recomputed = copy.deepcopy(plain)
    for number in range(12):
        expected = step(plain, plain, number)
        found = step(lambda x, mask: checkpoint(recomputed, x, mask, use_reentrant=reentrant), recomputed, number)
        assert_same(found, expected, rtol=0, atol=0)


def test_micro_batches_have_one_share_and_count_as_one_update():
    norm = build(warmup_updates=0)
    for number in range(4):
        with one_update(norm):
            for part in range(3):
                step(norm, norm, 3 * number + part)
                assert norm.layer_share() == 1 - number / 8
    assert norm.num_updates == 4


def test_a_compiled_graph_follows_the_schedule():
    torch._dynamo.reset()
    logger = logging.getLogger("torch.__trace")
    logger.disabled = True
    plain = build()
    compiled = copy.deepcopy(plain)
    call = torch.compile(compiled, backend="aot_eager", fullgraph=True)
    for number in range(12):
        assert_same(step(call, compiled, number), step(plain, plain, number))
    logger.disabled = False
    torch._dynamo.reset()


def test_gradients_are_exact_on_the_way():
    norm = build(warmup_updates=0)
    norm.set_num_updates(3)
    names, (x, mask, _) = list(dict(norm.named_parameters())), batch(0)

    def call(x, *parameters):
        norm.set_num_updates(3)
        y = torch.func.functional_call(norm, dict(zip(names, parameters, strict=True)), (x, mask))
        return y.masked_fill(mask.t().unsqueeze(-1), 0)

    points = [x, *(parameter.detach() for parameter in norm.parameters())]
    assert torch.autograd.gradcheck(call, [point.requires_grad_() for point in points])
