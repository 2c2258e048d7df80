"""The operators ``torch.ops.fairseq_powernorm.*``: one pass over rows of tokens each; every batch norm is made of them.

Schema and meaning of an operator stand here, once. torch's dispatcher chooses the implementation: ``cpu.cpp`` for
tensors on the CPU, :mod:`.cuda` (Triton) on CUDA devices, :mod:`.plain` (plain torch) elsewhere, for meta and fake
tensors (``torch.compile``, ``torch.export``) and where there is no compiled library or no Triton. The operators know no
autograd: :mod:`fairseq_powernorm.functional` does.

In all of them s is x, ``rows`` (..., C); with ``groups`` G > 0 it is the scaled x, each token's groups of C/G channels
at quadratic mean 1: s = x/√(mean of x² over the group + ε). μ is ``mean``, (C,), or None for 0; d is ``second_moment``,
(C,), what is divided by the root of: σ² or ψ². X̂ = (s − μ)/√(d + ε). ``weight``, γ, and ``bias``, β, are (C,), or None
for 1 and 0. ``padding`` holds a bool for each row, True at padding, or is None; what stands at padding, NaN included,
has no influence. Sums and means are over the N real rows. Arithmetic is float32, or float64 for float64 rows; sums and
statistics come in that type, rows in their own.
"""

import contextlib
import ctypes
import functools
import importlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from . import plain

logger = logging.getLogger(__name__)

VARIABLE = "FAIRSEQ_POWERNORM_KERNELS"
MODES = ("auto", "off", "force")
CHOSEN = os.environ.get(VARIABLE) or "auto"  # read once: what the dispatcher holds stays

NAMES: list[str] = []
"""Of all operators."""

_library = torch.library.Library("fairseq_powernorm", "DEF")


def mode() -> str:
    """The value of ``FAIRSEQ_POWERNORM_KERNELS`` when this module was imported.

    ``auto`` (the default, an empty one too): kernels where there are any, plain torch elsewhere; ``off``: plain torch;
    ``force``: an error where there is no kernel.

    Raises:
        ValueError: another value.
    """
    if CHOSEN not in MODES:
        raise ValueError(f"{VARIABLE} is {CHOSEN!r}; it takes {', '.join(MODES)}")
    return CHOSEN


def describe(device_type: str) -> str:
    """What computes the batch norms on a device, in words: for logs and records of runs.

    Raises:
        ValueError: a wrong value of the variable, or it asks for kernels and there are none.
    """
    if mode() == "off":
        return f"plain torch ({VARIABLE} is off)"
    reason = missing(device_type)
    if reason is None:
        return f"kernels ({'C++' if device_type == 'cpu' else 'Triton'})"
    if mode() == "force":
        raise ValueError(f"{VARIABLE} is force, but there are {reason}")
    return f"plain torch ({reason})"


@functools.cache
def _missing_on_cpu() -> str | None:
    """Loads the compiled library. Gives the reason if there are no kernels for the CPU."""
    libraries = sorted(Path(__file__).parent.glob("_cpu*.so"))
    if not libraries:
        return "no kernels for the CPU, as the package was installed without a C++ compiler"
    try:
        register = ctypes.CDLL(str(libraries[0])).register_operators
        register.restype = ctypes.c_char_p
        error = register()
    except (OSError, AttributeError) as exception:
        error = str(exception).encode()
    if error is None:
        return None
    lines = " ".join(error.decode().split())
    reason = (
        f"no kernels for the CPU, as {libraries[0].name} is of another build (of torch or of this package): {lines}"
    )
    logger.warning("%s", reason)
    return reason


@functools.cache
def _missing_on_cuda() -> str | None:
    """Imports Triton, when the first CUDA tensor comes. Gives the reason if there are no kernels for CUDA devices."""
    try:
        importlib.import_module(".cuda", __package__)
    except ImportError as error:
        return f"no kernels for CUDA devices, as Triton cannot be imported ({error})"
    return None


def missing(device_type: str) -> str | None:
    """Why there are no kernels for a device, or None if there are."""
    if CHOSEN == "off":
        return f"no kernels, as {VARIABLE} is off"
    if device_type == "cpu":
        return _missing_on_cpu()
    return _missing_on_cuda() if device_type == "cuda" else f"no kernels for the device {device_type}"


