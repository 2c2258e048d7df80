"""The stages of a run: train, average, recalibrate, translate, score. Each is skipped when its output exists.

A run's folder, RUNS/RECIPE/NORM/seedN, holds ``config.yaml`` (resolved), ``train.log``, ``checkpoints/``,
``averaged.pt``, ``run.json`` (updates, time, commit, hardware, versions, commands), and for each test set a folder
with ``hypothesis.txt``, ``reference.txt`` and ``score.json``. Every output appears whole or not at all, and a stage
holds the folder's lock: a run that was killed at any moment goes on with the same command.
"""

import json
import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from ..files import atomic_write, exclusive, read_lines
from . import processes, provenance, slurm
from .commands import (
    fairseq_command,
    generate_arguments,
    is_language_model,
    launcher_of,
    model_path,
    recalibrate_arguments,
    score_arguments,
    train_arguments,
)
from .configuration import label_of, row_of, tokens_warning
from .evaluation import evaluate
from .inputs import check_data, check_inputs, check_share_of_devices, read_references
from .run_folder import check_same_run, check_same_test_set, store_config, with_fingerprint, write_texts

logger = logging.getLogger(__name__)


def train(config: DictConfig, folder: Path) -> None:
    """Trains; continues after ``checkpoints/checkpoint_last.pt`` if there is one. Output: ``run.json``."""
    record = folder / "run.json"
    config = with_fingerprint(config)
    check_same_run(config, folder)
    if record.exists():
        logger.info("%s: trained already (%s)", label_of(config), record)
        return
    from ..checkpoints.io import load_checkpoint, number_of_updates
    from ..checkpoints.resume import repair_last_checkpoint

    check_inputs(config, folder)
    if (warning := tokens_warning(config)) is not None:
        logger.warning("%s: %s", label_of(config), warning)
    store_config(config, folder)
    arguments = train_arguments(config, folder)
    surroundings = {
        "commit": provenance.commit(),
        "hardware": provenance.hardware(),
        "versions": provenance.versions(),
        "command": fairseq_command("train", arguments),
    }
    if not training_is_over(config, repair_last_checkpoint(folder / "checkpoints")):
        processes.run_fairseq(
            "train",
            arguments,
            folder / "train.log",
            label_of(config),
            config.hardware.environment,
            processes.training_progress(config.train.get("max-update")),
            launcher_of(config),
        )
    last = load_checkpoint(folder / "checkpoints" / "checkpoint_last.pt", mmap=True)
    content = {
        "recipe": config.recipe.name,
        "norm": row_of(config),
        "seed": config.seed,
        "updates": number_of_updates(last),
        "train_seconds": float(last["extra_state"]["previous_training_time"]),
        **surroundings,
    }
    with atomic_write(record) as stream:
        json.dump(content, stream, indent=2)
    logger.info("%s: %d updates in %.0f s", label_of(config), content["updates"], content["train_seconds"])


def join_training(config: DictConfig, folder: Path, node_rank: int) -> None:
    """What a machine other than the first does of a run: its share of the training, nothing else."""
    launcher = launcher_of(config, node_rank)
    if is_trained(config, folder):
        logger.info("%s: trained already, nothing to do on node %d", label_of(config), node_rank)
        return
    check_data(config)
    check_share_of_devices(config)
    log, label = folder / f"train.node{node_rank}.log", f"{label_of(config)}, node {node_rank}"
    arguments = train_arguments(config, folder)
    processes.run_fairseq("train", arguments, log, label, config.hardware.environment, launcher=launcher)


def is_trained(config: DictConfig, folder: Path) -> bool:
    """Whether the first machine, started now, has nothing to train, as far as another one can see."""
    from ..checkpoints.io import DamagedCheckpoint

    last = folder / "checkpoints" / "checkpoint_last.pt"
    try:
        return (folder / "run.json").exists() or (last.exists() and training_is_over(config, last))
    except DamagedCheckpoint:  # the first machine will train from another one
        return False


def training_is_over(config: DictConfig, last: Path | None) -> bool:
    """Whether the last checkpoint is the training's end: started again, fairseq-train would train beyond it."""
    from ..checkpoints.io import load_checkpoint, number_of_updates
    from ..checkpoints.resume import read_patience

    if last is None:
        return False
    max_update, patience = config.train.get("max-update"), config.train.get("patience")
    if max_update and number_of_updates(load_checkpoint(last, mmap=True)) >= max_update:
        return True
    state = read_patience(last.parent) if patience else None
    return state is not None and state.validations_since >= patience


