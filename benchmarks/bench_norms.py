"""Every norm against LayerNorm: forward, backward and evaluation, by tokens, channels, type, padding and backend.

    python benchmarks/bench_norms.py --output results/benchmarks/norms_cpu

``layer`` is ``torch.nn.LayerNorm``, the baseline of every ratio. ``copy`` is the floor: as many bytes read and written
as any norm has to (x to y; then x and dY to dX). Backends: ``kernels`` (C++ or Triton), ``plain`` torch, and that under
``torch.compile``. ``kept`` is what a training pass keeps for the backward pass, x included, over LayerNorm's.
"""

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import torch
from interleaved import Parts, add_options, begin, finish, summarize, take_turns
from torch import Tensor, nn

from fairseq_powernorm import build_norm
from fairseq_powernorm.functional import plain_rows, rows

NORMS = {
    "power": {},
    "pn-v": {},
    "batch": {},
    "power (groups)": {"group_scaling": 8},
    "power-released": {},
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SENTENCE = 128  # tokens of the longest sentence in a batch
BACKENDS = ("kernels", "plain", "compiled")
PASSES = ("normalize", "moments", "gradient_sums", "gradient")


def compiled_passes() -> SimpleNamespace:
    """The plain passes, compiled by torch."""
    return SimpleNamespace(**{name: torch.compile(getattr(plain_rows, name), dynamic=False) for name in PASSES})


@contextlib.contextmanager
def using(backend: str, compiled: SimpleNamespace) -> Iterator[None]:
    """Within the block the norms compute by the backend."""
    before, chosen = os.environ.get("FAIRSEQ_POWERNORM_KERNELS"), rows._backend
    os.environ["FAIRSEQ_POWERNORM_KERNELS"] = "force" if backend == "kernels" else "off"
    if backend == "compiled":
        rows._backend = lambda _: compiled
    try:
        yield
    finally:
        rows._backend = chosen
        os.environ.pop("FAIRSEQ_POWERNORM_KERNELS")
        if before is not None:
            os.environ["FAIRSEQ_POWERNORM_KERNELS"] = before


def synchronize(device: str) -> None:
    """Waits for a CUDA device."""
    if device == "cuda":
        torch.cuda.synchronize()


def timed(function: Callable[[], object], device: str) -> tuple[float, object]:
    """Seconds, and the result."""
    synchronize(device)
    started = time.perf_counter()
    result = function()
    synchronize(device)
    return time.perf_counter() - started, result


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


class Candidate:
    """A norm by one backend on one batch."""

    def __init__(self, module: nn.Module, mask: Tensor | None, x: Tensor, grad: Tensor, backend: str, compiled):
        self.module, self.x, self.grad, self.device = module, x, grad, x.device.type
        self.arguments = () if isinstance(module, nn.LayerNorm) or mask is None else (mask,)
        self.backend, self.compiled = backend, compiled
        self.parameters = list(module.parameters())

    def __call__(self) -> Parts:
        """One training step's passes, and one in evaluation."""
        x = self.x.detach().requires_grad_()
        with using(self.backend, self.compiled):
            self.module.train()
            forward, y = timed(lambda: self.module(x, *self.arguments), self.device)
            backward, _ = timed(lambda: torch.autograd.grad(y, [x, *self.parameters], self.grad), self.device)
            self.module.eval()
            with torch.no_grad():
                evaluation, _ = timed(lambda: self.module(x), self.device)
        return {"forward": forward, "backward": backward, "both": forward + backward, "evaluation": evaluation}

    def kept(self) -> int:
        """See :func:`kept_bytes`."""
        x = self.x.detach().requires_grad_()
        with using(self.backend, self.compiled):
            return kept_bytes(lambda x: self.module.train()(x, *self.arguments), x, self.parameters)

    def peak(self) -> int:
        """The most bytes that a step has on a CUDA device beyond those before it; 0 on the CPU."""
        if self.device != "cuda":
            return 0
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self()
        return torch.cuda.max_memory_allocated() - before


class Copy:
    """As many bytes as a norm has to move."""

    def __init__(self, x: Tensor, grad: Tensor):
        self.x, self.grad, self.output, self.device = x, grad, torch.empty_like(x), x.device.type

    def __call__(self) -> Parts:
        """x to y; x and dY to dX."""
        forward, _ = timed(lambda: self.output.copy_(self.x), self.device)
        backward, _ = timed(lambda: torch.add(self.x, self.grad, out=self.output), self.device)
        return {"forward": forward, "backward": backward, "both": forward + backward, "evaluation": forward}


def batch(
    tokens: int, channels: int, dtype: torch.dtype, padded: bool, device: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(T, B, C) activations, a gradient, and a mask with about a fifth of padding, as batches of sentences have."""
    longest = min(SENTENCE, tokens)
    sentences = tokens // longest
    x, grad = (torch.randn(longest, sentences, channels, device=device).to(dtype) for _ in range(2))
    if not padded:
        return x, grad, None
    lengths = torch.linspace(0.6, 1.0, sentences).mul(longest).round().clamp(min=1)
    mask = torch.arange(longest)[None, :] >= lengths[:, None]
    return x, grad, mask.to(device)


def main() -> None:
    """Measures every combination that the options name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 4096, 16384])
    parser.add_argument("--channels", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["float32"])
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=["kernels", "plain"])
    parser.add_argument("--norms", nargs="+", choices=NORMS, default=list(NORMS))
    parser.add_argument("--padding", nargs="+", choices=("yes", "no"), default=["yes", "no"])
    add_options(parser, rounds=30, warmup=4)
    options = parser.parse_args()
    begin(options)
    compiled, table = compiled_passes(), []
    for dtype in options.dtypes:
        for channels in options.channels:
            for tokens in options.tokens:
                for padding in options.padding:
                    x, grad, mask = batch(tokens, channels, DTYPES[dtype], padding == "yes", options.device)
                    modules = {"layer": (nn.LayerNorm(channels), "kernels")}
                    for norm in options.norms:
                        name, settings = norm.split(" ")[0], NORMS[norm]
                        for backend in options.backends:
                            if name != "power-released" or backend != "compiled":
                                modules[f"{norm} {backend}"] = (build_norm(name, channels, **settings), backend)
                    candidates = {
                        name: Candidate(module.to(options.device), mask, x, grad, backend, compiled)
                        for name, (module, backend) in modules.items()
                    }
                    case = {"dtype": dtype, "channels": channels, "tokens": tokens, "padding": padding}
                    label = f"{dtype} {tokens} x {channels}, padding {padding}"
                    seconds = take_turns({**candidates, "copy": Copy(x, grad)}, options.rounds, options.warmup, label)
                    kept = {name: candidate.kept() for name, candidate in candidates.items()}
                    peak = {name: candidate.peak() for name, candidate in candidates.items()}
                    for row in summarize(seconds, "layer"):
                        name = row["candidate"]
                        memory = {"kept_bytes": kept.get(name), "peak_bytes": peak.get(name) or None}
                        memory["kept_over_layer"] = round(kept[name] / kept["layer"], 4) if name in kept else None
                        table.append({**case, **row, **memory})
    finish(options, table)


if __name__ == "__main__":
    main()
