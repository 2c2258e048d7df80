"""Norms by translation quality and speed: a table and a chart of BLEU against time.

    python -m fairseq_powernorm.analysis.quality_and_speed --quality results/multi30k_de_en_ablation.csv \
        --speed results/benchmarks/rivals_cpu.csv --output-prefix results/norms

The quality is that of :mod:`.ablation`'s CSV, the speed that of ``benchmarks/bench_norms.py``: one norm, a training
pass (forward and backward) and an evaluation, over ``torch.nn.LayerNorm``; what a training pass keeps for its backward
pass, and the most that it takes. Table 1's rows (``batch``, ``pn-v``, ``power``) are timed with their scaling in front.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import Bbox

from ..files import run_command_line
from ..norms.batch_statistics import BatchStatisticsNorm
from ..norms.registry import NORMS
from ..scoring.markdown import table_of
from .ablation import by_seed, describe, differences, main_test_set, mean_and_deviation
from .bar_chart import DOTS_PER_INCH, color_of, norm_of
from .measurements import Measurement, read_measurements
from .outputs import add_output_options, check_outputs, read_table, write_outputs

BARE = ("-plain", "-warmup-only")
"""Endings of rows without the scaling that their norm has in Table 1."""
SPEED_COLUMNS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("dtype", "channels", "tokens", "padding", "candidate", "part"), str),
    "ratio": float,
    **dict.fromkeys(("kept_over_layer", "peak_over_layer"), lambda text: float(text) if text else None),
}
LABEL_OFFSETS = [
    ((x, y), side) for x, side in ((6, "left"), (-6, "right"), (6, "left")) for y in (6, -7, 0, 14, -15, 23)
]
"""Where a point's name may stand, in points from it, the best place first."""
TICKS = (0.25, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 20)
PARTS = {"both": "a training pass", "evaluation": "an evaluation"}


@dataclass(frozen=True)
class Speed:
    """A norm over ``torch.nn.LayerNorm``: the time of a training pass and of an evaluation, the bytes kept for the
    backward pass, and the most bytes of a training step."""

    both: float
    evaluation: float
    kept: float
    peak: float


def is_scaled(row: str) -> bool:
    """Whether each token is scaled in front of a row's norm."""
    name = norm_of(row)
    return name in NORMS and NORMS[name].declaration.auto_group_scaling != "0" and not row.endswith(BARE)


def folds(row: str) -> bool:
    """Whether evaluation is a fixed scale and shift per channel at the end of a training, which the linear layers
    behind take in."""
    name = norm_of(row)
    return name in NORMS and issubclass(NORMS[name], BatchStatisticsNorm) and not is_scaled(row)


def read_speed(path: Path) -> dict[str, Speed]:
    """The speeds of a CSV of ``bench_norms.py``, by candidate.

    Raises:
        ValueError: no such file, another one, or one with several sizes, types or paddings.
    """
    found: dict[str, dict[str, float]] = {}
    cases = set()
    for row in read_table(path, SPEED_COLUMNS, "benchmarks/bench_norms.py"):
        cases.add((row["dtype"], row["channels"], row["tokens"], row["padding"]))
        if row["kept_over_layer"] is not None and row["part"] in PARTS:
            values = found.setdefault(row["candidate"], {})
            values |= {row["part"]: row["ratio"], "kept": row["kept_over_layer"], "peak": row["peak_over_layer"]}
    if len(cases) != 1:
        raise ValueError(f"{path} has {len(cases)} sizes; expected one: --tokens 4096 --channels 128 --padding yes")
    return {name: Speed(**values) for name, values in found.items() if values.keys() >= PARTS.keys()}


def speed_of(row: str, speeds: Mapping[str, Speed]) -> Speed | None:
    """A row's speed by the kernels; None if it was not measured."""
    name = f"{norm_of(row)} (groups)" if is_scaled(row) else norm_of(row)
    return speeds.get(f"{name} kernels", speeds.get(name))  # torch's own LayerNorm is called by its name alone


def table_rows(measurements: Sequence[Measurement], speeds: Mapping[str, Speed], baseline: str) -> list[list[str]]:
    """The heading and one row a norm; Δ is the difference in BLEU to the baseline."""
    main = main_test_set(measurements)
    table = by_seed(measurements, main)
    heading = ["norm", "seeds", f"BLEU, {main}", "Δ", "validation loss", *PARTS.values(), "kept", "peak", "folds"]
    rows = [heading]
    to_baseline = differences(table, baseline)
    for row, seeds in table.items():
        losses = [each.validation_loss for each in measurements if each.norm == row and each.test_set == main]
        known = [loss for loss in losses if loss is not None]
        speed = speed_of(row, speeds)
        times = ["–"] * 4 if speed is None else [f"{value:.2f}" for value in vars(speed).values()]
        cells = [row, str(len(seeds)), mean_and_deviation([*seeds.values()]), describe(to_baseline[row])[0]]
        rows.append([*cells, mean_and_deviation(known, 3) if known else "–", *times, "yes" if folds(row) else "no"])
    return rows


