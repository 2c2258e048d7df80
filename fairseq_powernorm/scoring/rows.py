"""The rows of the table of results: BLEU by norm over the seeds of one recipe, with significance."""

import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..files import read_lines, read_parallel_lines
from ..norms.registry import available_norms
from .bleu import Score, paired_bootstrap
from .protocols import PROTOCOLS
from .published import Published
from .runs import Run

logger = logging.getLogger(__name__)

NORM_ORDER = available_norms()  # others, variants of configs/norm for example, follow by name


@dataclass(frozen=True)
class Spread:
    """A score over seeds: the mean, and the standard deviation of the sample (n - 1), None for one seed."""

    mean: float
    standard_deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of at least one value."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)

    def __str__(self) -> str:
        """Mean ± deviation."""
        return f"{self.mean:.2f}" + ("" if self.standard_deviation is None else f" ± {self.standard_deviation:.2f}")


@dataclass(frozen=True)
class Row:
    """One norm on one test set.

    Attributes:
        test_set: the test set's name.
        norm: the norm's name.
        seeds: of all its runs, ascending.
        bleu: BLEU over ``seeds``.
        difference: mean BLEU minus the baseline's, both over ``shared_seeds``; None for the baseline or without one.
        shared_seeds: the seeds that the baseline has too.
        p_values: of the paired bootstrap, one for each of ``shared_seeds``.
        updates: mean number of optimizer updates.
        train_seconds: mean training time.
        protocol: of ``bleu``; None for settings that no protocol has.
        further_bleu: BLEU over ``seeds`` by each further protocol that all runs of the test set have.
        chrf: chrF2 over ``seeds`` of the detokenised text, from :func:`chrf_source`; None where no score is of that.
        published: what others published for the norm; None without.
        published_difference: ``published`` minus what they published for the baseline; None as ``difference``.
    """

    test_set: str
    norm: str
    seeds: tuple[int, ...]
    bleu: Spread
    difference: float | None
    shared_seeds: tuple[int, ...]
    p_values: tuple[float, ...]
    updates: float
    train_seconds: float
    protocol: str | None
    further_bleu: Mapping[str, Spread]
    chrf: Spread | None
    published: Decimal | None
    published_difference: Decimal | None


def build_table(
    runs: Sequence[Run], test_set: str, baseline: str = "layer", published: Published | None = None
) -> list[Row]:
    """One row per norm for one test set, in the order of ``NORM_ORDER``.

    Args:
        runs: the runs of one recipe; those without the test set are left out with a warning.
        test_set: the test set's name.
        baseline: the norm that others are compared with.
        published: figures of others; left out if they are of another test set.

    Raises:
        ValueError: no run has the test set, runs are not comparable (reference, signature), or a ``score.json`` does
            not belong to its ``hypothesis.txt``.
    """
    norms = runs_by_norm(runs, test_set)
    scored = [run for seeds in norms.values() for run in seeds.values()]
    further = _shared_protocols(scored, test_set)
    for protocol in (None, *further):
        check_comparable(scored, test_set, protocol)
    if published is not None and published.test_set != test_set:
        published = None
    for norm in published.bleu if published is not None else ():
        if norm not in norms:
            logger.warning("the published figure of %s is left out: no run of it on %s", norm, test_set)
    if baseline not in norms:
        logger.warning("no run of the baseline %s on %s: no differences, no p-values", baseline, test_set)
    p_values = {
        seed: p_values_of({norm: runs[seed] for norm, runs in norms.items() if seed in runs}, test_set, baseline)
        for seed in norms.get(baseline, {})
    }
    return [_row(norm, norms, test_set, baseline, p_values, further, published) for norm in norms]


def runs_by_norm(runs: Sequence[Run], test_set: str) -> dict[str, dict[int, Run]]:
    """The runs that are scored on a test set, by norm and seed, in the order of tables.

    Raises:
        ValueError: none is.
    """
    norms: dict[str, dict[int, Run]] = {}
    for run in sorted(runs, key=lambda run: (rank(run.norm), run.seed)):
        if test_set in run.scores:
            norms.setdefault(run.norm, {})[run.seed] = run
        else:
            logger.warning("%s is left out of the table: not scored on %s", run.folder, test_set)
    if not norms:
        known = sorted({name for run in runs for name in run.scores})
        raise ValueError(f"no run has test set {test_set!r}; there are: {', '.join(known) or 'none'}")
    return norms


