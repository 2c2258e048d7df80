"""Training and validation loss of a recipe's runs by update, from fairseq-train's logs: a CSV and a chart.

    python -m fairseq_powernorm.analysis.curves --runs runs/iwslt14_de_en --output-prefix results/iwslt14_de_en_curves

Reads ``NORM/seedN/train.log`` (``--log-format json``), of runs that are still under way too. What a restart has done
again counts once, as it was done last.
"""

import argparse
import json
import logging
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from matplotlib.figure import Figure

from ..files import read_lines, run_command_line
from ..initialization.schemes import SCHEMES
from ..scoring.rows import rank
from ..scoring.runs import run_folders
from .bar_chart import COLORS, DOTS_PER_INCH, color_of
from .outputs import check_outputs, write_outputs

logger = logging.getLogger(__name__)

Curves = Mapping[tuple[str, int], Sequence[tuple[int, float]]]
"""(updates, value) of every run, by norm and seed."""

LINE = re.compile(r"\| INFO \| (train_inner|valid) \| (\{.*\})$")
KINDS = {"train_inner": "train", "valid": "valid"}
BASELINE = "layer"
SHOWN_SHARE = 0.8  # of the values, the smaller ones, that a panel has to show: losses begin high
FEW_POINTS = 12  # of a curve: then all are shown
DASHES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Point:
    """What fairseq logged at one update.

    Attributes:
        norm: by the run's folder.
        seed: likewise.
        kind: ``train``, a mean over the updates since the point before, or ``valid``.
        updates: optimizer updates so far.
        loss: label-smoothed cross-entropy by token, base 2; a language model's is not smoothed.
        nll_loss: cross-entropy by token, base 2.
        learning_rate: of the update; None for ``valid``.
        gradient_norm: before clipping; None for ``valid``.
        loss_scale: under ``--fp16`` and ``--amp``; None elsewhere.
        seconds: since the training was started, or started again; None for ``valid``.
    """

    norm: str
    seed: int
    kind: str
    updates: int
    loss: float
    nll_loss: float
    learning_rate: float | None
    gradient_norm: float | None
    loss_scale: float | None
    seconds: float | None


