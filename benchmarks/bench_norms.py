"""Every norm against LayerNorm: forward, backward and evaluation, by tokens, channels, type, padding and backend.

    python benchmarks/bench_norms.py --output results/benchmarks/norms_cpu

``layer`` is ``torch.nn.LayerNorm``, the baseline of every ratio. ``copy`` is the floor: as many bytes read and written
as any norm has to (x to y; then x and dY to dX). Backends: ``kernels`` (C++ or Triton), ``plain`` torch, and that under
``torch.compile``. Evaluation takes turns of its own, behind everybody's training passes. ``kept`` is what a training
pass keeps for the backward pass, x included; ``peak`` the most that a training step's tensors take beyond x and dY.
"""

import argparse
import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import torch
from interleaved import (
    Parts,
    add_options,
    begin,
    check_multiple,
    check_numbers,
    checked_device,
    finish,
    summarize,
    take_turns,
    timed,
)
from torch import Tensor, nn

from fairseq_powernorm import build_norm
from fairseq_powernorm.files import run_command_line
from fairseq_powernorm.functional import plain_rows, rows
from fairseq_powernorm.kernels import backend as kernels

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
    """A norm by one backend on one batch."""

    def __init__(self, module: nn.Module, mask: Tensor | None, x: Tensor, grad: Tensor, backend: str, compiled):
        self.module, self.x, self.grad, self.device = module, x, grad, x.device
        self.arguments = () if isinstance(module, nn.LayerNorm) or mask is None else (mask,)
        self.backend, self.compiled = backend, compiled
        self.parameters = list(module.parameters())

    def train(self) -> Parts:
        """One training step's passes."""
        x = self.x.detach().requires_grad_()
        with using(self.backend, self.compiled):
            self.module.train()
            forward, y = timed(lambda: self.module(x, *self.arguments), self.device)
            backward, _ = timed(lambda: torch.autograd.grad(y, [x, *self.parameters], self.grad), self.device)
        return {"forward": forward, "backward": backward, "both": forward + backward}

    def evaluate(self) -> Parts:
        """One pass in evaluation."""
        self.module.eval()
        with using(self.backend, self.compiled), torch.no_grad():
            return {"evaluation": timed(lambda: self.module(self.x), self.device)[0]}

    def kept(self) -> int:
        """See :func:`kept_bytes`."""
        x = self.x.detach().requires_grad_()
        with using(self.backend, self.compiled):
            return kept_bytes(lambda x: self.module.train()(x, *self.arguments), x, self.parameters)

    def peak(self) -> int:
        """See :func:`peak_bytes`."""
        return peak_bytes(self.train, self.device)


class Copy:
    """As many bytes as a norm has to move."""

    def __init__(self, x: Tensor, grad: Tensor):
        self.x, self.grad, self.output, self.device = x, grad, torch.empty_like(x), x.device

    def train(self) -> Parts:
        """x to y; x and dY to dX."""
        forward, _ = timed(lambda: self.output.copy_(self.x), self.device)
        backward, _ = timed(lambda: torch.add(self.x, self.grad, out=self.output), self.device)
        return {"forward": forward, "backward": backward, "both": forward + backward}

    def evaluate(self) -> Parts:
        """x to y."""
        return {"evaluation": timed(lambda: self.output.copy_(self.x), self.device)[0]}


def sentence_lengths(sentences: int, longest: int) -> Tensor:
    """Lengths (sentences,) in tokens that leave a fifth of the batch to padding: from 0.6 to 1 of ``longest``, or 0.8
    of it for a single sentence."""
    shares = torch.linspace(0.6, 1.0, sentences) if sentences > 1 else torch.tensor([0.8])
    return shares.mul(longest).round().clamp(min=1).long()


