"""The scores of single trainings: read from the folders of runs, or from a table of other runs."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..files import read_lines
from ..scoring.bleu import score_lines
from ..scoring.rows import check_comparable, rank
from ..scoring.runs import Run
from .curves import read_log
from .outputs import read_table

MEAN, POOLED = "mean of the test sets", "all test sets as one"


@dataclass(frozen=True)
class Measurement:
    """One training on one test set.

    Attributes:
        norm: the norm's name.
        seed: of the training.
        test_set: a test set's name, ``MEAN`` or ``POOLED``.
        bleu: by the recipe's main protocol.
        validation_loss: the last one of the training, by token, base 2; None if its log is gone.
        updates: optimizer updates.
        commit: that trained it.
        hardware: that it was trained on.
        signature: sacreBLEU's.
    """

    norm: str
    seed: int
    test_set: str
    bleu: float
    validation_loss: float | None
    updates: int
    commit: str
    hardware: str
    signature: str


def measure(runs: Sequence[Run]) -> list[Measurement]:
    """The BLEU of every run on each test set, their mean, and BLEU of all their sentences as one test set.

    Raises:
        ValueError: no runs, one that lacks a test set of the others, or runs that are not comparable.
    """
    test_sets = sorted({name for run in runs for name in run.scores})
    if not test_sets:
        raise ValueError("no finished and scored run to compare")
    for test_set in test_sets:
        for run in runs:
            if test_set not in run.scores:
                raise ValueError(f"{run.folder} is not scored on {test_set}, other runs are")
        check_comparable(runs, test_set, None)
    measurements = []
    for run in sorted(runs, key=lambda run: (rank(run.norm), run.seed)):
        bleu = {test_set: run.scores[test_set].bleu for test_set in test_sets}
        if len(test_sets) > 1:
            hypothesis, reference = (
                [line for test_set in test_sets for line in read_lines(run.folder / test_set / f"{side}.txt")]
                for side in ("hypothesis", "reference")
            )
            bleu[MEAN] = statistics.fmean(bleu.values())
            bleu[POOLED] = score_lines(hypothesis, reference, run.scores[test_sets[0]].settings).score
        log = run.folder / "train.log"
        points = read_log(log, run.norm, run.seed) if log.is_file() else []
        loss = next((point.loss for point in reversed(points) if point.kind == "valid"), None)
        signature = run.scores[test_sets[0]].signature
        measurements += [
            Measurement(run.norm, run.seed, test_set, value, loss, run.updates, run.commit, run.hardware, signature)
            for test_set, value in bleu.items()
        ]
    return measurements


def read_measurements(path: Path) -> list[Measurement]:
    """The measurements of a CSV of :mod:`.ablation`; raises as :func:`~.outputs.read_table`."""
    converted: dict[str, Callable[[str], Any]] = {"seed": int, "bleu": float, "updates": int}
    converted["validation_loss"] = lambda text: float(text) if text else None
    columns = {each.name: converted.get(each.name, str) for each in fields(Measurement)}
    return [
        Measurement(**{name: row[name] for name in columns})
        for row in read_table(path, columns, "fairseq_powernorm.analysis.ablation")
    ]


def joined(runs: Sequence[Measurement], others: Sequence[Measurement]) -> list[Measurement]:
    """The measurements of runs and of a table of other runs, in the order of norms and seeds.

    Raises:
        ValueError: they are not comparable, or have the same training with other scores.
    """
    known = {(each.norm, each.seed, each.test_set): each.bleu for each in runs}
    test_sets = {each.test_set for each in runs}
    scored: dict[tuple[str, int], set[str]] = {}
    for each in others:
        scored.setdefault((each.norm, each.seed), set()).add(each.test_set)
        if each.signature != runs[0].signature:
            raise ValueError(f"{each.norm} seed {each.seed} is scored by {each.signature}, here by {runs[0].signature}")
        if each.test_set not in test_sets:
            raise ValueError(f"{each.norm} seed {each.seed} is scored on {each.test_set}, the runs here are not")
        bleu = known.get((each.norm, each.seed, each.test_set), each.bleu)
        if bleu != each.bleu:
            raise ValueError(f"{each.norm} seed {each.seed} has {each.bleu} on {each.test_set}, and {bleu} here")
    for (norm, seed), own in scored.items():
        if missing := sorted(test_sets - own):
            raise ValueError(f"{norm} seed {seed} is not scored on {', '.join(missing)}, the runs here are")
    new = [each for each in others if (each.norm, each.seed, each.test_set) not in known]
    return sorted([*runs, *new], key=lambda each: (rank(each.norm), each.seed))
