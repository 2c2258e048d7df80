"""What every norm promises, whatever its formula."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from fairseq_powernorm import available_norms, build_norm
from fairseq_powernorm.norms.batch_statistics import BatchStatisticsNorm
from fairseq_powernorm.norms.registry import NORMS as REGISTRY
from fairseq_powernorm.norms.registry import norms_with
from fairseq_powernorm.norms.token_norm import hand_padding_mask

NORMS = available_norms()
WITH_STATISTICS = [name for name in NORMS if REGISTRY[name].statistics]
MASKED = [name for name in NORMS if REGISTRY[name].declaration.ignores_padding]  # not in the release's backward pass
GROUPS = [0, 2]


def build(name, channels=8, groups=0, **settings):
    if groups and name in norms_with("group_scaling"):
        settings["group_scaling"] = groups
    norm = build_norm(name, channels, **settings)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter, parameter.mean().item(), 0.2)
    return norm


def batch(channels=8, dtype=torch.float32):
    """(T, B, C) activations, a mask with padding in two of three sentences, and a gradient that is 0 at padding."""
    x = torch.randn(5, 3, channels, dtype=dtype) + 0.3
    mask = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] + [True] * 4])
    grad = torch.randn(5, 3, channels, dtype=dtype).masked_fill(mask.t().unsqueeze(-1), 0)
    return x, mask, grad


def step(norm, x, mask, grad):
    """One training step: output, dX, dγ, dβ and the buffers after it."""
    norm.zero_grad()
    x = x.clone().requires_grad_()
    y = norm(x, mask)
    y.backward(grad)
    buffers = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    gradients = {f"d{name}": parameter.grad for name, parameter in norm.named_parameters()}
    return {"y": y.detach(), "dx": x.grad, **gradients, **buffers}


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("content", [0.0, 1e4, float("nan"), float("inf")])
@pytest.mark.parametrize("name", MASKED)
def test_what_stands_at_padding_changes_nothing(name, content, groups):
    if name not in WITH_STATISTICS and not math.isfinite(content):
        pytest.skip("a norm of single tokens sums dγ over padding too: NaN times a gradient of 0 is NaN")
    x, mask, grad = batch()
    at_padding = mask.t().unsqueeze(-1)
    first = build(name, groups=groups)
    second = copy.deepcopy(first)
    for _ in range(3):
        expected = step(first, x, mask, grad)
        found = step(second, x.masked_fill(at_padding, content), mask, grad)
        for key, value in expected.items():
            if key in ("y", "dx"):
                value, other = value.masked_fill(at_padding, 0), found[key].masked_fill(at_padding, 0)
            else:
                other = found[key]
            torch.testing.assert_close(other, value, rtol=0, atol=0)
    if name in WITH_STATISTICS:
        assert (found["dx"].masked_select(at_padding) == 0).all()


@pytest.mark.parametrize("name", [name for name in MASKED if name in WITH_STATISTICS])
def test_a_gradient_at_padding_is_ignored(name):
    x, mask, grad = batch()
    first = build(name)
    second = copy.deepcopy(first)
    expected = step(first, x, mask, grad)
    found = step(second, x, mask, grad.masked_fill(mask.t().unsqueeze(-1), 7.0))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0)


def test_the_released_norm_lets_padding_into_its_backward_pass():
    x, mask, grad = batch()
    norm = build("power-released")
    step(norm, x, mask, grad)
    found = step(norm, x, mask, grad)
    assert (found["dx"].masked_select(mask.t().unsqueeze(-1)) != 0).any()


@pytest.mark.parametrize("name", MASKED)
def test_masked_tokens_equal_the_same_tokens_alone(name):
    x, mask, grad = batch(dtype=torch.float64)
    real = ~mask.t()
    first = build(name).double()
    second = copy.deepcopy(first)
    for _ in range(3):
        found, alone = step(first, x, mask, grad), step(second, x[real], None, grad[real])
        for key, value in alone.items():
            other = found[key][real] if key in ("y", "dx") else found[key]
            torch.testing.assert_close(other, value)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("name", NORMS)
def test_layouts_agree(name, groups):
    x, mask, grad = batch()
    first = build(name, groups=groups)
    second, third = copy.deepcopy(first), copy.deepcopy(first)
    expected = step(first, x, mask, grad)
    rows = step(second, x.reshape(-1, 8), mask.t().reshape(-1), grad.reshape(-1, 8))
    strided = step(third, x.transpose(0, 1).contiguous().transpose(0, 1), mask, grad)
    for key, value in expected.items():
        torch.testing.assert_close(rows[key].reshape(value.shape), value, rtol=0, atol=0)
        torch.testing.assert_close(strided[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("name", NORMS)
def test_a_handed_mask_is_the_argument(name, groups):
    x, mask, grad = batch()
    first = build(name, groups=groups)
    second = copy.deepcopy(first)
    expected = step(first, x, mask, grad)
    with hand_padding_mask(mask, second, None):
        found = step(second, x, None, grad)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0)
    without = step(second, x, None, grad)  # the mask is gone after the block
    if name in WITH_STATISTICS:
        assert any((without[key] != found[key]).any() for key in ("y", "dx"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("name", NORMS)
def test_low_precision_keeps_statistics_in_float32(name, groups, dtype):
    x, mask, grad = batch()
    x, grad = x.to(dtype).float(), grad.to(dtype).float()  # what both see is the same
    wide = build(name, groups=groups)
    with torch.no_grad():
        for parameter in wide.parameters():
            parameter.copy_(parameter.to(dtype))
    narrow = copy.deepcopy(wide).to(dtype)
    assert all(buffer.dtype == torch.float32 for buffer in narrow.buffers() if buffer.is_floating_point())
    for _ in range(3):
        expected = step(wide, x, mask, grad)
        found = step(narrow, x.to(dtype), mask, grad.to(dtype))
    assert found["y"].dtype == found["dx"].dtype == dtype
    assert {found[f"d{key}"].dtype for key, _ in narrow.named_parameters()} <= {dtype}
    resolution = torch.finfo(dtype).eps
    for key, value in expected.items():
        if key in dict(wide.named_buffers()):
            # ψ, μ and σ see rounded rows only through group scaling; ν sees them through every gradient.
            torch.testing.assert_close(found[key], value, rtol=2 * resolution, atol=2 * resolution)
        else:
            torch.testing.assert_close(found[key].float(), value, rtol=4 * resolution, atol=4 * resolution)


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_casting_to_double_takes_the_buffers_along_and_half_does_not(name):
    norm = build(name)
    statistics = [key for key, buffer in norm.named_buffers() if buffer.is_floating_point()]
    assert {getattr(norm.half(), key).dtype for key in statistics} == {torch.float32}
    assert {getattr(norm.double(), key).dtype for key in statistics} == {torch.float64}
    assert {getattr(norm.bfloat16(), key).dtype for key in statistics} == {torch.float64}
    assert norm.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("name", NORMS)
def test_evaluation_changes_no_buffer_and_sees_one_token_at_a_time(name, groups):
    norm = build(name, groups=groups)
    x, mask, grad = batch()
    step(norm, x, mask, grad)
    norm.eval()
    before = copy.deepcopy(norm.state_dict())
    together = norm(x.requires_grad_(), mask)
    for position in range(5):
        torch.testing.assert_close(norm(x[position : position + 1]), together[position : position + 1], rtol=0, atol=0)
    together.sum().backward()
    for key, value in norm.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("name", [name for name in MASKED if name in WITH_STATISTICS])
def test_a_batch_of_padding_alone_moves_nothing(name):
    norm = build(name)
    x, _, grad = batch()
    before = copy.deepcopy(norm.state_dict())
    found = step(norm, x, torch.ones(3, 5, dtype=torch.bool), grad)
    assert (found["dx"] == 0).all() and found["y"].isfinite().all()
    for key, value in norm.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_gradient_that_is_not_finite_leaves_nu_as_it_was(bad):
    norm = build("power")
    x, mask, grad = batch()
    step(norm, x, mask, grad)
    before = norm.gradient_projection.clone()
    poisoned = grad.clone()
    poisoned[0, 0, 0] = bad
    step(norm, x, mask, poisoned)
    assert torch.equal(norm.gradient_projection, before)
    step(norm, x, mask, grad)
    assert not torch.equal(norm.gradient_projection, before)


@pytest.mark.parametrize("name", [name for name in MASKED if name in WITH_STATISTICS])
def test_an_activation_that_is_not_finite_leaves_the_running_statistics_as_they_were(name):
    norm = build(name)
    x, mask, _ = batch()
    norm(x, mask)
    before = copy.deepcopy(norm.state_dict())
    x[0, 0, 0] = float("inf")
    norm(x, mask)
    for key, value in norm.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("warmup", [0, 100])
@pytest.mark.parametrize("name", NORMS)
def test_recomputation_changes_nothing(name, warmup, reentrant):
    settings = {"warmup_updates": warmup} if name in norms_with("warmup_updates") else {}
    plain = build(name, **settings)
    recomputed = copy.deepcopy(plain)
    for _ in range(4):
        x, mask, grad = batch()
        expected = step(plain, x, mask, grad)
        recomputed.zero_grad()
        x = x.clone().requires_grad_()
        y = checkpoint(lambda x, mask: recomputed(x, mask), x, mask, use_reentrant=reentrant)
        y.backward(grad)
        found = {"y": y, "dx": x.grad, **dict(recomputed.named_buffers())}
        found |= {f"d{name}": parameter.grad for name, parameter in recomputed.named_parameters()}
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("name", NORMS)
def test_nothing_waits_for_the_device(name, groups):
    """On the meta device there are no values to read: any ``.item()`` or data-dependent shape would raise."""
    norm = build(name, groups=groups).to("meta")
    x = torch.randn(5, 3, 8, device="meta", requires_grad=True)
    norm(x, torch.zeros(3, 5, dtype=torch.bool, device="meta")).sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("name", NORMS)
def test_state_dict_carries_everything_over(name):
    norm = build(name)
    x, mask, grad = batch()
    for _ in range(3):
        step(norm, x, mask, grad)
    other = build_norm(name, 8)
    other.load_state_dict(norm.state_dict())
    expected, found = step(norm, x, mask, grad), step(other, x, mask, grad)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("name", NORMS)
def test_reset_goes_back_to_the_start(name):
    """All of it, as in torch's norms; a norm with statistics can also be told to reset these alone."""
    settings = {"warmup_updates": 3} if name in norms_with("warmup_updates") else {}
    norm, fresh = build(name, **settings), build_norm(name, 8, **settings)
    if hasattr(norm, "set_num_updates"):
        norm.set_num_updates(7)
    x, mask, grad = batch()
    step(norm, x, mask, grad)
    parameters = {key: parameter.clone() for key, parameter in norm.named_parameters()}
    if name in WITH_STATISTICS:
        norm.reset_statistics()
        assert all(torch.equal(value, dict(fresh.named_buffers())[key]) for key, value in norm.named_buffers())
        assert all(torch.equal(value, parameters[key]) for key, value in norm.named_parameters())
        step(norm, x, mask, grad)
    norm.reset_parameters()
    assert all(torch.equal(value, fresh.state_dict()[key]) for key, value in norm.state_dict().items())
    assert getattr(norm, "warming_up", None) == getattr(fresh, "warming_up", None)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(0, 8), (0, 3, 8), (5, 0, 8)])
