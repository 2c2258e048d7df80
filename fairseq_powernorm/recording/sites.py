"""The places of a model that a recorder looks at, and what it holds of an update until that is over."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..functional.reduction import keep_local
from ..kernels.operators import move_average
from ..norms.token_norm import TokenNorm
from ..norms.update import OneUpdate
from .quantities import BACKWARD, KEPT_IN, MOMENTS, STARTS, Moments

DEFAULT_ALPHA = 0.9  # of norms that have no running statistics of their own


class Site:
    """One place of one norm: its input, or behind the scaling of each token in front of it.

    Attributes:
        name: of the module in the model.
        norm: the module.
        place: ``input`` or ``scaled``.
        groups: of the scaling; 0 at the input.
        averages: the recorder's own running moments (C,), float64, in the order of
            :data:`~.quantities.MOMENTS`; updated as the norms' are, with the norm's ``alpha_fwd``.
    """

    def __init__(self, name: str, norm: TokenNorm, place: str, groups: int):
        self.name, self.norm, self.place, self.groups = name, norm, place, groups
        self.reduce = getattr(norm, "reduce", keep_local)
        self.averages = [torch.full((norm.channels,), start, dtype=torch.float64) for start in STARTS]
        # What a norm keeps are the moments of what it normalises: behind the scaling where there is one.
        normalised = groups == getattr(norm, "group_scaling", 0)
        self.kept = {moment: buffer for buffer, moment in KEPT_IN.items() if normalised and hasattr(norm, buffer)}

    @property
    def key(self) -> str:
        """What tells the site from others."""
        return f"{self.name}:{self.place}"

    def to(self, device: torch.device) -> None:
        """Moves the averages to where the activations are."""
        if self.averages[0].device != device:
            self.averages = [average.to(device) for average in self.averages]

    def running(self) -> list[Tensor]:
        """The running moments as they are now: the norm's own where it keeps them."""
        own = dict(zip(MOMENTS, self.averages, strict=True))
        return [getattr(self.norm, self.kept[name]) if name in self.kept else own[name] for name in MOMENTS]

    def move(self, buffers: Sequence[Tensor], values: Sequence[Tensor], count: Tensor) -> None:
        """Updates the averages by an update's batch."""
        alpha = getattr(self.norm, "alpha_fwd", DEFAULT_ALPHA)
        for average, value in zip(buffers, values, strict=True):
            move_average(average, value.to(average.dtype), count.to(average.dtype), alpha)


class RecordedPass:
    """What was taken of one pass through one site; gets its gradients when the backward pass comes by."""

    def __init__(self, site: Site, batch: Moments, number: int, forward: Tensor, summed_over: float):
        self.site, self.batch, self.number, self.forward, self.summed_over = site, batch, number, forward, summed_over
        self.backward: Tensor | None = None

    def vector(self) -> Tensor:
        """The number of tokens and all quantities; NaN for gradients that did not come by."""
        backward = self.forward.new_full((len(BACKWARD),), torch.nan) if self.backward is None else self.backward
        return torch.cat([self.batch.count.reshape(1).to(self.forward), self.forward, backward])


class UpdateUnderWay:
    """The update that is being recorded."""

    def __init__(self, update: OneUpdate, number: int, written: bool):
        self.update, self.number, self.written = update, number, written
        self.passes: list[RecordedPass] = []
        self.counts: dict[str, int] = {}
        self.waiting: dict[str, list[list[RecordedPass]]] = {}


def sites_of(name: str, norm: TokenNorm) -> list[Site]:
    """The places of a norm that are recorded."""
    groups = getattr(norm, "group_scaling", 0)
    return [Site(name, norm, "input", 0), *([Site(name, norm, "scaled", groups)] if groups else [])]
