"""The folders of finished runs, as the table reads them.

``<recipe>/<norm>/seed<k>/run.json`` says what was trained; each folder beside it with a ``hypothesis.txt`` is a test
set, whose ``score.json`` is from ``scoring.bleu`` and by the recipe's main protocol. Scores by further protocols are
``score.PROTOCOL.json``, such as ``score.detokenized.json``, of ``hypothesis.detokenized.txt`` and
``reference.detokenized.txt``.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError  # type: ignore[import-untyped]

from .bleu import Score, read_score
from .perplexity import Perplexity
from .protocols import protocol_named, text_suffix

logger = logging.getLogger(__name__)

RUN_FIELDS: dict[str, type | tuple[type, ...]] = {
    "recipe": str,
    "norm": str,
    "seed": int,
    "updates": int,
    "train_seconds": (int, float),
    "commit": str,
    "hardware": str,
    "versions": dict,
}


def load_config(folder: Path) -> DictConfig:
    """The configuration of a run by its folder.

    Raises:
        ValueError: the folder holds no run, or its configuration is damaged.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise ValueError(f"{folder} holds no run (no config.yaml)")
    try:
        config = OmegaConf.load(path)
    except (YAMLError, ValueError) as error:
        raise ValueError(f"{path}: not YAML ({error})") from None
    if not isinstance(config, DictConfig):
        raise ValueError(f"{path} is no configuration of a run")
    return config


AnyScore = TypeVar("AnyScore", Score, Perplexity)


@dataclass(frozen=True)
class Run(Generic[AnyScore]):
    """A finished run: what its ``run.json`` says, and its scores.

    Attributes:
        folder: the run's.
        scores: by the main protocol, for each test set.
        further_scores: by further protocols, for each test set and protocol; a test set may have none.
    """

    folder: Path
    recipe: str
    norm: str
    seed: int
    updates: int
    train_seconds: float
    commit: str
    hardware: str
    versions: dict[str, str]
    scores: dict[str, AnyScore]
    further_scores: dict[str, dict[str, AnyScore]] = field(default_factory=dict)

    def score(self, test_set: str, protocol: str | None = None) -> AnyScore:
        """The score by the main protocol (None) or by a further one."""
        return self.scores[test_set] if protocol is None else self.further_scores[test_set][protocol]

    def reference_path(self: "Run[Score]", test_set: str, protocol: str | None = None) -> Path:
        """The reference that a score is from: each kind of text, tokenised or detokenised, has its own."""
        suffix = text_suffix(self.score(test_set, protocol).settings, self.scores[test_set].settings)
        return self.folder / test_set / f"reference{suffix}.txt"


def run_folders(folder: str | Path) -> list[Path]:
    """The folders NORM/seedN below a recipe's, sorted; those of a sweep over a flag, seedN,KEY=VALUE, are left out."""
    found = Path(folder).glob("*/seed*")
    return sorted(path for path in found if path.is_dir() and path.name.removeprefix("seed").isdecimal())


def read_runs(
    folder: Path,
    read: Callable[[Path], Any] = read_score,
    read_further: Callable[[Path, Any], dict[str, Any]] | None = None,
) -> list[Run]:
    """The finished runs below a recipe's folder; one that is not trained or not scored is left out with a warning.

    Args:
        folder: the recipe's.
        read: gives the score in a ``score.json``; of BLEU if left out.
        read_further: gives the scores by further protocols in a test set's folder, beside the given one.

    Raises:
        ValueError: no such folder, a malformed ``run.json`` or score file, runs of several recipes, or two runs of the
            same norm and seed.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"{folder}: no such folder of runs")
    runs: dict[tuple[str, int], Run] = {}
    for run_folder in run_folders(folder):
        if not (run_folder / "run.json").exists():
            logger.warning("%s is left out: no run.json, training has not finished", run_folder)
            continue
        for hypothesis in sorted(run_folder.glob("*/hypothesis.txt")):
            if not (hypothesis.parent / "score.json").exists():
                logger.warning("%s is left out: no score.json", hypothesis.parent)
        scores = {path.parent.name: read(path) for path in sorted(run_folder.glob("*/score.json"))}
        if not scores:
            logger.warning("%s is left out: no test set has a score.json", run_folder)
            continue
        run = Run(
            folder=run_folder,
            scores=scores,
            further_scores={
                name: (read_further or _read_further_scores)(run_folder / name, score) for name, score in scores.items()
            },
            **_read_run_fields(run_folder / "run.json"),
        )
        other = runs.setdefault((run.norm, run.seed), run)
        if other is not run:
            raise ValueError(f"{other.folder} and {run.folder} are both norm {run.norm}, seed {run.seed}")
        if run.recipe != next(iter(runs.values())).recipe:
            raise ValueError(f"{run_folder}: recipe {run.recipe!r}, others have {next(iter(runs.values())).recipe!r}")
    return list(runs.values())


def _read_further_scores(folder: Path, main: Score) -> dict[str, Score]:
    """The scores beside a test set's ``score.json``, by protocol; none is not an error."""
    scores = {}
    for path in sorted(folder.glob("score.*.json")):
        name = path.name.removeprefix("score.").removesuffix(".json")
        try:
            protocol_named(name)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        scores[name] = read_score(path)
        if scores[name].protocol != name:
            raise ValueError(f"{path}: protocol is {scores[name].protocol!r}, expected {name!r} by the file's name")
        if name == main.protocol:
            raise ValueError(f"{path}: {name} is the protocol of score.json too; remove one")
    return scores


def _read_run_fields(path: Path) -> dict:
    """The fields of ``run.json`` that the table needs, checked; others may stand beside them."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path}: {type(record).__name__} at the top, expected an object")
    for name, kind in RUN_FIELDS.items():
        if name not in record:
            raise ValueError(f"{path}: has no field {name!r}; needed are {', '.join(RUN_FIELDS)}")
        if not isinstance(record[name], kind) or isinstance(record[name], bool):
            raise ValueError(f"{path}: {name} is {record[name]!r}, a value of the wrong type")
    return {name: record[name] for name in RUN_FIELDS}
