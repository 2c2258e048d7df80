"""Curves that can be zoomed and switched on and off, drawn by plotly."""

import statistics
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..analysis.bar_chart import color_of
from ..analysis.curves import Point, curves_of
from ..analysis.recorded_runs import RecordedRun, Row

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
LOSSES = (
    ("validation loss", "valid", "loss"),
    ("training loss", "train", "loss"),
    ("norm of the gradient", "train", "gradient_norm"),
    ("learning rate", "train", "learning_rate"),
)
DISTANCES = (
    ("mean: ‖μ_B − μ‖/C", "mean_distance"),
    ("variance: ‖σ²_B − σ²‖/C", "variance_distance"),
    ("quadratic mean: ‖ψ²_B − ψ²‖/C", "square_mean_distance"),
)
"""Panels of batch statistics' distances to the running ones, by the columns of a record."""

Curve = tuple[Sequence[int], Sequence[float]]


def draw_losses(points: Sequence[Point]) -> go.Figure:
    """Losses, gradient norm and learning rate by update, a line a run."""
    panels = {}
    for title, kind, value in LOSSES:
        curves = curves_of(points, kind, value)
        panels[title] = {run: ([x for x, _ in curve], [y for _, y in curve]) for run, curve in curves.items()}
    return draw_panels({title: curves for title, curves in panels.items() if curves})


def distances_of(run: RecordedRun) -> dict[str, Curve]:
    """The columns of :data:`DISTANCES` by update, of a norm's input; means over micro-batches and ranks."""
    updates: dict[int, list[Row]] = {}
    for row in run.rows:
        if row["place"] == "input":
            updates.setdefault(row["update"], []).append(row)
    return {
        title: ([*updates], [statistics.fmean(row[name] for row in rows) for rows in updates.values()])
        for title, name in DISTANCES
    }


def draw_distances(runs: Mapping[tuple[str, int], RecordedRun]) -> go.Figure | None:
    """How far batch statistics are from running ones, by update; None if no run was recorded."""
    panels: dict[str, dict[tuple[str, int], Curve]] = {}
    for name, run in runs.items():
        for title, curve in distances_of(run).items():
            panels.setdefault(title, {})[name] = curve
    return draw_panels(panels, logarithmic=True) if panels else None


def draw_panels(panels: Mapping[str, Mapping[tuple[str, int], Curve]], logarithmic: bool = False) -> go.Figure:
    """Panels side by side with one legend: a click on a run switches it in all of them.

    Args:
        panels: by title, the curve of each norm and seed by updates.
        logarithmic: whether the y axes are.
    """
    figure = make_subplots(rows=(len(panels) + 1) // 2, cols=2, subplot_titles=[*panels], vertical_spacing=0.14)
    shown = set()
    runs = dict.fromkeys(run for curves in panels.values() for run in curves)
    alike: dict[str, list] = {}  # seeds, and variants such as power-plain, have the colour of their norm
    for run in runs:
        alike.setdefault(color_of(run[0]), []).append(run)
    for place, curves in enumerate(panels.values()):
        for (norm, seed), (x, y) in curves.items():
            name = f"{norm}, seed {seed}"
            color = color_of(norm)
            dash = DASHES[alike[color].index((norm, seed)) % len(DASHES)]
            figure.add_scatter(
                x=x,
                y=y,
                name=name,
                legendgroup=name,
                showlegend=name not in shown,
                line={"color": color, "dash": dash, "width": 1.6},
                mode="lines+markers" if len(x) < 12 else "lines",
                row=place // 2 + 1,
                col=place % 2 + 1,
            )
            shown.add(name)
    figure.update_xaxes(title_text="updates")
    if logarithmic:
        figure.update_yaxes(type="log")
    figure.update_layout(
        template="plotly_white",
        height=330 * ((len(panels) + 1) // 2),
        margin={"l": 50, "r": 20, "t": 40, "b": 40},
        font={"family": "system-ui, sans-serif"},
    )
    return figure


def to_html(figure: go.Figure) -> str:
    """The figure's part of a page that has plotly's script once."""
    return figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
