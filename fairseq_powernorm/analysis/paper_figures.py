"""The figures of the PowerNorm paper (Shen et al. 2020), drawn from runs of one's own.

Each function gives a :class:`Drawing`: the chart, and what is drawn as the rows of a table. Where the paper says
nothing about a choice, what was chosen stands below the chart.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .bar_chart import DOTS_PER_INCH, color_of
from .recorded_runs import PLACES, RecordedRun

NETWORKS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")  # Okabe and Ito's, a colour a network
SIZES_OF_THE_PAPER = (512, 1024, 2048, 4096)
SYMBOLS = {
    "mean_distance": "dist(μ_B, μ) = ‖μ_B − μ‖ / d",
    "variance_distance": "dist(σ²_B, σ²) = ‖σ²_B − σ²‖ / d",
    "square_mean_distance": "dist(ψ²_B, ψ²) = ‖ψ²_B − ψ²‖ / d",
    "gradient_mean": "‖g_μ‖",
    "gradient_variance": "‖g_σ²‖",
    "gradient_square_mean": "‖g_ψ²‖",
}
"""Quantities as the paper writes them."""


@dataclass
class Drawing:
    """A chart and its numbers.

    Attributes:
        chart: the figure.
        header: of the table.
        rows: of the table.
    """

    chart: Figure
    header: Sequence[str]
    rows: list[Sequence[Any]] = field(default_factory=list)


def panels(headings: Sequence[str], x_label: str, title: str, below: str) -> tuple[Figure, Sequence[Axes]]:
    """A row of charts with headings and one label, with a title above and the choices in small print below."""
    number = len(headings)
    figure = Figure(figsize=(5.2 * number + 0.4, 5.0), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(1, number, squeeze=False)[0]
    figure.suptitle(title, fontsize=11, parse_math=False)
    words = "\n".join(textwrap.wrap(below, 88 * number))
    figure.supxlabel(words, fontsize=7, ha="left", x=0.01, color="#444444", parse_math=False)
    for panel, heading in zip(axes, headings, strict=True):
        panel.set_title(heading, loc="left", fontsize=9, parse_math=False)
        panel.set_xlabel(x_label)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def legend_below(panel: Axes) -> None:
    """The names of a panel's lines, below it: over the lines they would hide some."""
    columns = 1 if any(len(name) > 30 for name in panel.get_legend_handles_labels()[1]) else 2
    panel.legend(
        fontsize=7, frameon=False, ncols=columns, loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=5.5
    )


def over_training(
    runs: Sequence[RecordedRun], quantities: Sequence[Sequence[str]], title: str, log: bool = False
) -> Drawing:
    """Series over percent of training: a panel for each group of quantities, a colour a run. After the scaling in
    front of a norm a line is pale; a second quantity of a panel is dashed.

    Args:
        runs: of :func:`~.recorded_runs.read_run`.
        quantities: for each panel, columns of the record or keys of :data:`~.recorded_runs.RELATIVE`.
        title: above the chart.
        log: whether the y axis is logarithmic.
    """
    norms = "; ".join(f"{run.label}{run.data}: {run.norm}, one update in {run.interval}" for run in runs)
    below = (
        f"The model's first norm ({norms}); a point a micro-batch. Running statistics as they were before the update; "
        "gradients of a loss that is a mean over target tokens or images, x̂ normalised by the batch; percent of the "
        "recorded updates. The paper leaves these open."
    )
    headings = [" and ".join(SYMBOLS.get(name, name) for name in group) for group in quantities]
    figure, axes = panels(headings, "percent of training", title, below)
    drawing = Drawing(figure, ("run", "norm", "place", "quantity", "percent_of_training", "value"))
    for panel, group in zip(axes, quantities, strict=True):
        for run, color in zip(runs, NETWORKS, strict=False):
            for place in run.places:
                for quantity, dashes in zip(group, ("-", "--"), strict=False):
                    percent, values = run.series(quantity, place)
                    symbol = f", {SYMBOLS.get(quantity, quantity).split(' = ')[0]}" if len(group) > 1 else ""
                    panel.plot(
                        *(percent, values, dashes),
                        color=color,
                        alpha=1 if place == "input" else 0.45,
                        linewidth=1,
                        label=f"{run.label}{PLACES[place]}{symbol}",
                    )
                    name = f"{run.label}{run.data}", run.norm, place, quantity
                    drawing.rows += [
                        (*name, f"{at:.4g}", f"{value:.8g}") for at, value in zip(percent, values, strict=True)
                    ]
        panel.set_xticks(range(0, 101, 20))
        if log:
            panel.set_yscale("log")
        else:
            panel.set_ylim(bottom=0)
        legend_below(panel)
    return drawing


