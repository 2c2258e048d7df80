"""padding_mask: which norm gets which mask, and that it lasts as long as it is needed."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from fairseq_powernorm import available_norms, build_norm, padding_mask
from fairseq_powernorm.norms.registry import NORMS as REGISTRY

WITH_STATISTICS = [name for name in available_norms() if REGISTRY[name].statistics]
X = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1))
MASK = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] + [True] * 4])
OTHER = MASK.flip(0)


class Pair(nn.Module):
    """Two norms, below an encoder and a decoder."""

    def __init__(self, name="batch"):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 8), build_norm(name, 8, batch_first=True))
        self.decoder = nn.Sequential(nn.Linear(8, 8), build_norm(name, 8, batch_first=True))

    def forward(self, x):
        return self.encoder(x), self.decoder(x)


def by_hand(model, encoder_mask, decoder_mask):
    """What a copy computes that is given its masks as arguments."""
    model = copy.deepcopy(model)
    pairs = ((model.encoder, encoder_mask), (model.decoder, decoder_mask))
    return [stack[1](stack[0](X), mask) for stack, mask in pairs]


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_all_norms_or_those_below_a_module(name):
    model = Pair(name)
    for blocks, expected in (
        ([(MASK, None)], (MASK, MASK)),
        ([(MASK, model.encoder)], (MASK, None)),
        ([(MASK, model.encoder), (OTHER, model.decoder)], (MASK, OTHER)),
        ([(MASK, [model.encoder, model.decoder])], (MASK, MASK)),
        ([(MASK, None), (OTHER, model.decoder)], (MASK, OTHER)),
        ([(OTHER, model.decoder), (MASK, None)], (MASK, OTHER)),  # modules count first
        ([(MASK, None), (None, model.decoder)], (MASK, None)),
        ([(MASK, None), (OTHER, None)], (OTHER, OTHER)),
        ([], (None, None)),
    ):
        outputs = by_hand(model, *expected)
        trained = copy.deepcopy(model)
        twin = dict(zip(model.modules(), trained.modules(), strict=True))
        managers = [
            padding_mask(mask, [twin[m] for m in modules] if isinstance(modules, list) else twin.get(modules))
            for mask, modules in blocks
        ]
        for manager in managers:
            manager.__enter__()
        found = trained(X)
        for manager in reversed(managers):
            manager.__exit__(None, None, None)
        for output, wanted in zip(found, outputs, strict=True):
            torch.testing.assert_close(output, wanted, rtol=0, atol=0)


def test_a_block_ends_with_its_exception():
    model = Pair()
    for modules in (None, model):
        with pytest.raises(RuntimeError, match="stop"), padding_mask(MASK, modules):
            raise RuntimeError("stop")
        for found, expected in zip(model(X), by_hand(copy.deepcopy(model), None, None), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_recomputation_after_the_block_still_knows_the_mask(name, use_reentrant):
    model = Pair(name)
    plain = copy.deepcopy(model)
    x = X.clone().requires_grad_()
    for _ in range(3):
        losses = []
        for norms, recompute in ((plain, False), (model, True)):
            with padding_mask(MASK):
                output = checkpoint(norms.encoder, x, use_reentrant=use_reentrant) if recompute else norms.encoder(x)
            loss = (output * torch.arange(8.0)).masked_fill(MASK.unsqueeze(-1), 0).sum()
            norms.zero_grad()
            loss.backward()
            losses.append(loss)
        assert torch.equal(*losses)
        for key, parameter in plain.encoder.named_parameters():
            torch.testing.assert_close(model.encoder.get_parameter(key).grad, parameter.grad, rtol=0, atol=0)
        for key, buffer in plain.encoder.named_buffers():
            torch.testing.assert_close(model.encoder.get_buffer(key), buffer, rtol=0, atol=0)


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_compiled_norms_get_the_mask_of_each_pass(name, below):
    torch._dynamo.reset()  # else the norms before count as recompilations
    model = Pair(name)
    eager = copy.deepcopy(model)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    compiled = torch.compile(model.encoder, backend=backend, fullgraph=True)
    for mask in (MASK, OTHER, MASK.roll(1, 0), OTHER):
        with padding_mask(mask, (model if below else None)):
            found = compiled(X)
        with padding_mask(mask):
            torch.testing.assert_close(found, eager.encoder(X))
    assert len(graphs) == 1


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (MASK.long(), r"expected a bool padding mask, True at padding, got int64 .*~attention_mask.bool\(\)"),
        ([[True]], "got list"),
    ],
)
def test_other_masks_are_refused(mask, message):
    with pytest.raises(ValueError, match=message), padding_mask(mask):
        raise AssertionError


def test_modules_without_norms_are_refused():
    for modules, message in ((nn.Linear(2, 2), "no norm of this package in Linear; replace_norms"), ([], "no modules")):
        with pytest.raises(ValueError, match=message), padding_mask(MASK, modules):
            raise AssertionError


def test_a_mask_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"padding mask of shape \(3, 5\)"), padding_mask(MASK.t()):
        Pair()(X)