def _row(
    norm: str,
    norms: Mapping[str, Mapping[int, Run]],
    test_set: str,
    baseline: str,
    p_values: Mapping[int, Mapping],
    further: Sequence[str],
    published: Published | None,
) -> Row:
    seeds = norms[norm]
    bleu = {seed: run.scores[test_set].bleu for seed, run in seeds.items()}
    shared = () if norm == baseline else tuple(seed for seed in seeds if seed in norms.get(baseline, {}))
    differences = [bleu[seed] - norms[baseline][seed].scores[test_set].bleu for seed in shared]
    if norm != baseline and baseline in norms and not shared:
        logger.warning("%s and %s share no seed on %s: no difference, no p-value", norm, baseline, test_set)
    sources = [chrf_source(run, test_set, further) for run in seeds.values()]
    chrf = [source.chrf for source in sources if source is not None and source.chrf is not None]
    return Row(
        test_set=test_set,
        norm=norm,
        seeds=tuple(seeds),
        bleu=Spread.of([*bleu.values()]),
        difference=statistics.fmean(differences) if differences else None,
        shared_seeds=shared,
        p_values=tuple(p_values[seed][norm] for seed in shared),
        updates=statistics.fmean(run.updates for run in seeds.values()),
        train_seconds=statistics.fmean(run.train_seconds for run in seeds.values()),
        protocol=next(iter(seeds.values())).score(test_set).protocol,
        further_bleu={
            protocol: Spread.of([run.score(test_set, protocol).bleu for run in seeds.values()]) for protocol in further
        },
        chrf=Spread.of(chrf) if len(chrf) == len(seeds) else None,
        published=None if published is None else published.bleu.get(norm),
        published_difference=None if published is None else published.difference(norm, baseline),
    )


def chrf_source(run: Run, test_set: str, further: Sequence[str]) -> Score | None:
    """The score whose chrF a table shows: by the main protocol if that is of detokenised text, else a further one's.

    Settings that no protocol has are passed over: nobody knows what text they are of.
    """
    scores = (run.score(test_set, protocol) for protocol in (None, *further))
    return next((score for score in scores if score.protocol is not None and score.chrf is not None), None)


def _shared_protocols(runs: Sequence[Run], test_set: str) -> list[str]:
    """The further protocols that every run is scored by on the test set, in the order of ``PROTOCOLS``."""
    scored = {
        protocol: [run for run in runs if protocol in run.further_scores.get(test_set, {})] for protocol in PROTOCOLS
    }
    for protocol, with_protocol in scored.items():
        if 0 < len(with_protocol) < len(runs):
            lacking = next(run for run in runs if run not in with_protocol)
            file = lacking.folder / test_set / f"score.{protocol}.json"
            logger.warning("BLEU %s on %s is left out: not every run has it; no %s", protocol, test_set, file)
    return [protocol for protocol, with_protocol in scored.items() if len(with_protocol) == len(runs)]


def p_values_of(runs: Mapping[str, Run], test_set: str, baseline: str) -> dict[str, float]:
    """p-values of runs on one test set, by name (a norm's, of one seed), against the run named ``baseline``.

    Raises:
        ValueError: a ``score.json`` does not belong to its ``hypothesis.txt``.
    """
    order = [baseline, *(norm for norm in runs if norm != baseline)]
    if len(order) == 1:
        return {}
    lines = {}
    for norm in order:
        folder = runs[norm].folder / test_set
        lines[norm], reference = read_parallel_lines(folder / "hypothesis.txt", folder / "reference.txt")
    results = paired_bootstrap(lines, reference, runs[baseline].scores[test_set].signature)
    for norm, result in results.items():
        path, recorded = runs[norm].folder / test_set / "score.json", runs[norm].scores[test_set].bleu
        if abs(result.bleu - recorded) > 1e-6:
            raise ValueError(f"{path}: BLEU {recorded}, but its hypothesis.txt has {result.bleu}; score it again")
    return {norm: p_value for norm in order[1:] if (p_value := results[norm].p_value) is not None}


def check_comparable(runs: Sequence[Run], test_set: str, protocol: str | None) -> None:
    """Raises ``ValueError`` unless all runs have the same reference and the same score settings by a protocol."""
    first = runs[0]
    reference = read_lines(first.reference_path(test_set, protocol))
    for run in runs[1:]:
        ours, theirs = run.score(test_set, protocol).signature, first.score(test_set, protocol).signature
        if ours != theirs:
            raise ValueError(f"{test_set} is scored in two ways: {first.folder} has {theirs}, {run.folder} has {ours}")
        if read_lines(run.reference_path(test_set, protocol)) != reference:
            raise ValueError(f"{test_set}: the references in {first.folder} and {run.folder} differ")


def rank(norm: str) -> tuple[int, str]:
    """Where a norm stands in tables, as a key to sort by."""
    return (NORM_ORDER.index(norm) if norm in NORM_ORDER else len(NORM_ORDER), norm)
