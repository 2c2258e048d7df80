"""The table of results as Markdown, with all that a reader needs to check or repeat it."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..norms.registry import declarations
from .bleu import BOOTSTRAP_RESAMPLES, Score, bootstrap_seed
from .protocols import STEP_DESCRIPTIONS
from .published import Published
from .rows import Row, Spread, chrf_source, rank
from .runs import Run

SHORT_NAMES = {name: norm.short_name for name, norm in declarations().items() if norm.short_name != name}


def to_markdown(
    tables: Mapping[str, Sequence[Row]],
    runs: Sequence[Run],
    baseline: str = "layer",
    command: str = "",
    published: Published | None = None,
) -> str:
    """A table per test set and, below, all that a reader needs to check or repeat it.

    Args:
        tables: the rows of each test set, from :func:`build_table`.
        runs: the runs that the rows are from.
        baseline: the norm given to :func:`build_table`.
        command: what reproduces the table; left out if empty.
        published: the figures given to :func:`build_table`; here for their source.
    """
    runs = sorted((run for run in runs if set(run.scores) & set(tables)), key=lambda run: (rank(run.norm), run.seed))
    lines = [f"# {runs[0].recipe}"]
    for test_set, rows in tables.items():
        lines += ["", f"## {test_set}", "", *table_of(cells_of(rows, baseline))]
        lines += ["", *sources_of(rows, next(run for run in runs if test_set in run.scores))]
        brackets = any(row.published_difference is not None for row in rows)
        meaning = f"; in brackets the difference to its {short(baseline)}" if brackets else ""
        lines += published_lines(rows, published, meaning)
        baseline_seeds = next((row.seeds for row in rows if row.norm == baseline), ())
        for row in rows:
            if row.shared_seeds and not row.shared_seeds == row.seeds == baseline_seeds:
                shared = ", ".join(map(str, row.shared_seeds))
                lines.append(f"- Δ and p of {row.norm} are over the seeds that {baseline} has too: {shared}.")
    lines += ["", "## How", "", *how_made(tables, runs, baseline, command)]
    return "\n".join(lines) + "\n"


def how_made(
    tables: Mapping[str, Sequence[Row]], runs: Sequence[Run], baseline: str = "layer", command: str = ""
) -> list[str]:
    """The lines that say what the figures are and where they are from; arguments as of :func:`to_markdown`."""
    lines = []
    if any(len(row.seeds) > 1 for rows in tables.values() for row in rows):
        lines.append("- ± one standard deviation of the sample over the seeds; updates and train time are means.")
    if any(row.p_values for rows in tables.values() for row in rows):
        lines.append(
            f"- p: sacreBLEU's paired bootstrap of the first BLEU, {BOOTSTRAP_RESAMPLES} resamples, seed "
            f"{bootstrap_seed()}, one for each seed: its translations against {baseline}'s of the same seed. Equal "
            "BLEU has p = 1."
        )
    if not any(row.norm == baseline for rows in tables.values() for row in rows):
        lines.append(f"- No Δ and no p, as {baseline} is not among the runs.")
    if len({row.updates for rows in tables.values() for row in rows}) > 1:
        lines.append("- The norms were trained for different numbers of updates, see the column: Δ and p include that.")
    return [*lines, *_preparation(tables, runs), *provenance_lines(runs, command)]


def cells_of(rows: Sequence[Row], baseline: str) -> list[list[str]]:
    """The table of one test set as text: the headings, then a line a norm; without columns that no row can fill."""
    own: dict[str, Callable[[Row], object]] = {"p": lambda row: write_p_values(row.p_values) or "–"}
    if any(row.published is not None for row in rows):
        own["published (not ours)"] = _published
    for protocol in rows[0].further_bleu:
        own[f"BLEU {protocol}"] = functools.partial(_further_bleu, protocol)
    if all(row.chrf is not None for row in rows):
        own["chrF2"] = lambda row: row.chrf
    return write_cells(rows, baseline, {"BLEU": lambda row: row.bleu}, own)


def write_cells(
    rows: Sequence[Any],
    baseline: str,
    score: Mapping[str, Callable[[Any], object]],
    own: Mapping[str, Callable[[Any], object]],
) -> list[list[str]]:
    """A table as text: the headings, then a line a norm.

    Args:
        rows: with ``norm``, ``difference``, ``seeds``, ``updates`` and ``train_seconds``.
        baseline: the norm that the differences are to.
        score: what to write of a row for its score, by heading.
        own: likewise for what stands between the difference and the seeds.
    """
    columns: dict[str, Callable[[Any], object]] = {
        "norm": lambda row: f"{row.norm} ({SHORT_NAMES[row.norm]})" if row.norm in SHORT_NAMES else row.norm,
        **score,
        f"Δ to {short(baseline)}": lambda row: "–" if row.difference is None else f"{row.difference:+z.2f}",
        **own,
        "seeds": lambda row: ", ".join(map(str, row.seeds)),
        "updates": lambda row: f"{row.updates:.0f}",
        "train time": lambda row: duration(row.train_seconds),
    }
    return [[*columns], *([str(write(row)) for write in columns.values()] for row in rows)]


def table_of(cells: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table, the first row above the rule."""
    heading, *rows = (f"| {' | '.join(row)} |" for row in cells)
    return [heading, "|---" * len(cells[0]) + "|", *rows]


