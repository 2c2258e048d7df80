"""Statistics are float32 or wider, however a norm comes by its dtype; what it cannot take is one line."""

import contextlib
import copy
import io

import pytest
import torch
from torch import nn
from torch.func import functional_call

from fairseq_powernorm import available_norms, build_norm
from fairseq_powernorm.norms.registry import NORMS as REGISTRY

NORMS = available_norms()
WITH_STATISTICS = [name for name in NORMS if REGISTRY[name].statistics]
HALF = [torch.float16, torch.bfloat16]
CHANNELS = 8


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def used(name):
    """A norm whose statistics are those of a few passes."""
    norm = build_norm(name, CHANNELS)
    for _ in range(3):
        norm(torch.randn(20, CHANNELS, requires_grad=True)).square().sum().backward()
    norm.zero_grad()
    return norm


def cast_all(state, dtype):
    """A state dict as of a model that was cast without care: everything in ``dtype``, counters too."""
    return {key: value.to(dtype) for key, value in state.items()}


def by_default_dtype(name, dtype):
    with default_dtype(dtype):
        return build_norm(name, CHANNELS)


def by_assignment(name, dtype):
    norm = build_norm(name, CHANNELS)
    norm.load_state_dict(cast_all(used(name).state_dict(), dtype), assign=True)
    return norm


def by_loading(name, dtype):
    norm = build_norm(name, CHANNELS).to(dtype)
    norm.load_state_dict(cast_all(used(name).state_dict(), dtype))
    return norm


def by_meta_and_assignment(name, dtype):
    with torch.device("meta"):
        norm = build_norm(name, CHANNELS)
    norm.load_state_dict(cast_all(used(name).state_dict(), dtype), assign=True)
    return norm


def by_meta_and_to_empty(name, dtype):
    with torch.device("meta"):
        norm = build_norm(name, CHANNELS).to(dtype)
    norm.to_empty(device="cpu")
    norm.reset_parameters()
    return norm


def by_swapping(name, dtype):
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        return used(name).to(dtype)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def by_pickle(name, dtype):
    stream = io.BytesIO()
    torch.save(used(name).to(dtype), stream)
    return torch.load(io.BytesIO(stream.getvalue()), weights_only=False)


WAYS = {
    "default dtype": by_default_dtype,
    "to": lambda name, dtype: used(name).to(dtype),
    "to a device": lambda name, dtype: used(name).to("cpu", dtype),
    "half or bfloat16": lambda name, dtype: used(name).half() if dtype == torch.float16 else used(name).bfloat16(),
    "type": lambda name, dtype: used(name).type(dtype),
    "within a model": lambda name, dtype: nn.Sequential(nn.Linear(2, 2), used(name)).to(dtype)[1],
    "load_state_dict": by_loading,
    "load_state_dict with assign": by_assignment,
    "meta device, then assign": by_meta_and_assignment,
    "meta device, then to_empty": by_meta_and_to_empty,
    "swapped parameters": by_swapping,
    "a copy": lambda name, dtype: copy.deepcopy(used(name).to(dtype)),
    "pickled": by_pickle,
}


def assert_statistics(norm, dtype):
    for key, statistic in norm.statistics.items():
        assert getattr(norm, key).dtype == (torch.int64 if statistic.counter else dtype), key


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_no_way_in_leads_below_float32(name, way, dtype):
    norm = WAYS[way](name, dtype)
    assert norm.weight.dtype == dtype
    assert_statistics(norm, torch.float32)
    norm.train()
    for _ in range(3):
        x = torch.randn(20, CHANNELS, dtype=dtype, requires_grad=True)
        y = norm(x)
        y.float().square().sum().backward()
        assert y.dtype == x.grad.dtype == norm.weight.grad.dtype == dtype
    assert_statistics(norm, torch.float32)
    assert all(value.isfinite().all() for value in norm.state_dict().values())
    assert norm.eval()(x).dtype == dtype


@pytest.mark.parametrize("way", [way for way in WAYS if way != "half or bfloat16"])
@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_double_takes_them_along(name, way):
    norm = WAYS[way](name, torch.float64)
    assert_statistics(norm, torch.float64)
    x = torch.randn(20, CHANNELS, dtype=torch.float64, requires_grad=True)
    norm.train()(x).sum().backward()
    assert_statistics(norm, torch.float64)
    assert_statistics(norm.float(), torch.float32)


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_casts_round_no_statistic(name):
    norm = used(name)
    before = {key: value.clone() for key, value in norm.named_buffers()}
    norm.half().bfloat16().type(torch.float16)
    for key, value in norm.named_buffers():
        assert torch.equal(value, before[key])
    norm.double()
    for key, value in norm.named_buffers():
        assert torch.equal(value, before[key].to(value.dtype))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_functional_call_with_narrow_statistics(name, dtype):
    """Evaluation computes with them in float32; training would have to keep them, and says why it does not."""
    norm = used(name)
    state = cast_all(norm.state_dict(), dtype)
    wide = {key: value.float() for key, value in state.items()}
    x = torch.randn(20, CHANNELS, dtype=dtype)
    norm.eval()
    expected = functional_call(norm, wide, (x.float(),))
    found = functional_call(norm, state, (x,))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, rtol=torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)
    norm.train()
    with pytest.raises(ValueError, match=rf"is {dtype}; training keeps it in torch.float32 or wider"):
        functional_call(norm, state, (x,))


@pytest.mark.parametrize("x_dtype", [*HALF, torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64])
@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_activations_of_another_dtype(name, dtype, x_dtype):
    """The output has the activations' dtype, the statistics keep theirs."""
    norm = used(name).to(dtype)
    for _ in range(2):
        x = torch.randn(20, CHANNELS, dtype=x_dtype, requires_grad=True)
        y = norm(x)
        y.sum().backward()
    assert y.dtype == x.grad.dtype == x_dtype and norm.weight.grad.dtype == dtype
    assert_statistics(norm, torch.promote_types(dtype, torch.float32))
    assert norm.eval()(x).dtype == x_dtype
    with torch.no_grad():
        assert norm(x).dtype == x_dtype


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn])
@pytest.mark.parametrize("name", NORMS)
def test_what_a_norm_cannot_take_is_one_line(name, dtype, training):
    norm = build_norm(name, CHANNELS).train(training)
    before = copy.deepcopy(norm.state_dict())
    with pytest.raises(ValueError) as raised:
        norm(torch.zeros(4, CHANNELS).to(dtype))
    assert str(raised.value) == (
        f"expected activations in float16, bfloat16, float32, float64, got {str(dtype).removeprefix('torch.')}"
    )
    assert all(torch.equal(value, before[key]) for key, value in norm.state_dict().items())