def to_markdown(
    rows: Sequence[Sequence[str]], signature: str, baseline: str, notes: Sequence[str], command: str
) -> str:
    """The table, what its columns are, and ``notes`` on its rows."""
    lines = [
        "# Norms by quality and speed",
        "",
        *table_of(rows),
        "",
        f"- BLEU: sacreBLEU `{signature}`; ± one standard deviation over seeds. Δ: to {baseline}.",
        "- Times, and what is kept for the backward pass and taken at most: of one norm, over `torch.nn.LayerNorm`.",
        "- Folds: evaluation costs nothing, the linear layers behind take the norm in (`powernorm-fold`).",
        *(f"- {note}" for note in notes),
    ]
    return "\n".join([*lines, *([f"- Made by: `{command}`"] if command else []), ""])


def draw(measurements: Sequence[Measurement], speeds: Mapping[str, Speed], baseline: str, title: str) -> Figure:
    """The difference in BLEU to the baseline against time, a point a norm, in training and in evaluation.

    Raises:
        ValueError: no row has both.
    """
    main = main_test_set(measurements)
    table = by_seed(measurements, main)
    higher = {
        row: 0.0 if row == baseline else difference.mean
        for row, difference in differences(table, baseline).items()
        if row == baseline or difference.values
    }
    shown = {row: speed for row in higher if (speed := speed_of(row, speeds)) is not None}
    if baseline not in table or not shown:
        raise ValueError(f"no norm has both quality and speed, or no run of {baseline}; rows: {', '.join(table)}")
    figure = Figure(figsize=(11, 4.6), dpi=DOTS_PER_INCH, layout="constrained")
    for axes, (part, words) in zip(figure.subplots(1, 2, sharey=True), PARTS.items(), strict=True):
        places = {row: (getattr(speed, part), higher[row]) for row, speed in shown.items()}
        for row, (time, difference) in places.items():
            fill = "none" if row.endswith(BARE) else "full"
            axes.plot(time, difference, "o", color=color_of(row), markersize=7, fillstyle=fill)
        axes.axhline(0, color=color_of(baseline), linewidth=1, zorder=0)
        axes.set_xscale("log")
        axes.set_xlim(right=2 * max(time for time, _ in places.values()))  # room for a name
        axes.xaxis.set_major_locator(FixedLocator(TICKS))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(f"time of {words}, over torch.nn.LayerNorm")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel(f"BLEU minus {baseline}'s ({statistics.fmean(table[baseline].values()):.2f}), {main}")
    figure.suptitle(title, fontsize=11, parse_math=False)
    figure.draw_without_rendering()  # which gives the axes their size
    for axes, part in zip(figure.axes, PARTS, strict=True):
        label(axes, {row: (getattr(speed, part), higher[row]) for row, speed in shown.items()})
    return figure


def label(axes: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    """Writes the name of every point beside it, where it hides neither a point nor another name, if there is such a
    place. The axes have their limits and their size."""
    taken = [Bbox.from_bounds(x - 8, y - 8, 16, 16) for x, y in axes.transData.transform([*places.values()])]
    for row, place in places.items():
        for offset, side in LABEL_OFFSETS:
            text = axes.annotate(
                *(row, place, offset),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=8,
                parse_math=False,
                in_layout=False,
            )
            box = text.get_window_extent()
            if (not box.count_overlaps(taken) and axes.bbox.x0 < box.x0) or (offset, side) == LABEL_OFFSETS[-1]:
                break
            text.remove()
        taken.append(box)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes Markdown, CSV and PNG and prints the Markdown; see ``--help``."""
    parser = argparse.ArgumentParser(description="Norms by translation quality and speed.")
    parser.add_argument("--quality", required=True, type=Path, metavar="CSV", help="of analysis.ablation")
    parser.add_argument(
        "--speed", required=True, type=Path, metavar="CSV", help="of benchmarks/bench_norms.py, one size"
    )
    parser.add_argument("--baseline", default="layer", metavar="NORM", help="what others are compared with")
    parser.add_argument("--note", action="append", default=[], metavar="TEXT", help="below the table; repeatable")
    add_output_options(parser)
    options = parser.parse_args(arguments)
    check_outputs(options.output_prefix, options.force, "md", "csv", "png")
    measurements, speeds = read_measurements(options.quality), read_speed(options.speed)
    rows = table_rows(measurements, speeds, options.baseline)
    markdown = to_markdown(rows, measurements[0].signature, options.baseline, options.note, options.command)
    figure = draw(measurements, speeds, options.baseline, options.title)
    write_outputs(options.output_prefix, rows, figure, markdown)


if __name__ == "__main__":
    run_command_line(main)
