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

    def scalar(rows: Tensor) -> Tensor:
        return rows.new_empty((), dtype=torch.promote_types(rows.dtype, torch.float32))

    register = functools.partial(torch.library.register_fake, lib=None)
    register(
        "fairseq_powernorm::normalize",
        lambda rows, *others: (torch.empty_like(rows), sums(rows, 1), scalar(rows)),
    )
    register("fairseq_powernorm::moments", lambda rows, *others: (sums(rows, 2), scalar(rows)))
    register("fairseq_powernorm::gradient_sums", lambda rows, *others: sums(rows, 2))
    register("fairseq_powernorm::gradient", lambda rows, *others: (torch.empty_like(rows), sums(rows, 2)))
    register("fairseq_powernorm::move_average", lambda *_: None)
    register(
        "fairseq_powernorm::ratio_and_correlation",
        lambda weight, grad_weight, *others: (torch.empty_like(grad_weight), torch.empty_like(grad_weight)),
    )
    register("fairseq_powernorm::move_projection", lambda *_: None)


def normalize(
    rows: Tensor,
    padding: Tensor | None,
    centre: Tensor | None,
    deviation: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    groups: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.rows.normalize`."""
    return torch.ops.fairseq_powernorm.normalize.default(rows, padding, centre, deviation, weight, bias, eps, groups)


def moments(
    rows: Tensor, padding: Tensor | None, centre: Tensor | None, eps: float, groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.rows.moments`."""
    sums, count = torch.ops.fairseq_powernorm.moments.default(rows, padding, centre, eps, groups)
    return *sums.unbind(), count


def gradient_sums(
    rows: Tensor,
    grad: Tensor,
    padding: Tensor | None,
    centre: Tensor | None,
    deviation: Tensor,
    eps: float,
    groups: int,
) -> tuple[Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.rows.gradient_sums`."""
    return torch.ops.fairseq_powernorm.gradient_sums.default(
        rows, grad, padding, centre, deviation, eps, groups
    ).unbind()


def gradient(
    rows: Tensor,
    grad: Tensor,
    padding: Tensor | None,
    centre: Tensor | None,
    deviation: Tensor,
    weight: Tensor,
    projection: Tensor,
    mean: Tensor | None,
    eps: float,
    groups: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.rows.gradient`."""
    grad_rows, sums = torch.ops.fairseq_powernorm.gradient.default(
        rows, grad, padding, centre, deviation, weight, projection, mean, eps, groups
    )
    return grad_rows, *sums.unbind()


def move_average(running: Tensor, batch: Tensor, count: Tensor, alpha: float) -> None:
    """See :func:`fairseq_powernorm.functional.running.move_average`."""
    torch.ops.fairseq_powernorm.move_average.default(running, batch, count, alpha)


def ratio_and_correlation(
    weight: Tensor, grad_weight: Tensor, deviation: Tensor, mean_square: Tensor, count: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """See :func:`fairseq_powernorm.functional.running.ratio_and_correlation`."""
    return torch.ops.fairseq_powernorm.ratio_and_correlation.default(
        weight, grad_weight, deviation, mean_square, count, eps
    )


def move_projection(
    projection: Tensor, square_mean_ratio: Tensor, correlation: Tensor, count: Tensor, alpha: float
) -> None:
    """See :func:`fairseq_powernorm.functional.running.move_projection`."""
    torch.ops.fairseq_powernorm.move_projection.default(projection, square_mean_ratio, correlation, count, alpha)
