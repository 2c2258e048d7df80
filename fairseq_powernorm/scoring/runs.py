"""The folders of finished runs, as the table reads them.

``<recipe>/<norm>/seed<k>/run.json`` says what was trained; each folder beside it with a ``hypothesis.txt`` is a test
set, whose ``score.json`` is from ``scoring.bleu``.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from .bleu import Score, read_score

logger = logging.getLogger(__name__)

RUN_FIELDS = {
    "recipe": str,
    "norm": str,
    "seed": int,
    "updates": int,
    "train_seconds": (int, float),
    "commit": str,
    "hardware": str,
    "versions": dict,
}


@dataclass(frozen=True)
class Run:
    """A finished run: what its ``run.json`` says, and its scores by test set."""

    folder: Path
    recipe: str
    norm: str
    seed: int
    updates: int
    train_seconds: float
    commit: str
    hardware: str
    versions: dict[str, str]
    scores: dict[str, Score]


def read_runs(folder: Path) -> list[Run]:
    """The finished runs below a recipe's folder; one that is not trained or not scored is left out with a warning.

    Raises:
        ValueError: no such folder, a malformed ``run.json`` or ``score.json``, runs of several recipes, or two runs
            of the same norm and seed.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"{folder}: no such folder of runs")
    runs: dict[tuple[str, int], Run] = {}
    for run_folder in sorted(path for path in Path(folder).glob("*/seed*") if path.is_dir()):
        if not (run_folder / "run.json").exists():
            logger.warning("%s is left out: no run.json, training has not finished", run_folder)
            continue
        for hypothesis in sorted(run_folder.glob("*/hypothesis.txt")):
            if not (hypothesis.parent / "score.json").exists():
                logger.warning("%s is left out: no score.json", hypothesis.parent)
        scores = {path.parent.name: read_score(path) for path in sorted(run_folder.glob("*/score.json"))}
        if not scores:
            logger.warning("%s is left out: no test set has a score.json", run_folder)
            continue
        run = Run(folder=run_folder, scores=scores, **_read_run_fields(run_folder / "run.json"))
        other = runs.setdefault((run.norm, run.seed), run)
        if other is not run:
            raise ValueError(f"{other.folder} and {run.folder} are both norm {run.norm}, seed {run.seed}")
        if run.recipe != next(iter(runs.values())).recipe:
            raise ValueError(f"{run_folder}: recipe {run.recipe!r}, others have {next(iter(runs.values())).recipe!r}")
    return list(runs.values())


def _read_run_fields(path: Path) -> dict:
    """The fields of ``run.json`` that the table needs, checked; others may stand beside them."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path}: {type(record).__name__} at the top, expected an object")
    for field, kind in RUN_FIELDS.items():
        if field not in record:
            raise ValueError(f"{path}: has no field {field!r}; needed are {', '.join(RUN_FIELDS)}")
        if not isinstance(record[field], kind) or isinstance(record[field], bool):
            raise ValueError(f"{path}: {field} is {record[field]!r}, a value of the wrong type")
    return {field: record[field] for field in RUN_FIELDS}