def average(config: DictConfig, folder: Path) -> None:
    """Averages the checkpoints that the recipe names. Output: ``averaged.pt``."""
    output = folder / "averaged.pt"
    if output.exists():
        logger.info("%s: averaged already (%s)", label_of(config), output)
        return
    from ..checkpoints.average import average_checkpoints
    from ..checkpoints.io import save_checkpoint
    from ..checkpoints.select import select_in_folder

    paths = select_in_folder(folder / "checkpoints", **config.average)
    logger.info("%s: averaging %s", label_of(config), ", ".join(path.name for path in paths))
    save_checkpoint(average_checkpoints(paths), output)


def recalibrate(config: DictConfig, folder: Path) -> None:
    """Estimates the average's running statistics anew, if the recipe says so. Output: ``recalibrated.pt``."""
    output = model_path(config, folder)
    if not config.recalibrate.batches:
        logger.info("%s: not recalibrated, as the recipe has it", label_of(config))
        return
    if output.exists():
        logger.info("%s: recalibrated already (%s)", label_of(config), output)
        return
    check_data(config)
    arguments = recalibrate_arguments(config, folder)
    processes.run_logged(
        processes.python_module("fairseq_powernorm.transformer.recalibrate", *arguments),
        shlex.join(["powernorm-recalibrate", *arguments]),
        folder / "recalibrate.log",
        label_of(config),
        config.hardware.environment,
    )


def translate(config: DictConfig, folder: Path) -> None:
    """Translates every test set by beam search. Output: ``TEST_SET/hypothesis.txt`` and ``reference.txt``.

    Where the model's text is Moses' tokens, ``hypothesis.txt`` has it as the main protocol wants it, and
    ``hypothesis.detokenized.txt`` has the detokenised text.
    """
    if is_language_model(config):
        logger.info("%s: a language model has nothing to translate", label_of(config))
        return
    for test_set in config.recipe.test_sets:
        hypothesis = folder / test_set / "hypothesis.txt"
        if hypothesis.exists():
            logger.info("%s: %s translated already (%s)", label_of(config), test_set, hypothesis)
            check_same_test_set(config, folder, test_set)
            continue
        translate_test_set(config, folder, test_set)


def translate_test_set(config: DictConfig, folder: Path, test_set: str) -> None:
    """One test set of :func:`translate`; ``hypothesis.txt`` is written last."""
    from ..scoring.translations import read_translations

    check_data(config)
    log, target = folder / test_set / "generate.log", config.recipe.target
    texts = read_references(config, test_set)
    sentences = len(texts["reference.txt"])
    log.unlink(missing_ok=True)
    check_same_test_set(config, folder, test_set, record=True)
    processes.run_fairseq(
        "generate",
        generate_arguments(config, model_path(config, folder), test_set),
        log,
        f"{label_of(config)}, {test_set}",
        config.hardware.environment,
        processes.generation_progress(sentences),
    )
    translations = read_translations(read_lines(log), sentences)
    if config.recipe.get("tokenized") is not None:
        from ..corpora import moses

        texts["hypothesis.detokenized.txt"] = [moses.detokenize(line, target) for line in translations]
        if config.recipe.retokenize:
            translations = [moses.tokenize(line, target) for line in texts["hypothesis.detokenized.txt"]]
    write_texts(folder / test_set, {**texts, "hypothesis.txt": translations})


def score(config: DictConfig, folder: Path) -> None:
    """Scores every test set's translations by the recipe's protocols, or a language model's text by fairseq-eval-lm.
    Output: ``TEST_SET/score.json`` and others."""
    from ..scoring import bleu

    if is_language_model(config):
        evaluate(config, folder)
        return
    for test_set in config.recipe.test_sets:
        for arguments in score_arguments(config, folder, test_set):
            output = Path(arguments[-1])
            if output.exists():
                logger.info("%s: %s scored already (%s)", label_of(config), test_set, output)
                sys.stdout.write(f"{bleu.read_score(output)}\n")
            else:
                bleu.main(arguments)


Stage = Callable[[DictConfig, Path], None]
STAGES: dict[str, Stage] = {
    "train": train,
    "average": average,
    "recalibrate": recalibrate,
    "translate": translate,
    "score": score,
}
AFTER_AVERAGE = ("recalibrate", "translate", "score")


def node_rank_of(config: DictConfig, given: int | None = None) -> int:
    """Which of a run's machines this is: as given, or Slurm's number where the run has several machines."""
    return given if given is not None else slurm.node_rank() if config.hardware.nodes > 1 else 0


def run_stages(config: DictConfig, folder: Path, names: Sequence[str] = tuple(STAGES), node_rank: int = 0) -> None:
    """Runs stages while holding the folder's lock, so that no other process works on the run.

    A machine other than the first (``node_rank`` above 0) takes part in the training and leaves the rest to the first.
    """
    if node_rank > 0:
        if "train" in names:
            join_training(config, folder, node_rank)
        return
    with exclusive(folder):
        for name in names:
            STAGES[name](config, folder)
