"""The scores of a language model's run: its perplexity on each of the recipe's texts, by fairseq-eval-lm."""

import logging
import sys
from pathlib import Path

from omegaconf import DictConfig

from ..files import read_lines
from . import processes
from .commands import evaluate_arguments, evaluation_protocols, model_path
from .configuration import label_of
from .inputs import check_data
from .run_folder import check_same_test_set

logger = logging.getLogger(__name__)


def score_path(folder: Path, test_set: str, protocol: str) -> Path:
    """Where a score lies: ``score.json``, or ``score.PROTOCOL.json`` by another protocol than the recipe's main one."""
    return folder / test_set / ("score.json" if protocol == "segments" else f"score.{protocol}.json")


def evaluate(config: DictConfig, folder: Path) -> None:
    """The score stage of a language model's run: :func:`evaluate_text` for what is not scored yet."""
    from ..scoring.perplexity import read_perplexity

    for test_set in config.recipe.test_sets:
        scored = any(score_path(folder, test_set, protocol).exists() for protocol in evaluation_protocols(config))
        for protocol in evaluation_protocols(config):
            output = score_path(folder, test_set, protocol)
            if output.exists():
                logger.info("%s: %s scored already (%s)", label_of(config), test_set, output)
                check_same_test_set(config, folder, test_set)
            else:
                evaluate_text(config, folder, test_set, protocol, record=not scored)
                scored = True
            sys.stdout.write(f"{test_set}: {read_perplexity(output)}\n")


def evaluate_text(config: DictConfig, folder: Path, test_set: str, protocol: str, record: bool) -> None:
    """Scores one text by one protocol; the score is written last.

    Args:
        config: the run's.
        folder: the run's.
        test_set: its name.
        protocol: of :func:`~.commands.evaluation_protocols`.
        record: write down which text it is; else it has to be the one that was scored before.
    """
    from ..scoring.perplexity import read_evaluation, write_perplexity

    check_data(config)
    (folder / test_set).mkdir(parents=True, exist_ok=True)
    check_same_test_set(config, folder, test_set, record=record)
    window, log = evaluation_protocols(config)[protocol], folder / test_set / f"eval_lm.{protocol}.log"
    log.unlink(missing_ok=True)
    processes.run_fairseq(
        "eval_lm",
        evaluate_arguments(config, model_path(config, folder), test_set, window),
        log,
        f"{label_of(config)}, {test_set}",
        config.hardware.environment,
    )
    length = int(config.generate["tokens-per-sample"])
    found = read_evaluation(read_lines(log), protocol, length, window)
    write_perplexity(found, score_path(folder, test_set, protocol))
