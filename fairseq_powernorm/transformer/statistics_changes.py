"""How much running statistics changed, one line a site: what recalibration shows."""

import logging

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

SQUARED = {"running_square_mean": "ψ²", "running_var": "σ²"}
MEAN, VARIANCE = "running_mean", "running_var"


def spread(values: Tensor) -> str:
    """Median and middle 90 % of a vector, as text."""
    low, middle, high = torch.quantile(values, torch.tensor([0.05, 0.5, 0.95], dtype=values.dtype)).tolist()
    return f"{middle:.3f} ({low:.3f} … {high:.3f})"


def change(old: dict[str, Tensor], new: dict[str, Tensor]) -> str:
    """How much one site's statistics changed, as text: new/old of ψ² or σ², and for μ its shift in units of the old σ.

    Args:
        old: the running statistics (C,) by buffer.
        new: the same, estimated anew.
    """
    parts = []
    for name, value in new.items():
        before, after = old[name].double(), value.double()
        tiny = torch.finfo(torch.float32).tiny
        if name in SQUARED:
            parts.append(f"{SQUARED[name]} {spread(after / before.clamp(min=tiny))}")
        elif name == MEAN:
            parts.append(f"μ {spread((after - before).abs() / old[VARIANCE].double().clamp(min=tiny).sqrt())}")
    return "   ".join(parts)


def log_changes(old: dict[str, dict[str, Tensor]], new: dict[str, dict[str, Tensor]]) -> None:
    """Logs one line a site."""
    logger.info("new/old of ψ² or σ²; for μ |new − old|/σ; median over channels (5 % … 95 %):")
    width = max(map(len, new))
    for site, statistics in new.items():
        logger.info("%-*s  %s", width, site, change(old[site], statistics))
