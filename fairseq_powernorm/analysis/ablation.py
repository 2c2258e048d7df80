"""Which part of a norm does the work: the runs of a recipe compared over seeds, as table, CSV and chart.

    python -m fairseq_powernorm.analysis.ablation --runs runs/multi30k_de_en --output-prefix results/multi30k_ablation

A training is the unit of comparison. Two trainings that differ in nothing but their seed already differ in BLEU, and no
resampling of test sentences sees that. So every seed gives one difference to the baseline of the same seed, which has
the same batches and the same initial weights outside the norms, and a t-test says whether their mean is 0. How far
trainings scatter is estimated from all norms together, as the rest in BLEU = norm + seed + rest by least squares, and
taken to be the same for each: two or three seeds of one norm say next to nothing about it. With two norms this is the
paired t-test.

Trainings of other machines join by the CSV that they were written to: ``--with results/multi30k_ablation.csv``.
"""

import argparse
import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from ..files import run_command_line
from ..scoring.markdown import table_of
from ..scoring.rows import rank
from ..scoring.runs import read_runs
from .bar_chart import DOTS_PER_INCH, color_of
from .measurements import MEAN, Measurement, joined, measure, read_measurements
from .outputs import add_output_options, check_outputs, write_outputs

logger = logging.getLogger(__name__)

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """The differences of a norm to the baseline, one a shared seed, and the t-test of their mean.

    Attributes:
        values: by seed; empty where no seed is shared.
        interval: the confidence interval of their mean; None where trainings' scatter is not known.
        p_value: of the mean being 0; None where it is not known.
    """

    values: Mapping[int, float]
    interval: tuple[float, float] | None = None
    p_value: float | None = None

    @property
    def mean(self) -> float:
        """Over the seeds, of which there is one at least."""
        return statistics.fmean(self.values.values())


def scatter(table: Mapping[str, Mapping[int, float]]) -> tuple[float, int]:
    """The variance of the rest in BLEU = norm + seed + rest, and its degrees of freedom, 0 if nothing is left over."""
    cells = [(norm, seed, bleu) for norm, seeds in table.items() for seed, bleu in seeds.items()]
    factors = [*dict.fromkeys(norm for norm, _, _ in cells), *dict.fromkeys(seed for _, seed, _ in cells)]
    design = np.array([[factor in (norm, seed) for factor in factors] for norm, seed, _ in cells], dtype=float)
    bleu = np.array([value for _, _, value in cells])
    fitted, _, rank_of_design, _ = np.linalg.lstsq(design, bleu, rcond=None)
    freedom = len(cells) - int(rank_of_design)
    variance = ((bleu - design @ fitted) ** 2).sum() / freedom if freedom else 0.0
    return round(float(variance), 12), freedom  # what is below is the rounding of equal trainings


def differences(table: Mapping[str, Mapping[int, float]], baseline: str) -> dict[str, Difference]:
    """The differences of every norm of :func:`by_seed` to the baseline, over the seeds that both have; the baseline's
    own has no value."""
    variance, freedom = scatter(table)
    found = {}
    for norm, seeds in table.items():
        of_baseline = {} if norm == baseline else table.get(baseline, {})
        values = {seed: seeds[seed] - of_baseline[seed] for seed in sorted(seeds.keys() & of_baseline.keys())}
        found[norm] = Difference(values)
        if values and variance > 0:
            mean = found[norm].mean
            deviation = math.sqrt(2 * variance / len(values))
            low, high = stats.t.interval(CONFIDENCE, freedom, mean, deviation)
            p_value = 2 * stats.t.sf(abs(mean) / deviation, freedom)
            found[norm] = Difference(values, (float(low), float(high)), float(p_value))
    return found


def main_test_set(measurements: Sequence[Measurement]) -> str:
    """What norms are compared by: the mean of the test sets, or the only one."""
    test_sets = [each.test_set for each in measurements]
    return MEAN if MEAN in test_sets else min(test_sets)


def by_seed(measurements: Sequence[Measurement], test_set: str) -> dict[str, dict[int, float]]:
    """BLEU on one test set by norm and seed."""
    table: dict[str, dict[int, float]] = {}
    for each in measurements:
        if each.test_set == test_set:
            table.setdefault(each.norm, {})[each.seed] = each.bleu
    return table