def read_log(path: Path, norm: str, seed: int) -> list[Point]:
    """The points of one run, by kind and update. Those of an attempt that was given up go with its updates: where a
    training starts again, or goes on from an earlier checkpoint, what was logged beyond is forgotten.

    Raises:
        ValueError: a line of statistics is not what fairseq writes; names file and line.
    """
    points: dict[tuple[str, int], Point] = {}
    latest: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        found = LINE.search(line)
        if not found:
            continue
        prefix = "valid_" if found[1] == "valid" else ""
        try:
            values = json.loads(found[2])
            point = Point(
                norm=norm,
                seed=seed,
                kind=KINDS[found[1]],
                updates=int(values[f"{prefix}num_updates"]),
                loss=float(values[f"{prefix}loss"]),
                nll_loss=float(values.get(f"{prefix}nll_loss", values[f"{prefix}loss"])),
                **{
                    name: float(values[key]) if key in values else None
                    for name, key in {
                        "learning_rate": "lr",
                        "gradient_norm": "gnorm",
                        "loss_scale": "loss_scale",
                        "seconds": "wall",
                    }.items()
                },
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: not fairseq's statistics ({error!r})") from None
        if point.updates < latest.get(point.kind, 0):
            points = {key: value for key, value in points.items() if value.updates <= point.updates}
        latest[point.kind] = point.updates
        points[point.kind, point.updates] = point
    return [points[key] for key in sorted(points)]


def read_runs(folder: Path) -> list[Point]:
    """The points of all runs below a recipe's folder, ordered by norm and seed.

    Raises:
        ValueError: no such folder, or no log with statistics in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder of runs")
    points: list[Point] = []
    logs = [path / "train.log" for path in run_folders(folder) if (path / "train.log").is_file()]
    for path in sorted(logs, key=lambda path: (*rank(path.parents[1].name), path)):
        found = read_log(path, path.parents[1].name, int(path.parent.name.removeprefix("seed")))
        if not found:
            logger.warning("%s is left out: no statistics in it (--log-format json writes them)", path)
        points += found
    if not points:
        raise ValueError(f"{folder}: no NORM/seedN/train.log with statistics")
    return points


def curves_of(points: Sequence[Point], kind: str, value: str) -> dict[tuple[str, int], list[tuple[int, float]]]:
    """(updates, value) by norm and seed, where the value is there; NaN and inf stay."""
    curves: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for point in points:
        if point.kind == kind and (found := getattr(point, value)) is not None:
            curves.setdefault((point.norm, point.seed), []).append((point.updates, found))
    return curves


def differences(curves: Curves) -> dict[tuple[str, int], list[tuple[int, float]]]:
    """Each curve minus that of :data:`BASELINE` with the same seed, at the updates that both have."""
    found = {}
    for (norm, seed), curve in curves.items():
        baseline = dict(curves.get((BASELINE, seed), ()))
        if norm != BASELINE and (shared := [(at, value - baseline[at]) for at, value in curve if at in baseline]):
            found[norm, seed] = shared
    return found


def limits(curves: Curves, share: float = SHOWN_SHARE) -> tuple[float, float] | None:
    """The axis that shows the end of every curve and a share of all values; None without a finite value."""
    values = sorted(value for curve in curves.values() for _, value in curve if math.isfinite(value))
    if not values:
        return None
    ends = [curve[-1][1] for curve in curves.values() if math.isfinite(curve[-1][1])]
    if max(map(len, curves.values())) < FEW_POINTS:
        share = 1.0
    top = max(values[math.ceil(share * len(values)) - 1], *ends, values[0])
    room = 0.05 * (top - values[0]) or 0.5
    return values[0] - room, top + room


def draw(points: Sequence[Point], title: str) -> Figure:
    """Validation loss, what it is above LayerNorm's, training loss and the gradient's norm, of what there is; a colour
    a norm, a line a seed."""
    norms = list(dict.fromkeys(point.norm for point in points))
    others = [norm for norm in norms if norm not in COLORS and norm not in SCHEMES]
    valid = curves_of(points, "valid", "loss")
    panels = {
        "validation loss": valid,
        f"validation loss minus that of {BASELINE}": differences(valid),
        "training loss": curves_of(points, "train", "loss"),
        "norm of the gradient": curves_of(points, "train", "gradient_norm"),
    }
    panels = {heading: curves for heading, curves in panels.items() if curves}
    rows = math.ceil(len(panels) / 2)
    figure = Figure(figsize=(11, 3.75 * rows), dpi=DOTS_PER_INCH, layout="constrained")
    lines = {}
    for place, (heading, curves) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, min(2, len(panels)), place)
        for (norm, seed), curve in curves.items():
            dashes = DASHES[(others.index(norm) + 1) % len(DASHES)] if norm in others else "-"
            color = color_of(norm)
            (lines[norm],) = axes.plot(*zip(*curve, strict=True), color=color, linestyle=dashes, linewidth=1.2)
            if bad := [updates for updates, value in curve if not math.isfinite(value)]:
                logger.warning("%s seed %d: %s is not finite at update %d", norm, seed, heading, bad[0])
        values = [value for curve in curves.values() for _, value in curve if 0 < value < math.inf]
        if heading.startswith("norm") and values and max(values) > 10 * min(values):
            axes.set_yscale("log")
        elif (shown := limits(curves, SHOWN_SHARE if heading.endswith("loss") else 1.0)) is not None:
            axes.set_ylim(shown)
        axes.set_title(heading, loc="left", fontsize=10, fontweight="bold")
        axes.set_xlabel("updates")
        axes.grid(alpha=0.3, which="both")
        axes.spines[["top", "right"]].set_visible(False)
    drawn = [norm for norm in norms if norm in lines]
    figure.legend([lines[norm] for norm in drawn], drawn, frameon=False, loc="outside right center")
    figure.suptitle(title, fontsize=12, parse_math=False)
    return figure


def summary(points: Sequence[Point]) -> list[str]:
    """A line a norm: the mean over its seeds of the last validation loss."""
    lines = []
    for norm in dict.fromkeys(point.norm for point in points):
        curves = [curve for (name, _), curve in curves_of(points, "valid", "loss").items() if name == norm]
        if curves:
            losses = [curve[-1][1] for curve in curves]
            updates = " ".join(str(curve[-1][0]) for curve in curves)
            lines.append(f"{norm}: validation loss {statistics.fmean(losses):.3f} after {updates} updates")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the CSV and the chart; see ``--help``."""
    parser = argparse.ArgumentParser(description="Training and validation loss by update, of a recipe's runs.")
    parser.add_argument("--runs", required=True, type=Path, help="folder of one recipe, e.g. runs/iwslt14_de_en")
    parser.add_argument("--output-prefix", required=True, help="writes PREFIX.csv and PREFIX.png")
    parser.add_argument("--title", default="", help="above the chart")
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    check_outputs(options.output_prefix, options.force, "csv", "png")
    points = read_runs(options.runs)
    rows = [[each.name for each in fields(Point)], *map(astuple, points)]
    write_outputs(options.output_prefix, rows, draw(points, options.title))
    for line in summary(points):
        logger.info("%s", line)


if __name__ == "__main__":
    run_command_line(main)
