"""The Triton kernels on a CUDA device: as exact as plain torch there, the same bits every time, no waiting.

Without a device tests/kernels/test_operators.py runs them by Triton's interpreter.
"""

import contextlib
import copy

import pytest
import torch

from fairseq_powernorm import build_norm
from fairseq_powernorm.kernels import operators, plain

pytestmark = pytest.mark.gpu
NORMS = [("power", {}), ("power", {"warmup_updates": 9}), ("pn-v", {}), ("batch", {}), ("power", {"group_scaling": 4})]
ids = ["power", "power in its warm-up", "pn-v", "batch", "power with groups"]
SHAPES = [(1, 1, 64), (33, 7, 1020), (128, 64, 512), (64, 600, 256)]


def step(norm, x, mask, grad):
    """Output at real tokens, dX, dγ, dβ and the buffers of one training step, as float64 on the CPU."""
    x = x.clone().requires_grad_()
    y = norm(x, mask)
    grads = torch.autograd.grad(y, [x, norm.weight, norm.bias], grad)
    at_padding = mask.t().unsqueeze(-1)
    tensors = [y.detach().masked_fill(at_padding, 0), *grads, *norm.buffers()]
    return [tensor.double().cpu() for tensor in tensors]


def case(shape, dtype):
    """Activations and a gradient with NaN at padding, and the mask, on the device."""
    time, sentences, _ = shape
    lengths = torch.linspace(0.5, 1, sentences).mul(time).ceil()
    mask = torch.arange(time)[None, :] >= lengths[:, None]
    x, grad = (torch.randn(shape).add(0.5).masked_fill(mask.t().unsqueeze(-1), float("nan")) for _ in range(2))
    return x.to("cuda", dtype), mask.cuda(), grad.to("cuda", dtype)


@pytest.mark.parametrize(("name", "settings"), NORMS, ids=ids)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_as_exact_as_plain_torch(name, settings, dtype, shape):
    x, mask, grad = case(shape, dtype)
    truth = build_norm(name, shape[-1], **settings).double()
    by = {"kernels": contextlib.nullcontext, "plain": lambda: operators.implemented_by(plain, "cuda")}
    norms = {mode: copy.deepcopy(truth).float().cuda() for mode in by}
    for _ in range(2):
        expected = step(truth, x.double().cpu(), mask.cpu(), grad.double().cpu())
        errors = {}
        for mode, norm in norms.items():
            with by[mode]():
                found = step(norm, x, mask, grad)
            errors[mode] = [float((a - b).abs().max()) for a, b in zip(found, expected, strict=True)]
        for ours, theirs, value in zip(errors["kernels"], errors["plain"], expected, strict=True):
            assert ours <= 2 * theirs + 1e-5 * max(1.0, float(value.abs().max()))


@pytest.mark.parametrize(("name", "settings"), NORMS, ids=ids)
def test_the_same_bits_and_no_waiting(name, settings):
    assert operators.missing("cuda") is None
    x, mask, grad = case((64, 32, 512), torch.float32)
    first = build_norm(name, 512, **settings).cuda()
    second = copy.deepcopy(first)
    expected = step(first, x, mask, grad)
    for found, value in zip(step(second, x, mask, grad), expected, strict=True):
        assert torch.equal(found, value)
    x.requires_grad_()
    torch.cuda.set_sync_debug_mode("error")
    try:
        first(x, mask).backward(grad)
    finally:
        torch.cuda.set_sync_debug_mode("default")
