"""Activations with the batch first, and images with their channels second: the numbers of (T, B, C)."""

import copy
import pickle

import pytest
import torch
from torch import nn

from fairseq_powernorm import BatchNorm, available_norms, build_norm
from fairseq_powernorm.norms.registry import NORMS as REGISTRY

NORMS = available_norms()
WITH_STATISTICS = [name for name in NORMS if REGISTRY[name].statistics]
MASK = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] + [True] * 4])


def step(norm, x, mask, grad):
    """One training step: output, dX, parameter gradients and the buffers after it."""
    norm.zero_grad()
    x = x.clone().requires_grad_()
    y = norm(x, mask)
    y.backward(grad)
    gradients = {f"d{key}": parameter.grad for key, parameter in norm.named_parameters()}
    return {"y": y.detach(), "dx": x.grad, **gradients, **{key: value.clone() for key, value in norm.named_buffers()}}


@pytest.mark.parametrize("channel_dim", [-1, 1])
@pytest.mark.parametrize("name", NORMS)
def test_a_layout_changes_no_number(name, channel_dim):
    time_first = build_norm(name, 8)
    other = build_norm(name, 8, batch_first=True, channel_dim=channel_dim)

    def arranged(tensor):  # (T, B, C) as the other norm has it
        return tensor.transpose(0, 1).movedim(-1, channel_dim).contiguous()

    for _ in range(3):
        x, grad = torch.randn(2, 5, 3, 8)
        grad = grad.masked_fill(MASK.t().unsqueeze(-1), 0)
        expected, found = step(time_first, x, MASK, grad), step(other, arranged(x), MASK, arranged(grad))
        assert found["y"].is_contiguous()
        for key, value in expected.items():
            value = arranged(value) if key in ("y", "dx") else value
            torch.testing.assert_close(found[key], value)
    expected = arranged(time_first.eval()(x))
    torch.testing.assert_close(other.eval()(arranged(x)), expected)


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_the_pixels_of_images_are_tokens(name):
    images, rows = build_norm(name, 6, channel_dim=1), build_norm(name, 6)
    x, grad = torch.randn(2, 4, 6, 3, 2)
    mask = torch.rand(4, 3, 2) > 0.7

    def as_rows(tensor):
        return tensor.permute(0, 2, 3, 1).reshape(-1, 6)

    for _ in range(2):
        found, expected = step(images, x, mask, grad), step(rows, as_rows(x), mask.view(-1), as_rows(grad))
        for key, value in expected.items():
            torch.testing.assert_close(as_rows(found[key]) if key in ("y", "dx") else found[key], value)


def test_images_are_normalised_as_by_batchnorm2d():
    ours, theirs = BatchNorm(6, channel_dim=1), nn.BatchNorm2d(6)
    for _ in range(3):
        x, grad = torch.randn(2, 4, 6, 3, 2)
        found = step(ours, x, None, grad)
        theirs.zero_grad()
        leaf = x.clone().requires_grad_()
        output = theirs(leaf)
        output.backward(grad)
        torch.testing.assert_close(found["y"], output, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found["dx"], leaf.grad, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found["dweight"], theirs.weight.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    last = ours(x.to(memory_format=torch.channels_last))  # a format, as with torch's, that the output keeps
    assert last.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_copies_have_the_layout(name, tmp_path):
    norm = build_norm(name, 6, channel_dim=1)
    x, mask = torch.randn(4, 6, 5), torch.rand(4, 5) > 0.5
    copies = [copy.deepcopy(norm), pickle.loads(pickle.dumps(norm))]
    expected = norm(x, mask)
    for other in copies:
        torch.testing.assert_close(other(x, mask), expected, rtol=0, atol=0)
        assert other.state_dict().keys() == build_norm(name, 6).state_dict().keys()


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_layouts_compile_without_a_graph_break(name):
    torch.compiler.reset()  # one function for all norms, which is compiled for each
    norm = build_norm(name, 6, channel_dim=1)
    eager = copy.deepcopy(norm)
    compiled = torch.compile(norm, backend="aot_eager", fullgraph=True)
    x, mask, grad = torch.randn(4, 6, 5), torch.rand(4, 5) > 0.5, torch.randn(4, 6, 5)
    for _ in range(2):
        expected = step(eager, x, mask, grad)
        norm.zero_grad()
        y = compiled(x, mask)
        y.backward(grad)
        torch.testing.assert_close(y, expected["y"])
        torch.testing.assert_close(norm.weight.grad, expected["dweight"])
        for key, buffer in norm.named_buffers():
            torch.testing.assert_close(buffer, expected[key])


@pytest.mark.parametrize(
    ("options", "x", "mask", "message"),
    [
        ({"channel_dim": 0}, None, None, "expected channel_dim -1, or with the batch first 1 or above, got 0"),
        ({"channel_dim": 1, "batch_first": False}, None, None, "got 1 and batch_first=False"),
        ({"channel_dim": 1}, (4, 5, 6), None, r"expected 6 channels in dimension 1, got shape \(4, 5, 6\)"),
        ({"channel_dim": 2}, (4, 6), None, "expected 6 channels in dimension 2"),
        ({"batch_first": True}, (4, 5, 6), (5, 4), r"padding mask of shape \(4, 5\).*got \(5, 4\)"),
        ({"channel_dim": 1}, (4, 6, 3, 2), (4, 3), r"padding mask of shape \(4, 3, 2\)"),
    ],
)
def test_wrong_layouts_are_named(options, x, mask, message):
    with pytest.raises(ValueError, match=message):
        build_norm("batch", 6, **options)(torch.randn(x), None if mask is None else torch.zeros(mask).bool())
