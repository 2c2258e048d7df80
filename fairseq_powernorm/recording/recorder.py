"""Hooks on the norms of a model that write down what they see in a training, and change nothing of it."""

import contextlib
import functools
import logging
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..functional.reduction import keep_local
from ..norms.distributed import mean_over_ranks, number_of_ranks
from ..norms.recomputation import is_backward_running
from ..norms.token_norm import TokenNorm
from ..norms.update import OneUpdate
from . import averages
from .quantities import (
    BACKWARD,
    DISCREPANCIES,
    QUANTITIES,
    backward_quantities,
    between_sentences,
    forward_quantities,
    moments_of,
)
from .record import Record, format_row
from .sites import RecordedPass, Site, UpdateUnderWay, sites_of

logger = logging.getLogger(__name__)


class NormRecorder:
    """Writes down what the norms of a model see, every ``interval`` updates, into ``folder``::

        recorder = NormRecorder(model, "record", interval=10)
        for number, micro_batches in enumerate(training_data, start=1):
            with one_update(model) as update, recorder.record(update, number):
                for batch in micro_batches:
                    recorder.summed_over = 1  # the tokens that this loss is a sum over; 1 for a mean
                    loss_of(model, batch).backward()
                optimizer.step()

    All norms of this package are recorded, those too that stand nowhere else than in torch's own modules. Training with
    a recorder gives the same model, to the bit, as training without. On the host nothing waits for the device but at
    the end of an update that is recorded. :mod:`.record` has the format, :mod:`.quantities` what is written.

    Running statistics that a norm does not keep (ψ² of ``batch``, all of ``layer``) are averages of the recorder's own,
    with the norm's ``alpha_fwd`` (0.9 where it has none), updated in every update. A training that is to be continued
    keeps them by :meth:`save`, with each of its checkpoints.

    Several ranks (each has its recorder, with the same settings) write one record, the first one's; the number of a
    rank is in its lines. A norm with ``sync`` has lines of the first rank alone, about all ranks' tokens.

    Attributes:
        summed_over: how many target tokens the loss of the passes to come is a sum over: gradients are divided by it,
            and by the update's loss scale.
        latest: the :data:`~.quantities.DISCREPANCIES` of the update that was written last, each a mean over all norms,
            for a log; empty where this is not the first rank.
    """

    def __init__(
        self,
        model: nn.Module,
        folder: str | Path,
        interval: int = 10,
        updates: int = 0,
        run: Mapping[str, Any] | None = None,
    ):
        """Args:
            model: whose norms are recorded.
            folder: where to; continued if it has the same training's record.
            interval: updates 1·interval, 2·interval, … are recorded.
            updates: done so far, by the checkpoint that the training goes on from; what was recorded later is dropped.
            run: what tells this training from others with the same norms. None: a folder that has a record already is
                an error when ``updates`` is 0.

        Raises:
            ValueError: no norm in the model, a comma in the name of one, an interval below 1, or a folder of another
                training.
        """
        if interval < 1:
            raise ValueError(f"expected an interval of 1 update or more, got {interval}")
        norms = {name: module for name, module in model.named_modules() if isinstance(module, TokenNorm)}
        if not norms:
            raise ValueError(f"{type(model).__name__} has no norm of fairseq_powernorm to record")
        if unfit := [name for name in norms if "," in name or "\n" in name]:
            raise ValueError(f"the norm {unfit[0]!r} has a name that a line of values with commas cannot hold")
        self.interval, self.summed_over = interval, 1.0
        self.latest: dict[str, float] = {}
        self.sites = {name: sites_of(name, norm) for name, norm in norms.items()}
        kinds = {
            name: f"{norm.declaration.name}: {norm.extra_repr().replace(', sync=True', '')}"  # of the hardware
            for name, norm in norms.items()
        }
        description = {"run": None if run is None else dict(run), "interval": interval, "norms": kinds}
        self.folder = Path(folder)
        self._record: Record | None = None
        self._open(description, updates)
        self._under: UpdateUnderWay | None = None
        self._handles = []
        for name, norm in norms.items():
            before = norm.register_forward_pre_hook(functools.partial(self._before, name), with_kwargs=True)
            after = norm.register_forward_hook(functools.partial(self._after, name), with_kwargs=True)
            self._handles += [before, after]

    def remove(self) -> None:
        """Takes the hooks off again."""
        for handle in self._handles:
            handle.remove()

    def _open(self, description: dict[str, Any], updates: int) -> None:
        """Opens the record, by the first rank; every rank hears of an error."""
        outcome: list[Any] = [None, {}]
        if number_of_ranks() == 1 or dist.get_rank() == 0:
            try:
                self._record = Record(self.folder, description, updates)
                averages.remove_after(self.folder, updates)
                if updates:
                    outcome[1] = averages.load(self.folder, updates)
            except (ValueError, OSError) as error:
                outcome[0] = str(error)
        if number_of_ranks() > 1:
            dist.broadcast_object_list(outcome, src=0)
        if outcome[0] is not None:
            raise ValueError(outcome[0])
        for site in self._all_sites() if outcome[1] else ():
            site.averages = list(torch.from_numpy(outcome[1][site.key]))

    def _all_sites(self) -> list[Site]:
        return [site for sites in self.sites.values() for site in sites]

    @contextlib.contextmanager
    def record(self, update: OneUpdate, number: int) -> Iterator[None]:
        """Within the block the passes belong to an update. Its lines are written when its norms' statistics change
        (:meth:`~fairseq_powernorm.norms.update.OneUpdate.finish`), and not at all if the optimizer leaves it out.

        Args:
            update: of :func:`~fairseq_powernorm.norms.update.one_update`.
            number: of the update, from 1.
        """
        outer, self._under = self._under, UpdateUnderWay(update, number, number % self.interval == 0)
        if self._under.written:
            update.after.append(functools.partial(self._write, self._under))
        try:
            yield
        finally:
            self._under = outer

    @torch.no_grad()
    def _before(self, name: str, norm: TokenNorm, arguments: tuple, keywords: dict) -> None:
        """Takes the moments of what a norm is about to normalise; the running ones are still those of before."""
        under = self._under
        if under is None or not norm.training or is_backward_running():
            return
        rows, padding = _rows_and_padding(norm, arguments, keywords)
        if under.update.ignored:
            padding = torch.ones(rows.shape[:-1], dtype=torch.bool, device=rows.device)
        given = rows
        if under.written:
            rows = wide(rows)
        else:
            rows, padding = in_memory_order(rows, padding)
        number = under.counts[name] = under.counts.get(name, -1) + 1
        passes = []
        for site in self.sites[name]:
            site.to(rows.device)
            settings = site.reduce, site.groups, norm.eps
            batch = moments_of(rows, padding, site.averages[0], *settings)
            under.update.add(site.move, site.averages, batch.values(), batch.count)
            if under.written:
                between = between_sentences(given, padding, batch, *settings)
                forward = forward_quantities(batch, site.running(), between, norm.eps, norm.channels)
                passes.append(RecordedPass(site, batch, number, forward, self.summed_over))
        under.passes += passes
        if passes:
            under.waiting.setdefault(name, []).append(passes)

    def _after(self, name: str, norm: TokenNorm, arguments: tuple, keywords: dict, output: Tensor) -> None:
        """Has the gradient by the norm's output looked at when it is there.

        With activation checkpointing the pass that the gradient comes from is the recomputation, or (torch's newer
        kind) the first one: whichever it is, its output requires grad and the pass still waits.
        """
        waiting = None if self._under is None else self._under.waiting.get(name)
        if not waiting or not norm.training or not output.requires_grad:
            return
        rows, padding = _rows_and_padding(norm, arguments, keywords)
        passes = waiting.pop()

        def look(grad: Tensor) -> None:
            with torch.no_grad():
                given = wide(rows), wide(grad.movedim(norm.channel_dim, -1)), padding
                for each in passes:
                    settings = each.site.reduce, each.site.groups, norm.eps
                    each.backward = backward_quantities(*given, each.batch, norm.weight, *settings)

        output.register_hook(look)

    def _write(self, under: UpdateUnderWay) -> None:
        """Appends the lines of an update, all ranks' by the first one."""
        vectors = [each.vector() for each in under.passes]
        values = torch.stack(vectors).tolist() if vectors else []  # here the host waits
        scale = float(under.update.loss_scale)
        keys = [(each.site.key, each.number, float(each.summed_over)) for each in under.passes]
        gathered = _gather_to_first(list(zip(keys, values, strict=True)))
        if self._record is None or gathered is None:
            return
        lines = []
        sites = {site.key: site for site in self._all_sites()}
        divisors: dict[tuple[str, int], float] = {}  # of all ranks
        for rows in gathered:
            for (key, number, summed_over), _ in rows:
                divisors[key, number] = divisors.get((key, number), 0.0) + summed_over
        for rank, rows in enumerate(gathered):
            for (key, number, summed_over), (tokens, *quantities) in rows:
                site = sites[key]
                if tokens == 0 or (rank > 0 and site.reduce is not keep_local):
                    continue
                divisor = summed_over if site.reduce is keep_local else divisors[key, number]
                gradients = [value / (scale * divisor) for value in quantities[-len(BACKWARD) :]]
                identity = under.number, number, rank, site.name, site.norm.declaration.name, site.place
                lines.append(
                    format_row([*identity, site.norm.channels, int(tokens), *quantities[: -len(BACKWARD)], *gradients])
                )
        self._record.append(lines)
        inputs = [
            values[1:] for rows in gathered for (key, *_), values in rows if sites[key].place == "input" and values[0]
        ]
        if inputs:
            means = dict(zip(QUANTITIES, map(statistics.fmean, zip(*inputs, strict=True)), strict=True))
            self.latest = {name: means[name] for name in DISCREPANCIES}

    @torch.no_grad()
    def average_over_ranks(self) -> None:
        """Gives all ranks the mean of the recorder's averages, as
        :func:`~fairseq_powernorm.norms.update.average_over_ranks` does with the norms' statistics; every rank has to
        call it at the same point."""
        own = [average for site in self._all_sites() if site.reduce is keep_local for average in site.averages]
        for average, mean in zip(own, mean_over_ranks(own), strict=True):
            average.copy_(mean)

    def save(self, updates: int) -> None:
        """Keeps the recorder's averages beside the record, for a training that goes on from a checkpoint of now; the
        first rank does it for all.

        Args:
            updates: done so far.
        """
        if self._record is not None:
            averages.save(self.folder, updates, self._all_sites())


