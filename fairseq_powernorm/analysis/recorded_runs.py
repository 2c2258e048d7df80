"""Records of norms as series over a training, and how much they jump."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..recording.record import Row, read_description, read_record

RECORD = "norm_record"  # the folder in a run's
PLACES = {"input": "", "scaled": ", after the scaling"}
RELATIVE = {  # distances by the size of what they are distances from
    "variance_distance / running_variance": ("variance_distance", "running_variance"),
    "square_mean_distance / running_square_mean": ("square_mean_distance", "running_square_mean"),
}
SUMMARIZED = (
    *("mean_distance", "variance_distance", "square_mean_distance", *RELATIVE, "mean_discrepancy"),
    *("variance_discrepancy", "square_mean_discrepancy"),
    *("gradient_mean", "gradient_variance", "gradient_square_mean", "between_sentences"),
)
"""What :func:`jumps` has a row of."""


@dataclass(frozen=True)
class RecordedRun:
    """What one norm of a training saw.

    Attributes:
        label: of the training, for legends: network and norm.
        norm: the module's name in the model.
        interval: updates from one record to the next.
        data: what it was trained on, in brackets, as far as the record says.
        rows: of that norm alone, in the order of the training.
    """

    label: str
    norm: str
    interval: int
    data: str
    rows: Sequence[Row]

    @property
    def places(self) -> list[str]:
        """Where the norm was looked at: ``input``, and ``scaled`` where a scaling stands in front of it."""
        return list(dict.fromkeys(row["place"] for row in self.rows))

    def series(self, quantity: str, place: str) -> tuple[np.ndarray, np.ndarray]:
        """Percent of the training and values, one for each micro-batch that has one; infinite ones stay.

        Args:
            quantity: a column of the record, or a key of :data:`RELATIVE`.
            place: of :attr:`places`.
        """
        last = self.rows[-1]["update"]
        above, below = RELATIVE.get(quantity, (quantity, None))
        points = [
            (100 * row["update"] / last, ratio(row[above], row[below]) if below else row[above])
            for row in self.rows
            if row["place"] == place and row[above] == row[above]
        ]
        return np.array([point[0] for point in points]), np.array([point[1] for point in points])


def ratio(distance: float, size: float) -> float:
    """The distance by the size; infinite where that is 0."""
    return distance / size if size else math.inf


def read_run(folder: str | Path, label: str) -> RecordedRun:
    """Reads the rows of a model's first norm, which the paper's figures are about.

    Args:
        folder: of the record.
        label: for legends.

    Raises:
        ValueError: no record, an empty one, or one whose description is another.
    """
    rows, description = read_record(folder), read_description(folder)
    interval, run = description.get("interval"), description.get("run") or {}
    if not isinstance(interval, int) or not isinstance(run, dict):
        raise ValueError(f"{folder}: the description of the record names no interval")
    if not rows:
        raise ValueError(f"{folder}: nothing is recorded yet; the first record comes at update {interval}")
    first = rows[0]["norm"]
    data = f" ({run['images']} images of {run['source']})" if {"images", "source"} <= run.keys() else ""
    return RecordedRun(label, first, interval, data, [row for row in rows if row["norm"] == first])


JUMPS = ("run", "norm", "place", "quantity", "median", "quantile_99", "largest", "largest_by_median")


def jumps(runs: Sequence[RecordedRun]) -> list[tuple[str, ...]]:
    """How far the worst batch of the second half of a training is from the usual one: a row of :data:`JUMPS` for each
    place of each run and each quantity of :data:`SUMMARIZED` that there are numbers of."""
    rows: list[tuple[str, ...]] = []
    for run in runs:
        for place, quantity in itertools.product(run.places, SUMMARIZED):
            percent, values = run.series(quantity, place)
            late = values[percent > 50]
            if len(late):
                median, largest = float(np.median(late)), float(late.max())
                numbers = (median, np.quantile(late, 0.99), largest, largest / median if median else math.nan)
                rows.append((f"{run.label}{run.data}", run.norm, place, quantity, *(f"{each:.5g}" for each in numbers)))
    return rows