def _define(schema: str, documentation: str) -> torch._ops.OpOverload:
    """Defines an operator and registers the functions of its name in :mod:`.plain` and :mod:`.cuda` for it; the
    compiled library registers its own."""
    name = schema.partition("(")[0]
    NAMES.append(name)
    _library.define(schema)
    in_plain_torch = getattr(plain, name)

    def without_kernel(rows: Tensor, *others):
        if mode() == "force":
            raise ValueError(f"{VARIABLE} is force, but there are {missing(rows.device.type)}")
        return in_plain_torch(rows, *others)

    def on_cuda(*arguments):
        if missing("cuda"):
            return without_kernel(*arguments)
        return getattr(importlib.import_module(".cuda", __package__), name, in_plain_torch)(*arguments)

    if CHOSEN == "off":  # autograd, torch.compile and an exported graph see torch's own operators
        _library.impl(name, in_plain_torch, "CompositeImplicitAutograd")
    else:
        _library.impl(name, without_kernel, "CompositeExplicitAutograd")
        _library.impl(name, in_plain_torch, "Meta")
        _library.impl(name, torch.library.fallthrough_kernel, "Autograd")  # no detour in the functions that know it
    if CHOSEN in ("auto", "force"):
        _library.impl(name, on_cuda, "CUDA")
    operator = getattr(torch.ops.fairseq_powernorm, name).default
    operator.__doc__ = documentation
    return operator


@contextlib.contextmanager
def implemented_by(functions: object, device_type: str) -> Iterator[None]:
    """Within the block the functions of the operators' names, such as those of :mod:`.plain`, compute for tensors on a
    device: for tests and benchmarks, which compare implementations in one process."""
    library = torch.library.Library("fairseq_powernorm", "IMPL")
    for name in NAMES:
        library.impl(name, getattr(functions, name), device_type.upper(), allow_override=True)
    try:
        yield
    finally:
        library._destroy()  # the implementations of before are back


normalize_by_constants = _define(
    "normalize_by_constants(Tensor rows, Tensor? mean, Tensor second_moment, Tensor? weight, Tensor? bias, float eps,"
    " int groups) -> Tensor",
    """Y = γ X̂ + β, for every row: evaluation.""",
)
normalize = _define(
    "normalize(Tensor rows, Tensor? padding, Tensor? mean, Tensor second_moment, Tensor? weight, Tensor? bias,"
    " float eps, int groups) -> (Tensor, Tensor, Tensor)",
    """Y = γ X̂ + β, β at padding; mean (s − μ)², (C,), 0 without a token; N, a scalar.""",
)
moments = _define(
    "moments(Tensor rows, Tensor? padding, Tensor? mean, float eps, int groups) -> (Tensor, Tensor, Tensor)",
    """Σ (s − μ)² and Σ (s − μ), (C,) each; N, a scalar.""",
)
gradient_sums = _define(
    "gradient_sums(Tensor rows, Tensor grad, Tensor? padding, Tensor? mean, Tensor second_moment, float eps,"
    " int groups) -> (Tensor, Tensor)",
    """dγ = Σ dY X̂ and dβ = Σ dY, (C,) each, for the gradient dY, ``grad``, of what was computed from ``rows``.""",
)
gradient = _define(
    "gradient(Tensor rows, Tensor grad, Tensor? padding, Tensor? mean, Tensor second_moment, Tensor? weight,"
    " Tensor projection, Tensor? grad_mean, float eps, int groups) -> (Tensor, Tensor, Tensor)",
    """dX, 0 at padding, from ds = (γ dY − p X̂ − m)/√(d + ε); and :data:`gradient_sums` in the same pass.

    p is ``projection``, (C,): ν or Λ. m is ``grad_mean``, (C,), that of γ dY; it goes with ``mean``: both or neither.
    dX = ds, or with scaling (ds − s · mean of ds ⊙ s over the group) / √(mean of x² over the group + ε).
    """,
)
move_average = _define(
    "move_average(Tensor(a!) running, Tensor batch, Tensor count, float alpha) -> ()",
    """running ← α running + (1 − α) batch, in place, (C,) both; ``count`` is the number of real tokens that the batch
    held, a scalar.

    Left out where there was no token, or where an entry would not be finite: such a value would stay for good.
    """,
)
move_projection = _define(
    "move_projection(Tensor(a!) projection, Tensor? weight, Tensor grad_weight, Tensor second_moment,"
    " Tensor mean_square, Tensor count, float eps, float alpha) -> ()",
    """ν_t = ν_{t−1} (1 − w Γ) + w Λ with w = min(1 − α, 1/Γ), in place; left out where :data:`move_average` is.

    ``projection`` is ν, (C,). Γ = mean X̂² = mean s²/(d + ε) and Λ = mean g ⊙ X̂ = γ dγ/N, for μ = 0 and g = γ dY:
    neither needs a pass over the rows. ``grad_weight`` is dγ, ``mean_square`` mean s², ``count`` N. With w = 1 − α it
    is the last line of Algorithm 2 (Shen et al. 2020), and that is so wherever (1 − α) Γ ≤ 1, as the proof of Theorem 4
    assumes: ν_t is then a mean of ν_{t−1} and Λ/Γ, and |ν| stays below the largest |Λ|/Γ so far. A channel whose
    quadratic mean jumps breaks the assumption: by the line as printed a single batch with activations 100 times as
    large multiplies ν by −1000, and ν comes back only after ψ² has. Here such a batch puts ν at its own Λ/Γ.
    """,
)
if CHOSEN in ("auto", "force"):
    missing("cpu")  # loads the library