def published_lines(rows: Sequence[Any], published: Published | None, meaning: str = "") -> list[str]:
    """Where published figures are from and what has to be said of them; none where the rows have none."""
    shown = {row.norm for row in rows if row.published is not None}
    if published is None or not shown:
        return []
    lines = [f"- published (not ours): {f'{published.source}{meaning}'.removesuffix('.')}."]
    return lines + [f"- published for {norm}: {note}." for norm, note in published.notes.items() if norm in shown]


def short(norm: str) -> str:
    """A norm's name as in the papers, or its own."""
    return SHORT_NAMES.get(norm, norm)


def _further_bleu(protocol: str, row: Row) -> Spread:
    return row.further_bleu[protocol]


def _published(row: Row) -> str:
    """With the digits that were published."""
    difference = "" if row.published_difference is None else f" ({row.published_difference:+})"
    return "–" if row.published is None else f"{row.published}{difference}"


def _shown_scores(rows: Sequence[Row], run: Run) -> dict[str, Score]:
    """A run's score for each column of BLEU, by the column's heading."""
    test_set = rows[0].test_set
    further = {f"BLEU {protocol}": run.score(test_set, protocol) for protocol in rows[0].further_bleu}
    return {"BLEU": run.score(test_set), **further}


def sources_of(rows: Sequence[Row], run: Run) -> list[str]:
    """The signature of every column of scores; all runs have the same ones."""
    lines = []
    for heading, score in _shown_scores(rows, run).items():
        protocol = f" (protocol {score.protocol})" if heading == "BLEU" and score.protocol else ""
        sentences = f", {score.sentences} sentences" if heading == "BLEU" else ""
        lines.append(f"- {heading}{protocol}: sacreBLEU `{score.signature}`{sentences}.")
    source = chrf_source(run, rows[0].test_set, tuple(rows[0].further_bleu))
    if source is not None and all(row.chrf is not None for row in rows):
        of = "" if source is run.score(rows[0].test_set) else f" ({source.protocol} text)"
        lines.append(f"- chrF2{of}: sacreBLEU `{source.chrf_signature}`.")
    return lines


def _preparation(tables: Mapping[str, Sequence[Row]], runs: Sequence[Run]) -> list[str]:
    """One line on what ``prep:`` in the signatures means; none if there is no such."""
    steps: dict[str, str] = {}
    for test_set, rows in tables.items():
        run = next(run for run in runs if test_set in run.scores)
        for score in _shown_scores(rows, run).values():
            steps |= {step: STEP_DESCRIPTIONS[step] for step in score.settings.steps}
    if not steps:
        return []
    return [f"- prep, done before sacreBLEU: {'; '.join(f'{step}: {what}' for step, what in steps.items())}."]


def write_p_values(p_values: Sequence[float]) -> str:
    """One for each seed, to three digits."""
    return ", ".join("<0.001" if p < 0.001 else f"{p:.3f}" for p in p_values)


def duration(seconds: float) -> str:
    """Two units at most: ``3 h 05 min``, ``12 min 40 s``, ``38 s``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def provenance_lines(runs: Sequence[Run], command: str) -> list[str]:
    """Commit, hardware and versions of the runs, and the command that makes the table, if it is known."""
    versions = [", ".join(f"{name} {number}" for name, number in sorted(run.versions.items())) for run in runs]
    return [
        _provenance_line("Commit", [(run, f"`{run.commit}`") for run in runs]),
        _provenance_line("Hardware", [(run, run.hardware) for run in runs]),
        _provenance_line("Versions", [*zip(runs, versions, strict=True)]),
        *([f"- Reproduce: `{command}`"] if command else []),
    ]


def _provenance_line(label: str, values: Sequence[tuple[Run, str]]) -> str:
    """One line: the value that all runs share, or each value with its runs."""
    runs_by_value: dict[str, dict[str, list[int]]] = {}
    for run, value in values:
        runs_by_value.setdefault(value, {}).setdefault(run.norm, []).append(run.seed)
    if len(runs_by_value) == 1:
        return f"- {label}: {values[0][1]}"
    listed = []
    for value, norms in runs_by_value.items():
        names = "; ".join(f"{norm} seed {', '.join(map(str, seeds))}" for norm, seeds in norms.items())
        listed.append(f"{value} ({names})")
    return f"- {label}: {', '.join(listed)}"
