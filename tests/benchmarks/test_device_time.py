"""The device's time by CUDA graphs: what is captured, and what a replay's time is shared out to."""

import contextlib
from types import SimpleNamespace

import pytest
import torch

from fairseq_powernorm import available_norms, build_norm


class Graph:
    """A graph that is captured by doing its work; replays are counted."""

    def __init__(self):
        self.replays = 0

    def replay(self):
        self.replays += 1

    def pool(self):
        return "pool"


@pytest.fixture
def pretended_device(monkeypatch):
    """torch.cuda without a device: everything runs at once, and every replay takes 8 ms."""
    stream = SimpleNamespace(wait_stream=lambda other: None)
    event = SimpleNamespace(record=lambda: None, elapsed_time=lambda end: 8.0)
    for name, value in {
        "CUDAGraph": Graph,
        "Event": lambda enable_timing: event,
        "Stream": lambda device: stream,
        "current_stream": lambda device: stream,
        "stream": lambda stream: contextlib.nullcontext(),
        "graph": lambda graph, pool=None: contextlib.nullcontext(),
        "synchronize": lambda device: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)


@pytest.mark.parametrize(
    ("tokens", "channels", "dtype", "batches"),
    [(8192, 512, torch.bfloat16, 16), (65536, 1024, torch.float32, 2), (8, 8, torch.float32, 32)],
)
def test_batches_fill_the_cache_twice(script, tokens, channels, dtype, batches):
    x = torch.empty(tokens, channels, dtype=dtype)
    assert script("device_time").batches_to_rotate(x) == batches


def test_a_replay_is_shared_out_to_its_batches(script, pretended_device):
    device_time = script("device_time")
    norm, x = build_norm("power", 16), torch.randn(128, 4, 16)
    captured = device_time.CapturedNorm(norm, list(norm.parameters()), x, torch.randn_like(x))
    assert len(captured.batches) == len(captured.forward.results) == len(captured.backward.results) == 32
    parts = captured.train()
    assert parts["forward"] == parts["backward"] == pytest.approx(0.008 / 32)
    assert parts["both"] == pytest.approx(0.016 / 32) and parts["host"] > 0
    assert captured.forward.graph.replays == captured.backward.graph.replays == 1
    assert device_time.CapturedWork([lambda: None] * 4, torch.device("cpu")).seconds() == pytest.approx(0.002)


@pytest.mark.gpu
@pytest.mark.parametrize("name", available_norms())
def test_a_replay_computes_what_the_norm_does(script, name):
    torch.manual_seed(0)
    norm = build_norm(name, 64).cuda()
    x, grad = (torch.randn(128, 8, 64, device="cuda") for _ in range(2))
    captured = script("device_time").CapturedNorm(norm, list(norm.parameters()), x, grad)
    captured.train()
    torch.cuda.synchronize()
    first, *others = captured.forward.results
    assert all(torch.isfinite(y).all() for y in captured.forward.results)
    assert all(y.data_ptr() != first.data_ptr() for y in others)
    expected = build_norm(name, 64).cuda()(x)
    torch.testing.assert_close(first, expected, atol=1.0, rtol=0.5)  # normal rows: statistics stay where they start
