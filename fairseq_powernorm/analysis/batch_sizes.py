"""BLEU by norm and by the tokens that a batch statistic is taken over, from a table of ``scoring.table`` for each size.

    python -m fairseq_powernorm.analysis.batch_sizes --output-prefix results/sizes 4096=a/table.csv 512=b/table.csv

``scripts/batch_size_study.sh`` makes the tables.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from ..files import run_command_line
from ..scoring.markdown import table_of
from .bar_chart import DOTS_PER_INCH, Bar, color_of, read_bars
from .outputs import add_output_options, check_outputs, write_outputs

logger = logging.getLogger(__name__)

Sizes = Mapping[int, Sequence[Bar]]
"""The bars of each table, by tokens a pass."""


def read_tables(arguments: Sequence[str]) -> dict[int, list[Bar]]:
    """Reads ``TOKENS=TABLE.csv`` arguments, the largest number of tokens first.

    Raises:
        ValueError: an argument of another form, a number twice, or tables of different norms or test sets.
    """
    tables: dict[int, list[Bar]] = {}
    for argument in arguments:
        tokens, _, path = argument.partition("=")
        if not tokens.isdecimal() or int(tokens) < 1 or not path:
            raise ValueError(f"expected TOKENS=TABLE.csv, got {argument}")
        if int(tokens) in tables:
            raise ValueError(f"{tokens} tokens are given twice")
        tables[int(tokens)] = read_bars(path)
    first = next(iter(tables.values()))
    for number, bars in tables.items():
        if [(bar.test_set, bar.norm) for bar in bars] != [(bar.test_set, bar.norm) for bar in first]:
            raise ValueError(f"the table of {number} tokens has other norms or test sets than the first one")
    return dict(sorted(tables.items(), reverse=True))


def to_markdown(sizes: Sizes, title: str, command: str) -> str:
    """A table for each test set: a row a norm, a column a number of tokens."""
    bars = next(iter(sizes.values()))
    lines = [f"# {title}: BLEU by tokens a pass", ""]
    lines.append("Every update has the same tokens; a pass is what a batch statistic is taken over.")
    for test_set in dict.fromkeys(bar.test_set for bar in bars):
        shown = [place for place, bar in enumerate(bars) if bar.test_set == test_set]
        rows = [[bars[place].norm, *(table[place].text for table in sizes.values())] for place in shown]
        lines += ["", f"## {test_set}", "", *table_of([["norm", *map(str, sizes)], *rows])]
    lines += ["", "Signatures, commit, hardware and versions: the tables of the single sizes."]
    return "\n".join([*lines, *([f"Reproduce: `{command}`"] if command else []), ""])


def draw(sizes: Sizes, title: str) -> Figure:
    """A panel for each test set: BLEU over tokens a pass, a line a norm."""
    bars = next(iter(sizes.values()))
    test_sets = list(dict.fromkeys(bar.test_set for bar in bars))
    figure = Figure(figsize=(6.5, 3.4 * len(test_sets)), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(len(test_sets), squeeze=False)[:, 0]
    for panel, test_set in zip(axes, test_sets, strict=True):
        for place, bar in enumerate(bars):
            if bar.test_set == test_set:
                points = [table[place] for table in sizes.values()]
                panel.errorbar(
                    list(sizes),
                    [point.bleu for point in points],
                    yerr=[point.standard_deviation or 0.0 for point in points],
                    marker="o",
                    capsize=3,
                    color=color_of(bar.norm),
                    label=bar.norm,
                )
        panel.set_xscale("log", base=2)
        panel.set_xticks(list(sizes), [str(tokens) for tokens in sizes])
        panel.set_title(test_set, loc="left", fontsize=10, fontweight="bold", parse_math=False)
        panel.set_ylabel("BLEU")
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    axes[-1].set_xlabel("tokens a pass; every update has the same")
    figure.suptitle(title, fontsize=12, parse_math=False)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the table and the chart; see ``--help``."""
    parser = argparse.ArgumentParser(description="BLEU by norm and tokens a pass.")
    parser.add_argument("tables", nargs="+", metavar="TOKENS=TABLE.csv", help="the CSV of scoring.table for each size")
    add_output_options(parser, title="batch sizes")
    options = parser.parse_args(arguments)
    check_outputs(options.output_prefix, options.force, "md", "csv", "png")
    sizes = read_tables(options.tables)
    markdown = to_markdown(sizes, options.title, options.command)
    rows: list[list] = [["test_set", "norm", "tokens", "bleu_mean", "bleu_standard_deviation"]]
    for tokens, bars in sizes.items():
        rows += [[bar.test_set, bar.norm, tokens, bar.bleu, bar.standard_deviation] for bar in bars]
    write_outputs(options.output_prefix, rows, draw(sizes, options.title), markdown)


if __name__ == "__main__":
    run_command_line(main)