def figure2(runs: Sequence[RecordedRun]) -> Drawing:
    """Distances of the batch's mean and variance from the running ones."""
    groups = [["mean_distance"], ["variance_distance"]]
    return over_training(runs, groups, "Figure 2: distance of batch and running statistics")


def figure3(runs: Sequence[RecordedRun]) -> Drawing:
    """Norms of the two batch means in BatchNorm's backward pass."""
    groups = [["gradient_mean"], ["gradient_variance"]]
    return over_training(runs, groups, "Figure 3: the batch means of BatchNorm's backward pass")


def figure4(runs: Sequence[RecordedRun]) -> Drawing:
    """The quadratic mean against the variance: distances, and norms of the backward means."""
    groups = [["variance_distance", "square_mean_distance"], ["gradient_variance", "gradient_square_mean"]]
    return over_training(runs, groups, "Figure 4: quadratic mean against variance", log=True)


def relative(runs: Sequence[RecordedRun]) -> Drawing:
    """Not in the paper: the distances of variance and quadratic mean by the size of the running ones, which compares
    networks whose activations differ in size."""
    groups = [["variance_distance / running_variance"], ["square_mean_distance / running_square_mean"]]
    return over_training(runs, groups, "Distances by the size of the running statistic (not in the paper)")


def figure5(scores: Mapping[str, Mapping[int, float]], title: str, note: str = "") -> Drawing:
    """BLEU by the tokens that batch statistics are taken over, each update having as many tokens.

    Args:
        scores: for each norm, BLEU by tokens; a mean over test sets where there are several.
        title: the data.
        note: below, in addition to the choices.
    """
    below = f"Every update has the same tokens, in 1, 2, 4 or 8 micro-batches. {note}"
    name = f"Figure 5: BLEU by tokens of a micro-batch, {title}"
    figure, (panel,) = panels([""], "tokens of a micro-batch", name, below)
    drawing = Drawing(figure, ("norm", "tokens", "bleu"))
    sizes = sorted({tokens for points in scores.values() for tokens in points})
    for norm, points in scores.items():
        ordered = sorted(points.items())
        panel.plot(*zip(*ordered, strict=True), marker="o", color=color_of(norm), label=norm)
        drawing.rows += [(norm, tokens, bleu) for tokens, bleu in ordered]
    panel.set_xscale("log", base=2)
    panel.set_xticks(sizes, [f"{size // 1024}K" if size % 1024 == 0 else str(size) for size in sizes])
    panel.minorticks_off()
    panel.set_ylabel("BLEU")
    panel.legend(frameon=False, fontsize=8)
    return drawing


def figure6(embeddings: Mapping[str, np.ndarray], title: str) -> Drawing:
    """Singular values of the word embedding, as they are and divided by the largest.

    Args:
        embeddings: (V, d) by norm.
        title: the data.
    """
    below = (
        "Singular values of the encoder's embedding of an averaged checkpoint, all words and the padding's zeros, in "
        "descending order. Whether the paper divides by the largest is not known: both are drawn."
    )
    name = f"Figure 6: singular values of the word embedding, {title}"
    figure, axes = panels(("singular value", "divided by the largest"), "index", name, below)
    drawing = Drawing(figure, ("norm", "index", "singular_value", "by_the_largest"))
    for norm, embedding in embeddings.items():
        values = np.linalg.svd(np.asarray(embedding, dtype=np.float64), compute_uv=False)
        for panel, shown in zip(axes, (values, values / values[0]), strict=True):
            panel.plot(range(1, len(values) + 1), shown, color=color_of(norm), linewidth=1.2, label=norm)
        drawing.rows += [(norm, index, value, value / values[0]) for index, value in enumerate(values, start=1)]
    for panel in axes:
        panel.set_ylim(bottom=0)
        panel.legend(frameon=False, fontsize=8)
    return drawing