def mean_and_deviation(values: Sequence[float], digits: int = 2) -> str:
    """``34.33 ± 0.12``: the mean, and the standard deviation of the sample (n - 1) where there are several."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{deviation}"


def describe(difference: Difference) -> tuple[str, str]:
    """The mean difference with its interval, and p, as cells of a table."""
    if not difference.values:
        return "–", "–"
    mean = f"{difference.mean:+z.2f}"
    if difference.interval is None or difference.p_value is None:
        return mean, "–"
    low, high = difference.interval
    p_value = "<0.001" if difference.p_value < 0.001 else f"{difference.p_value:.3f}"
    return f"{mean} [{low:+z.2f}, {high:+z.2f}]", p_value


def to_markdown(measurements: Sequence[Measurement], recipe: str, baseline: str, command: str) -> str:
    """The table over seeds, one row a norm, and what a reader needs to repeat it."""
    test_sets = list(dict.fromkeys(each.test_set for each in measurements))
    main = main_test_set(measurements)
    tables = {test_set: by_seed(measurements, test_set) for test_set in test_sets}
    shown = [main, *(test_set for test_set in test_sets if test_set != main)]
    header = ["norm", "seeds", f"BLEU, {main}", f"Δ to {baseline}", "p", "validation loss", *shown[1:]]
    rows = []
    to_baseline = differences(tables[main], baseline)
    for norm, seeds in tables[main].items():
        trainings = [each for each in measurements if each.norm == norm and each.test_set == main]
        losses = [each.validation_loss for each in trainings if each.validation_loss is not None]
        row = [
            norm,
            ", ".join(map(str, seeds)),
            mean_and_deviation([*seeds.values()]),
            *describe(to_baseline[norm]),
            mean_and_deviation(losses, 3) if len(losses) == len(trainings) else "–",
            *(mean_and_deviation([*tables[test_set][norm].values()]) for test_set in shown[1:]),
        ]
        rows.append(row)
    lines = [
        f"# {recipe}: norms over seeds",
        "",
        *table_of([header, *rows]),
        "",
        f"- BLEU: sacreBLEU `{measurements[0].signature}`; ± one standard deviation of the sample over the seeds.",
        f"- Δ: mean over the seeds of the difference to {baseline} of the same seed, its {CONFIDENCE:.0%} interval; "
        "p: t-test of it. A training is the unit: sentences are not resampled. How far trainings scatter is estimated "
        "from all norms with several seeds, as what is left of BLEU = norm + seed + rest. Not corrected for how many "
        "norms there are.",
        "- Validation loss: the last one of each training, by token, base 2.",
        f"- Commit: {_by_value(measurements, 'commit', '`')}. Hardware: {_by_value(measurements, 'hardware')}.",
    ]
    return "\n".join([*lines, *([f"- Reproduce: `{command}`"] if command else []), ""])


def _by_value(measurements: Sequence[Measurement], name: str, quote: str = "") -> str:
    """The value of a field, or each value with its norms and seeds."""
    trainings: dict[str, dict[str, dict[int, None]]] = {}
    for each in measurements:
        norms = trainings.setdefault(f"{quote}{getattr(each, name)}{quote}", {})
        norms.setdefault(each.norm, {})[each.seed] = None
    if len(trainings) == 1:
        return next(iter(trainings))
    described = []
    for value, norms in trainings.items():
        rows = (f"{norm} seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" for norm, seeds in norms.items())
        described.append(f"{value} ({'; '.join(rows)})")
    return ", ".join(described)


def draw(measurements: Sequence[Measurement], baseline: str, title: str) -> Figure:
    """The difference of every norm to the baseline: a point a seed, their mean, and its interval.

    Raises:
        ValueError: no run of the baseline.
    """
    main = main_test_set(measurements)
    table = by_seed(measurements, main)
    if baseline not in table:
        raise ValueError(f"no run of the baseline {baseline}; there are: {', '.join(table)}")
    to_baseline = differences(table, baseline)
    norms = [norm for norm in table if norm != baseline]
    figure = Figure(figsize=(7.0, 0.42 * len(norms) + 1.3), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=color_of(baseline), linewidth=2, zorder=0)
    for place, norm in enumerate(norms):
        difference = to_baseline[norm]
        values = [*difference.values.values()]
        if not values:
            continue
        mean, color = difference.mean, color_of(norm)
        if difference.interval is not None:
            low, high = difference.interval
            axes.errorbar(mean, place, xerr=[[mean - low], [high - mean]], color=color, linewidth=1.2, capsize=4)
        axes.plot(values, [place] * len(values), "o", color=color, alpha=0.5, markersize=5)
        axes.plot(mean, place, "|", color=color, markersize=18, markeredgewidth=3)
    axes.set_yticks(range(len(norms)), norms, parse_math=False)
    axes.set_ylim(len(norms) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    bleu = statistics.fmean(table[baseline].values())
    known = any(difference.interval is not None for difference in to_baseline.values())
    legend = f"\npoints: seeds; lines: {CONFIDENCE:.0%} interval of their mean" if known else ""
    axes.set_xlabel(f"BLEU minus {baseline}'s ({bleu:.2f}), {main}{legend}")
    if title:
        axes.set_title(title, fontsize=11, parse_math=False)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes Markdown, CSV and PNG and prints the Markdown; see ``--help``."""
    parser = argparse.ArgumentParser(description="The runs of a recipe compared over seeds.")
    parser.add_argument("--runs", required=True, type=Path, help="folder of one recipe, e.g. runs/multi30k_de_en")
    parser.add_argument("--baseline", default="layer", metavar="NORM", help="what others are compared with")
    parser.add_argument("--with", type=Path, metavar="CSV", dest="others", help="an earlier table of other trainings")
    add_output_options(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    check_outputs(options.output_prefix, options.force, "md", "csv", "png")
    runs = sorted(read_runs(options.runs), key=lambda run: (rank(run.norm), run.seed))
    measurements = measure(runs)
    if options.others is not None:
        measurements = joined(measurements, read_measurements(options.others))
    figure = draw(measurements, options.baseline, options.title)
    markdown = to_markdown(measurements, runs[0].recipe, options.baseline, options.command)
    rows = [[each.name for each in fields(Measurement)], *map(astuple, measurements)]
    write_outputs(options.output_prefix, rows, figure, markdown)


if __name__ == "__main__":
    run_command_line(main)
