"""BLEU by norm as horizontal bars, one panel per test set, from the CSV of ``scoring.table``.

python -m fairseq_powernorm.analysis.bar_chart --table results/NAME.csv --output results/NAME.png --title "..."
"""

import argparse
import logging
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ..files import atomic_write, refuse_to_overwrite, run_command_line
from ..initialization.schemes import SCHEMES
from ..norms.registry import declarations
from .outputs import read_table

logger = logging.getLogger(__name__)

COLORS = {name: declared.color for name, declared in declarations().items()}
HUES = (0, 2, 4, 6, 8, 10, 12, 16, 18)
"""Matplotlib's ``tab20`` without grey, which is LayerNorm's; each has a lighter one beside it."""
OTHER_COLOR = "#661100"
DOTS_PER_INCH = 150


def norm_of(row: str) -> str:
    """The norm of a row's name: ``power`` of ``power-plain``; ``row`` itself where no norm begins so."""
    name = row
    while name not in COLORS and "-" in name:
        name = name.rpartition("-")[0]
    return name if name in COLORS else row


def color_of(norm: str) -> str:
    """The colour of a row's name in a chart: a norm's; of a variant such as ``power-plain`` that of its norm; an
    initialization's, also where a norm stands before it."""
    init = norm.rpartition("+")[2]
    if init in SCHEMES:
        lighter, place = divmod(list(SCHEMES).index(init), len(HUES))
        return to_hex(colormaps["tab20"](HUES[place] + lighter))
    return COLORS.get(norm_of(norm), OTHER_COLOR)


@dataclass(frozen=True)
class Bar:
    """One norm on one test set; ``standard_deviation`` is None for a single seed."""

    test_set: str
    norm: str
    bleu: float
    standard_deviation: float | None

    @property
    def text(self) -> str:
        """BLEU as it stands in tables and beside the bar."""
        return f"{self.bleu:.2f}" + ("" if self.standard_deviation is None else f" ± {self.standard_deviation:.2f}")

    @property
    def upper(self) -> float:
        """Where the bar ends, its error bar included."""
        return self.bleu + (self.standard_deviation or 0.0)


def finite(text: str) -> float:
    """A number.

    Raises:
        ValueError: none, or one that is not finite.
    """
    if not math.isfinite(value := float(text)):
        raise ValueError(f"expected a finite number, got {text}")
    return value


COLUMNS: dict[str, Callable[[str], Any]] = {  # what is drawn; the CSV has more
    "test_set": str,
    "norm": str,
    "bleu_mean": finite,
    "bleu_standard_deviation": lambda text: finite(text) if text != "" else None,
}


def read_bars(path: str | Path) -> list[Bar]:
    """The bars in the order of the table's rows; raises as :func:`~.outputs.read_table`."""
    rows = read_table(path, COLUMNS, "scoring.table")
    return [Bar(*(row[name] for name in COLUMNS)) for row in rows]


def draw(bars: Sequence[Bar], title: str = "") -> Figure:
    """A figure with one panel per test set; all panels share the axis of BLEU.

    Args:
        bars: at least one.
        title: of the whole figure.
    """
    panels: dict[str, list[Bar]] = {}
    for bar in bars:
        panels.setdefault(bar.test_set, []).append(bar)
    rows = [len(panel) for panel in panels.values()]
    figure = Figure(figsize=(7.0, 0.42 * sum(rows) + 0.55 * len(panels) + 1.0), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(len(panels), sharex=True, squeeze=False, gridspec_kw={"height_ratios": rows})[:, 0]
    for panel_axes, (test_set, panel) in zip(axes, panels.items(), strict=True):
        _draw_panel(panel_axes, panel)
        panel_axes.set_title(test_set, loc="left", fontsize=10, fontweight="bold", parse_math=False)
    axes[0].set_xlim(0, max(bar.upper for bar in bars) * 1.22 or 1.0)  # room for the values
    several = any(bar.standard_deviation is not None for bar in bars)
    axes[-1].set_xlabel("BLEU; error bars: ± one standard deviation over seeds" if several else "BLEU")
    if title:
        figure.suptitle(title, fontsize=12, parse_math=False)
    return figure


def _draw_panel(axes: Axes, bars: Sequence[Bar]) -> None:
    """Bars from top to bottom with their values beside them."""
    for place, bar in enumerate(bars):
        axes.barh(place, bar.bleu, height=0.72, color=color_of(bar.norm))
        if bar.standard_deviation is not None:
            axes.errorbar(bar.bleu, place, xerr=bar.standard_deviation, color="black", linewidth=1.2, capsize=4)
        axes.annotate(bar.text, (bar.upper, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(bars)), [bar.norm for bar in bars], parse_math=False)
    axes.set_ylim(len(bars) - 0.4, -0.6)  # the first row on top
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes one PNG; see ``--help``."""
    parser = argparse.ArgumentParser(description="BLEU by norm as bars, from the CSV of scoring.table.")
    parser.add_argument("--table", required=True, type=Path, help="CSV written by fairseq_powernorm.scoring.table")
    parser.add_argument("--output", required=True, type=Path, help="the figure, a .png")
    parser.add_argument("--title", default="", help="above the bars")
    parser.add_argument("--force", action="store_true", help="replace --output if it exists")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logger.info("arguments: %s", shlex.join(sys.argv[1:] if arguments is None else arguments))
    if options.output.suffix != ".png":
        raise ValueError(f"--output is {options.output}, expected a name that ends in .png")
    refuse_to_overwrite(options.output, options.force)
    figure = draw(read_bars(options.table), options.title)
    with atomic_write(options.output, "wb") as stream:
        figure.savefig(stream, format="png")


if __name__ == "__main__":
    run_command_line(main)