def _rows_and_padding(norm: TokenNorm, arguments: tuple, keywords: dict) -> tuple[Tensor, Tensor | None]:
    """What a norm was called with: x (..., C) without its graph, and the padding in the order of its rows."""
    given = dict(zip(("x", "padding_mask"), arguments, strict=False)) | keywords
    rows, mask = given["x"].detach(), given.get("padding_mask")
    return rows, norm.padding_of(rows, mask)


def wide(rows: Tensor) -> Tensor:
    """Rows in float64, one after another in memory, as the operators take them without a copy."""
    return rows.to(torch.float64, memory_format=torch.contiguous_format)


def in_memory_order(rows: Tensor, padding: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """(T, B, C) as (B, T, C) where that is how it lies in memory: moments are the same, and nothing is copied."""
    if rows.dim() == 3 and not rows.is_contiguous() and rows.transpose(0, 1).is_contiguous():
        return rows.transpose(0, 1), None if padding is None else padding.t()
    return rows, padding


def _gather_to_first(rows: list) -> list[list] | None:
    """All ranks' rows, for the first rank; None for the others."""
    if number_of_ranks() == 1:
        return [rows]
    first = dist.get_rank() == 0
    gathered: list | None = [None] * number_of_ranks() if first else None
    dist.gather_object(rows, gathered, dst=0)
    return gathered