def batch(
    tokens: int, channels: int, dtype: torch.dtype, padded: bool, device: torch.device
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(T, B, C) activations, a gradient, and a mask (B, T) with about a fifth of padding, as batches of sentences have.

    Raises:
        ValueError: ``tokens`` that sentences of the longest length do not make up.
    """
    longest = min(SENTENCE, tokens)
    check_multiple(tokens, longest)
    sentences = tokens // longest
    x, grad = (torch.randn(longest, sentences, channels, device=device).to(dtype) for _ in range(2))
    if not padded:
        return x, grad, None
    mask = torch.arange(longest)[None, :] >= sentence_lengths(sentences, longest)[:, None]
    return x, grad, mask.to(device)


def modules_of(norms: list[str], backends: list[str], channels: int) -> dict[str, tuple[nn.Module, str]]:
    """LayerNorm and every norm by every backend that has it, by the candidate's name; with the backend.

    Norms whose groups do not divide the channels are left out.
    """
    modules = {"layer": (nn.LayerNorm(channels), "kernels")}
    for norm in norms:
        name, settings = norm.split(" ")[0], NORMS[norm]
        if channels % settings.get("group_scaling", 1):
            continue
        for backend in backends:
            if name != "power-released" or backend != "compiled":
                modules[f"{norm} {backend}"] = (build_norm(name, channels, **settings), backend)
    return modules


def check(options: argparse.Namespace) -> None:
    """Raises ``ValueError`` for tokens that are no batch, and for kernels that are not there."""
    check_numbers(options)
    for tokens in options.tokens:
        check_multiple(tokens, min(SENTENCE, tokens))
    if "kernels" in options.backends:
        with using("kernels", SimpleNamespace()):
            kernels.describe(checked_device(options.device).type)


def say_what_is_left_out(options: argparse.Namespace) -> None:
    """A line on stderr for each norm whose groups do not divide the channels."""
    for channels, norm in itertools.product(options.channels, options.norms):
        if channels % (groups := NORMS[norm].get("group_scaling", 1)):
            sys.stderr.write(f"{channels} channels without {norm}: its {groups} groups do not divide them\n")


def measure(options: argparse.Namespace, compiled: SimpleNamespace, case: dict) -> list[dict]:
    """The rows of one case: its dtype, channels, tokens and padding."""
    dtype, channels, tokens, padding = case.values()
    device = torch.device(options.device)
    x, grad, mask = batch(tokens, channels, DTYPES[dtype], padding == "yes", device)
    candidates = {
        name: Candidate(module.to(device), mask, x, grad, backend, compiled)
        for name, (module, backend) in modules_of(options.norms, options.backends, channels).items()
    }
    timed_ones = {**candidates, "copy": Copy(x, grad)}
    passes = [{name: getattr(each, part) for name, each in timed_ones.items()} for part in ("train", "evaluate")]
    label = f"{dtype} {tokens} x {channels}, padding {padding}"
    seconds = take_turns(passes, options.rounds, options.warmup, label)
    memory = {
        "kept": {name: candidate.kept() for name, candidate in candidates.items()},
        "peak": {name: candidate.peak() for name, candidate in candidates.items()},
    }
    rows = []
    for row in summarize(seconds, "layer"):
        name = row["candidate"]
        for kind, found in memory.items():
            row[f"{kind}_bytes"] = found.get(name)
            row[f"{kind}_over_layer"] = round(found[name] / found["layer"], 4) if name in found else None
        rows.append({**case, **row})
    return rows


def benchmark(options: argparse.Namespace) -> None:
    """Measures every combination that the options name."""
    check(options)
    found = begin(options)
    say_what_is_left_out(options)
    compiled = compiled_passes()
    combinations = itertools.product(options.dtypes, options.channels, options.tokens, options.padding)
    cases = [dict(zip(("dtype", "channels", "tokens", "padding"), each, strict=True)) for each in combinations]
    finish(options, found, [row for case in cases for row in measure(options, compiled, case)])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 4096, 16384])
    parser.add_argument("--channels", type=int, nargs="+", default=[128, 256, 512, 1024])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["float32"])
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=["kernels", "plain"])
    parser.add_argument("--norms", nargs="+", choices=NORMS, default=list(NORMS))
    parser.add_argument("--padding", nargs="+", choices=("yes", "no"), default=["yes", "no"])
    add_options(parser, rounds=30, warmup=4)
    options = parser.parse_args()
    run_command_line(lambda: benchmark(options))


if __name__ == "__main__":
    main()
