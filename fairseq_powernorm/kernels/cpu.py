"""The CPU backend: the operators of ``rows.cpp``, which are compiled when the package is installed."""

import functools
import logging
from pathlib import Path

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


@functools.cache
def reason() -> str | None:
    """Why there are no kernels for the CPU, or None if there are: looked up once a process."""
    libraries = sorted(Path(__file__).parent.glob("_rows*.so"))
    if not libraries:
        return "no kernels for the CPU, as the package was installed without a C++ compiler"
    try:
        torch.ops.load_library(str(libraries[0]))
    except (OSError, RuntimeError) as error:
        found = f"no kernels for the CPU, as {libraries[0].name} does not load (built for another torch?): {error}"
        logger.warning("%s", found)
        return found
    _register_shapes()
    return None


def is_available() -> bool:
    """Whether the compiled operators are there."""
    return reason() is None


def _register_shapes() -> None:
    """Tells ``torch.compile`` and friends the shapes and dtypes that the operators return."""

    def sums(rows: Tensor, count: int) -> Tensor:
        dtype = torch.promote_types(rows.dtype, torch.float32)
        return rows.new_empty((count, rows.size(1)) if count > 1 else (rows.size(1),), dtype=dtype)

    register = functools.partial(torch.library.register_fake, lib=None)
    register("fairseq_powernorm::move_running", lambda *_: None)
    register("fairseq_powernorm::normalize", lambda rows, *others: (torch.empty_like(rows), sums(rows, 1)))
    register("fairseq_powernorm::moments", lambda rows, *others: sums(rows, 2))
    register("fairseq_powernorm::gradient_sums", lambda rows, *others: sums(rows, 2))
    register("fairseq_powernorm::gradient", lambda rows, *others: (torch.empty_like(rows), sums(rows, 2)))


def move_running(running: Tensor, updated: Tensor, count: Tensor) -> None:
    """See :func:`fairseq_powernorm.functional.running.move_running`."""
    torch.ops.fairseq_powernorm.move_running(running, updated, count)


def normalize(
    rows: Tensor, padding: Tensor | None, centre: Tensor | None, scale: Tensor, shift: Tensor, groups: int, eps: float
) -> tuple[Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.rows.normalize`."""
    return torch.ops.fairseq_powernorm.normalize(rows, padding, centre, scale, shift, groups, eps)


def moments(
    rows: Tensor, padding: Tensor | None, centre: Tensor | None, groups: int, eps: float
) -> tuple[Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.rows.moments`."""
    return torch.ops.fairseq_powernorm.moments(rows, padding, centre, groups, eps).unbind()


def gradient_sums(
    rows: Tensor, grad: Tensor, padding: Tensor | None, centre: Tensor | None, groups: int, eps: float
) -> tuple[Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.rows.gradient_sums`."""
    return torch.ops.fairseq_powernorm.gradient_sums(rows, grad, padding, centre, groups, eps).unbind()


def gradient(
    rows: Tensor,
    grad: Tensor,
    padding: Tensor | None,
    centre: Tensor | None,
    grad_scale: Tensor,
    grad_product: Tensor,
    grad_shift: Tensor | None,
    groups: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.rows.gradient`."""
    grad_rows, sums = torch.ops.fairseq_powernorm.gradient(
        rows, grad, padding, centre, grad_scale, grad_product, grad_shift, groups, eps
    )
    return grad_rows, *sums.unbind()
