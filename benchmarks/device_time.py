"""The time that a norm takes of a CUDA device, and of the host that starts its kernels.

A norm's kernels are done long before Python has started the next ones, so a clock around calls times Python. Here
calls are captured into CUDA graphs: a replay is the device's work alone. A graph holds calls on several batches, one
behind the other, so that none of them finds its data in the cache, and the replay's own start is shared out.
"""

import time
from collections.abc import Callable, Sequence

import torch
from interleaved import Parts
from torch import Tensor

CACHE = 128 * 2**20  # bytes: more than any device's second-level cache
MOST_BATCHES = 32
STEPS_BEFORE_CAPTURE = 3  # kernels are compiled, and libraries choose theirs


def batches_to_rotate(x: Tensor) -> int:
    """How many batches like ``x`` and its gradient fill the cache twice."""
    return min(MOST_BATCHES, max(2, -(-2 * CACHE // (2 * x.nbytes))))


class DeviceTimer:
    """Captures work, and times its replays by the device's events."""

    def __init__(self, device: torch.device):
        self.device, self.events = device, [torch.cuda.Event(enable_timing=True) for _ in range(2)]

    def warm_up(self, work: Callable[[], object]) -> None:
        """Runs the work a few times beside the default stream, as capturing wants it."""
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            for _ in range(STEPS_BEFORE_CAPTURE):
                work()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        torch.cuda.synchronize(self.device)

    def capture(self, work: Callable[[], object], pool=None) -> tuple["torch.cuda.CUDAGraph", object]:
        """The graph of the work, and what the work returned: memory that every replay fills anew."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            result = work()
        return graph, result

    def seconds(self, graph: "torch.cuda.CUDAGraph") -> float:
        """The device's time for one replay."""
        start, end = self.events
        torch.cuda.synchronize(self.device)
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize(self.device)
        return start.elapsed_time(end) / 1000


class CapturedNorm:
    """A norm on a CUDA device, with several batches of the same shape."""

    def __init__(self, call: Callable[[Tensor], Tensor], parameters: list[Tensor], x: Tensor, grad: Tensor):
        """``call`` normalises; ``x`` and ``grad`` are what the batches look like."""
        self.call, self.parameters = call, parameters
        count = batches_to_rotate(x)
        self.batches = [(x.detach().clone().requires_grad_(), grad.clone()) for _ in range(count)]
        self.timer = DeviceTimer(x.device)
        self.timer.warm_up(self.step)
        self.forward, self.outputs = self.timer.capture(self._forward)
        self.backward, self.grads = self.timer.capture(self._backward, self.forward.pool())

    def _forward(self) -> list[Tensor]:
        return [self.call(x) for x, _ in self.batches]

    def _backward(self) -> list[Sequence[Tensor]]:
        return [
            torch.autograd.grad(y, [x, *self.parameters], grad)
            for y, (x, grad) in zip(self.outputs, self.batches, strict=True)
        ]

    def step(self) -> float:
        """One training step on one batch; the seconds that the host takes to start it."""
        x, grad = self.batches[0]
        started = time.perf_counter()
        torch.autograd.grad(self.call(x), [x, *self.parameters], grad)
        return time.perf_counter() - started

    def train(self) -> Parts:
        """Forward, backward and both are the device's; ``host`` is what Python takes to start both."""
        forward, backward = (self.timer.seconds(graph) / len(self.batches) for graph in (self.forward, self.backward))
        host = self.step()
        return {"forward": forward, "backward": backward, "both": forward + backward, "host": host}


class CapturedWork:
    """Something else on as many batches: a norm in evaluation, a copy."""

    def __init__(self, calls: Sequence[Callable[[], object]], device: torch.device):
        """One call a batch."""

        def work() -> list[object]:
            return [call() for call in calls]

        self.timer, self.count = DeviceTimer(device), len(calls)
        self.timer.warm_up(work)
        self.graph, self.results = self.timer.capture(work)

    def seconds(self) -> float:
        """The device's time for one batch."""
        return self.timer.seconds(self.graph) / self.count
