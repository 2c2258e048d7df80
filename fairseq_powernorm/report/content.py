"""What a report shows, read from the folders of a recipe's runs, as plain values."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..files import read_lines
from ..scoring.bleu import sentence_chrf
from ..scoring.markdown import SHORT_NAMES, cells_of, how_made, sources_of
from ..scoring.rows import build_table, rank
from ..scoring.runs import Run, load_config, read_runs

logger = logging.getLogger(__name__)

UNIMPORTANT = ("hydra", "runs", "seed", "train.seed", "norm.name")
"""Sections and keys of a configuration that differ between any two runs, or say nothing about them."""


@dataclass(frozen=True)
class Table:
    """The scores of one test set.

    Attributes:
        test_set: its name.
        heading: of the columns.
        rows: a line of cells a norm.
        notes: signatures.
    """

    test_set: str
    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


@dataclass(frozen=True)
class Translations:
    """The translations of one test set, side by side.

    Attributes:
        test_set: its name.
        source: the sentences that were translated, as they were before any preparation; None if they are not there.
        reference: of the test set.
        hypotheses: of every norm, by its label.
        scores: sentence-level chrF2 of each hypothesis, 0 to 100, by the same labels.
    """

    test_set: str
    source: Sequence[str] | None
    reference: Sequence[str]
    hypotheses: Mapping[str, Sequence[str]]
    scores: Mapping[str, Sequence[float]]

    def as_json(self) -> dict[str, Any]:
        """As the page reads it."""
        return {
            "source": self.source,
            "reference": self.reference,
            "hypotheses": dict(self.hypotheses),
            "scores": {label: [round(score, 1) for score in scores] for label, scores in self.scores.items()},
        }


@dataclass(frozen=True)
class Content:
    """All that a report shows.

    Attributes:
        recipe: its name.
        tables: the scores, a table a test set.
        translations: likewise, of the first seed of each norm.
        settings: those in which runs differ: the key, and its value for each of ``labels``.
        labels: of the runs, norm and seed.
        how: lines on what the figures are and where they are from.
    """

    recipe: str
    tables: Sequence[Table]
    translations: Sequence[Translations]
    labels: Sequence[str]
    settings: Sequence[tuple[str, Sequence[str]]]
    how: Sequence[str]


def read_content(folder: Path, baseline: str, command: str = "") -> Content:
    """Reads all finished and scored runs below a recipe's folder.

    Args:
        folder: the recipe's, RUNS/RECIPE.
        baseline: the norm that the others are compared with.
        command: what makes the runs again; left out if empty.

    Raises:
        ValueError: no finished run, or one that is malformed.
    """
    runs = sorted(read_runs(folder), key=lambda run: (rank(run.norm), run.seed))
    if not runs:
        raise ValueError(f"{folder}: no run is trained and scored yet")
    test_sets = sorted({name for run in runs for name in run.scores})
    rows = {test_set: build_table(runs, test_set, baseline) for test_set in test_sets}
    tables = []
    for test_set in test_sets:
        heading, *cells = cells_of(rows[test_set], baseline)
        notes = sources_of(rows[test_set], next(run for run in runs if test_set in run.scores))
        tables.append(Table(test_set, heading, cells, [note.removeprefix("- ") for note in notes]))
    configs = {label_of(run): read_config(run.folder) for run in runs}
    translations = [read_translations(runs, test_set) for test_set in test_sets]
    how = [line.removeprefix("- ") for line in how_made(rows, runs, baseline, command)]
    return Content(runs[0].recipe, tables, translations, [*configs], different_settings(configs), how)


def label_of(run: Run) -> str:
    """How a report calls a run."""
    return f"{run.norm}, seed {run.seed}"


def label_of_norm(norm: str) -> str:
    """A norm's name, with that of papers in brackets."""
    return f"{norm} ({SHORT_NAMES[norm]})" if norm in SHORT_NAMES else norm


def read_config(folder: Path) -> DictConfig:
    """A run's configuration; empty for a folder without, which an older version may have written."""
    return load_config(folder) if (folder / "config.yaml").is_file() else OmegaConf.create({})


def flat(config: Any, prefix: str = "") -> dict[str, str]:
    """Every value of a configuration as text, by its key with dots."""
    found: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        else:
            found[name] = "–" if value is None else json.dumps(value, ensure_ascii=False).strip('"')
    return found


def different_settings(configs: Mapping[str, DictConfig]) -> list[tuple[str, list[str]]]:
    """The keys whose values are not the same in all runs, with the value in each; – where a run has none."""
    plain = [flat(OmegaConf.to_container(config, resolve=False)) for config in configs.values()]
    keys = dict.fromkeys(key for settings in plain for key in settings)
    different = []
    for key in keys:
        values = [settings.get(key, "–") for settings in plain]
        if len(set(values)) > 1 and not any(key == name or key.startswith(f"{name}.") for name in UNIMPORTANT):
            different.append((key, values))
    return different


def read_translations(runs: Sequence[Run], test_set: str) -> Translations:
    """The translations of the first seed of every norm that is scored on a test set."""
    chosen: dict[str, Run] = {}
    for run in runs:
        if test_set in run.scores:
            chosen.setdefault(run.norm, run)
    first = next(iter(chosen.values()))
    reference = read_lines(first.folder / test_set / "reference.txt")
    hypotheses, scores = {}, {}
    for norm, run in chosen.items():
        label, lines = f"{label_of_norm(norm)}, seed {run.seed}", read_lines(run.folder / test_set / "hypothesis.txt")
        hypotheses[label] = lines
        scores[label] = sentence_chrf(lines, reference)
    return Translations(test_set, read_source(first, test_set, reference), reference, hypotheses, scores)


def read_source(run: Run, test_set: str, reference: Sequence[str]) -> list[str] | None:
    """The raw source sentences of a test set, if the recipe's raw data is where the run had it and fits.

    They are shown only where the raw reference beside them is the one that was scored against.
    """
    recipe = read_config(run.folder).get("recipe")
    if recipe is None or not recipe.get("raw"):
        return None
    source, target = (Path(recipe.raw) / f"{test_set}.{language}" for language in (recipe.source, recipe.target))
    try:
        if read_lines(target) != list(reference):
            return None
        lines = read_lines(source)
    except (OSError, ValueError) as error:
        logger.info("%s is shown without its source sentences: %s", test_set, error)
        return None
    return lines if len(lines) == len(reference) else None
