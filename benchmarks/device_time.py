"""The time that a norm takes of a CUDA device, and of the host that starts its kernels.

A norm's kernels are done long before Python has started the next ones, so a clock around calls times Python. Here
calls are captured into CUDA graphs: a replay is the device's work alone. A graph holds calls on several batches, one
behind the other, so that none of them finds its data in the cache, and the replay's own start is shared out.
"""

import functools
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


class CapturedWork:
    """Calls as one CUDA graph, whose replays are timed by the device's events.

    Attributes:
        results: what the calls returned: memory that every replay fills anew.
    """

    def __init__(
        self,
        calls: Sequence[Callable[[], object]],
        device: torch.device,
        before: Callable[[], object] | None = None,
        pool=None,
    ):
        """Captures the calls, one a batch.

        Args:
            calls: what to capture.
            device: the CUDA device.
            before: run a few times first, beside the default stream, as capturing wants it; None: the first call.
            pool: the memory of a graph whose results the calls use; then nothing is run first.
        """
        self.device, self.events = device, [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        if pool is None:
            stream = torch.cuda.Stream(device)
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                for _ in range(STEPS_BEFORE_CAPTURE):
                    (before or calls[0])()
            torch.cuda.current_stream(device).wait_stream(stream)
            torch.cuda.synchronize(device)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool):
            self.results = [call() for call in calls]

    def seconds(self) -> float:
        """The device's time for one batch."""
        start, end = self.events
        torch.cuda.synchronize(self.device)
        start.record()
        self.graph.replay()
        end.record()
        torch.cuda.synchronize(self.device)
        return start.elapsed_time(end) / 1000 / len(self.results)


class CapturedNorm:
    """A norm on a CUDA device, with several batches of the same shape."""

    def __init__(self, call: Callable[[Tensor], Tensor], parameters: list[Tensor], x: Tensor, grad: Tensor):
        """``call`` normalises; ``x`` and ``grad`` are what the batches look like."""
        self.call, self.parameters = call, parameters
        count = batches_to_rotate(x)
        self.batches = [(x.detach().clone().requires_grad_(), grad.clone()) for _ in range(count)]
        forward = [functools.partial(call, x) for x, _ in self.batches]
        self.forward = CapturedWork(forward, x.device, self.step)
        backward = [
            functools.partial(torch.autograd.grad, y, [x, *parameters], grad)
            for y, (x, grad) in zip(self.forward.results, self.batches, strict=True)
        ]
        self.backward = CapturedWork(backward, x.device, pool=self.forward.graph.pool())

    def step(self) -> float:
        """One training step on one batch; the seconds that the host takes to start it."""
        x, grad = self.batches[0]
        started = time.perf_counter()
        torch.autograd.grad(self.call(x), [x, *self.parameters], grad)
        return time.perf_counter() - started

    def train(self) -> Parts:
        """Forward, backward and both are the device's; ``host`` is what Python takes to start both."""
        forward, backward, host = self.forward.seconds(), self.backward.seconds(), self.step()
        return {"forward": forward, "backward": backward, "both": forward + backward, "host": host}
