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
        outputs = {protocol: score_path(folder, test_set, protocol) for protocol in evaluation_protocols(config)}
        scored = [path for path in outputs.values() if path.exists()]
        if len(scored) < len(outputs):
            check_data(config)
        check_same_test_set(config, folder, test_set, record=not scored)
        for protocol, output in outputs.items():
            if output in scored:
                logger.info("%s: %s scored already (%s)", label_of(config), test_set, output)
            else:
                evaluate_text(config, folder, test_set, protocol)
            sys.stdout.write(f"{test_set}: {read_perplexity(output)}\n")


def evaluate_text(config: DictConfig, folder: Path, test_set: str, protocol: str) -> None:
    """Scores one text by one protocol of :func:`~.commands.evaluation_protocols`; the score is written last."""
    from ..scoring.perplexity import read_evaluation, write_perplexity

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
