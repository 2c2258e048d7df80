"""RegularizedBN's penalty reaches the loss of whoever trains, however the passes are run."""

import copy
import logging

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from fairseq_powernorm import build_norm
from fairseq_powernorm.norms.regularized_batch_norm import norm_penalty


def build(**settings):
    torch.manual_seed(0)
    norms = [build_norm("regularized-batch", 6, mean_weight=0.7, variance_weight=0.3, **settings) for _ in range(2)]
    return nn.Sequential(nn.Linear(6, 6), norms[0], nn.Tanh(), norms[1])


def gradients(model, run, steps=3, weight=1.0):
    """Of every parameter and step, with the penalty in the loss."""
    found = []
    for step in range(steps):
        x = torch.randn(20, 6, generator=torch.Generator().manual_seed(step))
        model.zero_grad()
        loss = run(x).square().sum()
        if weight:
            loss = loss + weight * norm_penalty(model)
        loss.backward()
        found += [parameter.grad.clone() for parameter in model.parameters()]
    return found


def assert_same(found, expected, **tolerance):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


def test_by_hand():
    """One channel, tokens 1 and 3, α = 0.5: μ_B = 2, σ_B² = 1, so μ = 1 and σ² = 1 after them; λ₁ (1 − 2)² + λ₂ · 0.
    Its gradient by each token is 2 λ₁ (2 − 1)/2, and by σ_B² there is none at 0."""
    norm = build_norm("regularized-batch", 1, alpha_fwd=0.5, mean_weight=3.0, variance_weight=5.0).double()
    x = torch.tensor([[1.0], [3.0]], dtype=torch.float64, requires_grad=True)
    norm(x)
    penalty = norm_penalty(norm)
    assert penalty.item() == pytest.approx(3.0)
    penalty.backward()
    assert x.grad[:, 0].tolist() == pytest.approx([3.0, 3.0])


def test_what_is_not_added_has_no_influence():
    plain = copy.deepcopy(build())
    for norm in (plain[1], plain[3]):
        norm.mean_weight = norm.variance_weight = 0.0
    model = build()
    assert_same(gradients(model, model, weight=0), gradients(plain, plain), rtol=0, atol=0)
    with_penalty = build()
    assert any(
        (a != b).any() for a, b in zip(gradients(with_penalty, with_penalty), gradients(plain, plain), strict=True)
    )
    assert norm_penalty(build()).item() == 0 == norm_penalty(nn.Linear(2, 2)).item()


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("weight", [1.0, 2.5, 0.0])
def test_activation_checkpointing_keeps_it(reentrant, weight):
    """Also where its first pass is without grad, as torch's reentrant way and fairseq's."""
    plain = build()
    expected = gradients(plain, plain, weight=weight)
    model = build()

    def run(x):
        return checkpoint(model, x.requires_grad_(), use_reentrant=reentrant)

    assert_same(gradients(model, run, weight=weight), expected)


def test_a_compiled_model_has_it():
    torch._dynamo.reset()
    logger = logging.getLogger("torch.__trace")
    logger.disabled = True
    plain, model = build(), build()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert_same(gradients(model, compiled), gradients(plain, plain))
    logger.disabled = False
    torch._dynamo.reset()


def test_evaluation_and_padding_alone_have_none():
    model = build()
    x = torch.randn(4, 6, requires_grad=True)
    model[1](x, torch.ones(4, dtype=torch.bool))
    penalty = norm_penalty(model)
    assert penalty.item() == 0
    penalty.backward()
    assert not x.grad.any()
    model.eval()
    norm_penalty(model)
    model(x)
    assert not norm_penalty(model).requires_grad


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_layer_that_a_pass_drops_adds_nothing(reentrant):
    norm = build()[1]
    checkpoint(norm, torch.randn(4, 6, requires_grad=True), use_reentrant=reentrant)
    assert norm_penalty(norm).item() > 0 == norm_penalty(norm).item()


def test_a_copy_has_none():
    model = build()
    model(torch.randn(4, 6))
    assert copy.deepcopy(model)[1].penalty is None
