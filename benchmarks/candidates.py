"""What takes turns in bench_norms.py: a norm by one backend on one batch, and a copy of as many bytes."""

import contextlib
import functools
import itertools
from collections.abc import Callable
from types import SimpleNamespace

import torch
from device_time import CapturedNorm, CapturedWork, batches_to_rotate
from interleaved import Parts, timed
from torch import Tensor, nn

from fairseq_powernorm.kernels import operators, plain


def using(backend: str, device: torch.device, compiled: SimpleNamespace) -> contextlib.AbstractContextManager[None]:
    """Within the block the norms compute by the backend."""
    if backend == "kernels":
        return contextlib.nullcontext()
    return operators.implemented_by(plain if backend == "plain" else compiled, device.type)


def kept_bytes(norm: Callable[[Tensor], Tensor], x: Tensor, parameters: list[Tensor]) -> int:
    """The bytes that a training pass keeps for its backward pass, without the parameters."""
    storages = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        norm(x)
    return sum(storages.values())


def peak_bytes(step: Callable[[], object], device: torch.device) -> int:
    """The most bytes that the tensors of a step take at a time, beyond those that were there before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = (event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(itertools.accumulate(changes, initial=0))


class Candidate:
    """A norm by one backend on one batch; on a CUDA device on several, one behind the other."""

    def __init__(self, module: nn.Module, mask: Tensor | None, x: Tensor, grad: Tensor, backend: str, compiled):
        self.module, self.x, self.grad, self.device = module, x, grad, x.device
        self.arguments = () if isinstance(module, nn.LayerNorm) or mask is None else (mask,)
        self.backend, self.compiled = backend, compiled
        self.parameters = list(module.parameters())
        if backend == "compiled" and isinstance(module, nn.LayerNorm):
            self.module = torch.compile(module, dynamic=False)
        self.captured: CapturedNorm | None = None
        if self.device.type == "cuda":
            self._capture()

    def _capture(self) -> None:
        """Whatever Python does happens here; the timed replays are the device's."""
        with using(self.backend, self.device, self.compiled):
            self.module.train()
            call = lambda x: self.module(x, *self.arguments)  # noqa: E731
            self.captured = CapturedNorm(call, self.parameters, self.x, self.grad)
            self.module.eval()
            with torch.no_grad():
                calls = [functools.partial(self.module, x) for x, _ in self.captured.batches]
                self.evaluated = CapturedWork(calls, self.device)

    def train(self) -> Parts:
        """One training step's passes."""
        with using(self.backend, self.device, self.compiled):
            self.module.train()
            return self.step() if self.captured is None else self.captured.train()

    def step(self) -> Parts:
        """Forward and backward, by a clock around each."""
        x = self.x.detach().requires_grad_()
        forward, y = timed(lambda: self.module(x, *self.arguments), self.device)
        backward, _ = timed(lambda: torch.autograd.grad(y, [x, *self.parameters], self.grad), self.device)
        return {"forward": forward, "backward": backward, "both": forward + backward}

    def evaluate(self) -> Parts:
        """One pass in evaluation."""
        if self.captured is not None:
            return {"evaluation": self.evaluated.seconds()}
        self.module.eval()
        with using(self.backend, self.device, self.compiled), torch.no_grad():
            return {"evaluation": timed(lambda: self.module(self.x), self.device)[0]}

    def kept(self) -> int:
        """See :func:`kept_bytes`."""
        x = self.x.detach().requires_grad_()
        with using(self.backend, self.device, self.compiled):
            return kept_bytes(lambda x: self.module.train()(x, *self.arguments), x, self.parameters)

    def peak(self) -> int:
        """See :func:`peak_bytes`."""
        with using(self.backend, self.device, self.compiled):
            self.module.train()
            return peak_bytes(self.step, self.device)


class Copy:
    """As many bytes as a norm has to move."""

    def __init__(self, x: Tensor, grad: Tensor):
        self.device = x.device
        count = batches_to_rotate(x) if self.device.type == "cuda" else 1
        batches = [(x.clone(), grad.clone(), torch.empty_like(x)) for _ in range(count)]
        self.calls = {
            "forward": [functools.partial(output.copy_, source) for source, _, output in batches],
            "backward": [functools.partial(torch.add, *sources, out=output) for *sources, output in batches],
        }
        self.captured = {}
        if self.device.type == "cuda":
            self.captured = {part: CapturedWork(calls, self.device) for part, calls in self.calls.items()}

    def _seconds(self, part: str) -> float:
        return self.captured[part].seconds() if self.captured else timed(self.calls[part][0], self.device)[0]

    def train(self) -> Parts:
        """x to y; x and dY to dX."""
        forward, backward = self._seconds("forward"), self._seconds("backward")
        return {"forward": forward, "backward": backward, "both": forward + backward}

    def evaluate(self) -> Parts:
        """x to y."""
        return {"evaluation": self._seconds("forward")}
