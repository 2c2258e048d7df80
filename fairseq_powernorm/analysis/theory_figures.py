"""Lemma 2 and Theorem 4 of the PowerNorm paper by experiment, charts of what ``scripts/smoothness_study.sh`` finds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .bar_chart import color_of
from .outputs import read_table
from .paper_figures import NETWORKS, Drawing, legend_below, panels

Rows = Sequence[Mapping[str, str]]
MAKER = "scripts/smoothness_study.sh"
WITHOUT = "none"
X_LABEL = "step of the training"
BLACK = "#000000"  # without a norm
RANGES = {
    "loss": ("loss_lowest", "loss_highest"),
    "gradient": ("gradient_distance_lowest", "gradient_distance_highest"),
}


def read_smoothness(folder: Path) -> dict[str, Rows]:
    """The measurements of every norm, without a norm first.

    Raises:
        ValueError: none, or a damaged table.
    """
    paths = sorted(folder.glob("smoothness_*.csv"), key=lambda path: (not path.stem.endswith(f"_{WITHOUT}"), path))
    if not paths:
        raise ValueError(f"{folder} has no smoothness_NORM.csv: {MAKER} makes them")
    names = ("step", "effective_smoothness", "images", *(column for pair in RANGES.values() for column in pair))
    columns = dict.fromkeys(names, str)
    return {path.stem.removeprefix("smoothness_"): read_table(path, columns, MAKER) for path in paths}


def read_bound(folder: Path) -> Rows:
    """The gradients and their bounds; raises as :func:`~.outputs.read_table`."""
    names = ("step", "norm", "gradient", "bound", "largest_share", "projection_share", "images")
    return read_table(folder / "bound_power.csv", dict.fromkeys(names, str), MAKER)


def smoothness(tables: Mapping[str, Rows]) -> Drawing:
    """Loss and gradient along the gradient, and effective smoothness, over the steps of the training."""
    whose = next(iter(tables.values()))[0]["images"]
    below = (
        f"ResNet20 on {whose}. From each point the weights are moved along the negative gradient of a batch by 0.5 to "
        "4 learning rates; shaded: the range over these moves. Effective smoothness: the largest change of the "
        "gradient by the length of the move (Santurkar et al. 2018)."
    )
    headings = ("loss over the moves", "distance of the gradients over the moves", "effective smoothness")
    figure, axes = panels(headings, X_LABEL, "How smooth the loss is along its gradient", below)
    drawing = Drawing(figure, ("norm", *next(iter(tables.values()))[0]))
    for norm, rows in tables.items():
        color = BLACK if norm == WITHOUT else color_of(norm)
        steps = [int(row["step"]) for row in rows]
        for panel, (low, high) in zip(axes, RANGES.values(), strict=False):
            lowest, highest = ([float(row[column]) for row in rows] for column in (low, high))
            panel.fill_between(steps, lowest, highest, color=color, alpha=0.15, linewidth=0)
            panel.plot(steps, highest, color=color, linewidth=0.8, label=norm)
        axes[2].plot(steps, [float(row["effective_smoothness"]) for row in rows], color=color, label=norm)
        drawing.rows += [(norm, *row.values()) for row in rows]
    for panel in axes[1:]:
        panel.set_yscale("log")
    for panel in axes:
        legend_below(panel)
    return drawing


def bound(rows: Rows) -> Drawing:
    """‖dX‖ of the first and the last norm beside Theorem 4's bound, and how near to it the nearest value is."""
    below = (
        f"ResNet20 on {rows[0]['images']} with power from the first step, no scaling. "
        "Bound: (|g| + B |X̂|)/√(ψ² + ε) for each value, B the largest rms(g)/√Γ of the steps before; drawn are the "
        "norms over all positions and channels. Right: the largest |dX| by its own bound over all norms, and the "
        "largest |ν| by B; neither can be above 1."
    )
    headings = ("gradient and bound", "largest share of the bound")
    figure, axes = panels(headings, X_LABEL, "Theorem 4 along a training", below)
    names = list(dict.fromkeys(row["norm"] for row in rows))
    drawing = Drawing(figure, list(rows[0]), [tuple(row.values()) for row in rows])
    for name, color in zip(dict.fromkeys((names[0], names[-1])), NETWORKS, strict=False):
        own = [row for row in rows if row["norm"] == name]
        for column, dashes in (("gradient", "-"), ("bound", "--")):
            points = [int(row["step"]) for row in own], [float(row[column]) for row in own]
            symbol = "‖dX‖" if column == "gradient" else "bound"
            axes[0].plot(*points, dashes, color=color, linewidth=1, label=f"{name}, {symbol}")
    steps = list(dict.fromkeys(int(row["step"]) for row in rows))
    for column, color, label in (
        ("largest_share", NETWORKS[0], "|dX| / bound"),
        ("projection_share", NETWORKS[1], "|ν| / B"),
    ):
        largest = dict.fromkeys(steps, 0.0)
        for row in rows:
            largest[int(row["step"])] = float(np.maximum(largest[int(row["step"])], float(row[column])))  # keeps a NaN
        axes[1].plot(list(largest), list(largest.values()), color=color, linewidth=1, label=label)
    axes[0].set_yscale("log")
    axes[1].set_ylim(0, max(1.05, axes[1].get_ylim()[1]))
    for panel in axes:
        legend_below(panel)
    return drawing