@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("name", NORMS)
def test_no_rows_change_nothing(name, groups, shape, training):
    norm = build(name, groups=groups)
    x, mask, grad = batch()
    step(norm, x, mask, grad)
    before = copy.deepcopy(norm.state_dict())
    norm.train(training)
    for empty_mask in (None, torch.zeros(shape[:-1]).t().bool() if len(shape) == 3 else torch.zeros(0).bool()):
        found = step(norm, torch.randn(shape), empty_mask, torch.randn(shape))
        assert found["y"].shape == found["dx"].shape == shape
        assert not any(found[f"d{key}"].any() for key, _ in norm.named_parameters())
    assert all(torch.equal(value, before[key]) for key, value in norm.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("name", NORMS)
def test_evaluation_is_the_same_with_and_without_grad(name, groups, dtype):
    norm = build(name, 64, groups)
    x = torch.randn(500, 64)
    step(norm, x, None, torch.randn(500, 64))
    norm.eval().to(dtype)
    x = x.to(dtype)
    expected = norm(x)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(norm(x), expected)


@pytest.mark.parametrize("affine", [{"elementwise_affine": False}, {"bias": False}])
@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("name", NORMS)
def test_without_affine_parameters_they_are_1_and_0(name, groups, affine):
    """Outputs, gradients and statistics are those of γ = 1 and β = 0, in training and evaluation."""
    settings = {"group_scaling": groups} if name in norms_with("group_scaling") else {}
    plain = build_norm(name, 8, **settings)
    norm = build_norm(name, 8, **settings, **affine)
    assert (norm.weight is None) == ("bias" not in affine or not norm.has_weight) and norm.bias is None
    for training in (True, True, False):
        plain.train(training)
        norm.train(training)
        x, mask, grad = batch()
        expected, found = step(plain, x, mask, grad), step(norm, x, mask, grad)
        gone = ("bias", "weight") if norm.weight is None else "bias"
        assert found.keys() == {key for key in expected if not (key.startswith("d") and key.endswith(gone))}
        for key, value in found.items():
            torch.testing.assert_close(value, expected[key])
    norm.reset_parameters()
    assert "False" in repr(norm) or not norm.has_bias


@pytest.mark.parametrize("name", NORMS)
def test_device_and_dtype_are_those_of_torchs_norms(name):
    norm = build_norm(name, 8, device="meta", dtype=torch.bfloat16)
    assert {tensor.device.type for tensor in norm.state_dict().values()} <= {"meta"}
    assert {parameter.dtype for parameter in norm.parameters()} <= {torch.bfloat16}
    assert {buffer.dtype for buffer in norm.buffers() if buffer.is_floating_point()} <= {torch.float32}
    wide = build_norm(name, 8, dtype=torch.float64)
    assert {tensor.dtype for tensor in wide.state_dict().values() if tensor.is_floating_point()} <= {torch.float64}
    assert bool(wide.state_dict()) == (wide.has_weight or bool(wide.statistics))


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_every_buffer_has_an_averaging_policy(name):
    norm = build_norm(name, 4)
    assert isinstance(norm, BatchStatisticsNorm)
    assert set(norm.buffer_policies) == {key for key, _ in norm.named_buffers()}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize(
    ("shape", "mask_shape", "dtype", "message"),
    [
        ((5, 3, 7), None, None, "8 channels"),
        ((8,), None, None, "got shape"),
        ((2, 5, 3, 8), None, None, "got shape"),
        ((5, 3, 8), (5, 3), torch.bool, "padding mask of shape"),
        ((5, 3, 8), (3, 5), torch.float32, "bool padding mask"),
    ],
)
def test_wrong_shapes_are_named(name, shape, mask_shape, dtype, message):
    if name not in WITH_STATISTICS and message != "8 channels":
        pytest.skip("a norm of single tokens takes any layout")
    mask = None if mask_shape is None else torch.zeros(mask_shape).to(dtype)
    with pytest.raises(ValueError, match=message):
        build_norm(name, 8)(torch.randn(shape), mask)


@settings(deadline=None, max_examples=60)
@given(tokens=st.integers(2, 40), channels=st.integers(1, 9), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 999))
def test_pn_v_brings_every_channel_to_quadratic_mean_one(tokens, channels, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, channels, generator=generator, dtype=torch.float64) * scale
    y = build_norm("pn-v", channels, eps=1e-30).double()(x)
    torch.testing.assert_close(y.square().mean(dim=0), torch.ones(channels, dtype=torch.float64))


@settings(deadline=None, max_examples=60)
@given(tokens=st.integers(3, 40), channels=st.integers(1, 9), mean=st.floats(-1e3, 1e3), seed=st.integers(0, 999))
def test_batch_equals_torch(tokens, channels, mean, seed):
    """Against ``torch.nn.BatchNorm1d``: outputs and gradients, and the running variance but for its n/(n − 1)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, channels, generator=generator, dtype=torch.float64) + mean
    grad = torch.randn(tokens, channels, generator=generator, dtype=torch.float64)
    ours, theirs = build_norm("batch", channels).double(), torch.nn.BatchNorm1d(channels).double()
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    outputs = [ours(inputs[0]), theirs(inputs[1])]
    for output in outputs:
        output.backward(grad)
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    unbiased = (ours.running_var - 0.9) * tokens / (tokens - 1) + 0.9
    torch.testing.assert_close(unbiased, theirs.running_var)
