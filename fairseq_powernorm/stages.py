"""The stages of a run: train, average, recalibrate, translate, score. Each is skipped when its output exists.

A run's folder, RUNS/RECIPE/NORM/seedN, holds ``config.yaml`` (resolved), ``train.log``, ``checkpoints/``,
``averaged.pt``, ``run.json`` (updates, time, commit, hardware, versions, commands), and for each test set a folder
with ``hypothesis.txt``, ``reference.txt`` and ``score.json``. Every output appears whole or not at all, and a stage
holds the folder's lock: a run that was killed at any moment goes on with the same command.
"""

import hashlib
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from . import execution
from .files import atomic_write, check_room_to_grow, exclusive, read_lines
from .recipes import ROOT, check_average, generate_arguments, number_of_test_set, tokens_warning, train_arguments
from .settings import check_same_run, store_config

logger = logging.getLogger(__name__)


def label_of(config: DictConfig) -> str:
    """What messages call a run: norm and seed."""
    return f"{config.norm.name} seed {config.seed}"


def check_data(config: DictConfig) -> None:
    """Raises ``ValueError`` if the recipe's data, or one of its test sets, is not there, before hours are spent."""
    folder = ROOT / config.recipe.binarized
    for language in (config.recipe.source, config.recipe.target):
        if not (folder / f"dict.{language}.txt").is_file():
            raise ValueError(
                f"{folder} holds no dict.{language}.txt; prepare the data first: {' '.join(config.recipe.prepare)}"
            )
    for test_set in config.recipe.test_sets:
        number_of_test_set(config, test_set)


def check_references(config: DictConfig) -> None:
    """Raises ``ValueError`` if a test set has no reference to score against."""
    for test_set in config.recipe.test_sets:
        path = ROOT / config.recipe.raw / f"{test_set}.{config.recipe.target}"
        if not path.is_file():
            raise ValueError(f"{path} is not there, the reference of the recipe's test set {test_set}")


def with_fingerprint(config: DictConfig) -> DictConfig:
    """The configuration with a digest of the recipe's data, if it is there: runs of other data are other runs."""
    folder, digest = ROOT / config.recipe.binarized, hashlib.sha256()
    for path in sorted(folder.glob("dict.*.txt")):
        digest.update(path.name.encode() + path.read_bytes())
    for path in sorted(folder.glob("*.bin")):
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    if not folder.is_dir():
        return config
    return OmegaConf.create({**OmegaConf.to_container(config), "data": {"sha256": digest.hexdigest()}})


def train(config: DictConfig, folder: Path) -> None:
    """Trains; continues after ``checkpoints/checkpoint_last.pt`` if there is one. Output: ``run.json``."""
    from .checkpoints.io import load_checkpoint, number_of_updates
    from .checkpoints.resume import repair_last_checkpoint

    record = folder / "run.json"
    config = with_fingerprint(config)
    check_same_run(config, folder)
    if record.exists():
        logger.info("%s: trained already (%s)", label_of(config), record)
        return
    check_data(config)
    check_references(config)
    check_average(config)
    if config.hardware.name != "cpu":
        execution.check_devices(config.hardware.devices, config.hardware.nodes)
    check_room_to_grow(config.recipe.disk_gb * 1e9, folder)
    if (warning := tokens_warning(config)) is not None:
        logger.warning("%s: %s", label_of(config), warning)
    store_config(config, folder)
    arguments = train_arguments(config, folder)
    surroundings = {
        "commit": execution.commit(),
        "hardware": execution.hardware(),
        "versions": execution.versions(),
        "command": execution.shell_command("train", arguments),
    }
    if not training_is_over(config, repair_last_checkpoint(folder / "checkpoints")):
        execution.run_fairseq(
            "train",
            arguments,
            folder / "train.log",
            label_of(config),
            config.hardware.environment,
            execution.training_progress(config.train.get("max-update")),
            launcher_of(config),
        )
    last = load_checkpoint(folder / "checkpoints" / "checkpoint_last.pt", mmap=True)
    content = {
        "recipe": config.recipe.name,
        "norm": config.norm.name,
        "seed": config.seed,
        "updates": number_of_updates(last),
        "train_seconds": float(last["extra_state"]["previous_training_time"]),
        **surroundings,
    }
    with atomic_write(record) as stream:
        json.dump(content, stream, indent=2)
    logger.info("%s: %d updates in %.0f s", label_of(config), content["updates"], content["train_seconds"])


def launcher_of(config: DictConfig, node_rank: int = 0) -> list[str]:
    """The arguments of torchrun for a run's training; none on one device."""
    hardware = config.hardware
    return execution.training_launcher(hardware.devices, hardware.nodes, node_rank, hardware.get("master") or "")


def join_training(config: DictConfig, folder: Path, node_rank: int) -> None:
    """What a machine other than the first does of a run: its share of the training, nothing else."""
    check_data(config)
    execution.check_devices(config.hardware.devices, config.hardware.nodes)
    execution.run_fairseq(
        "train",
        train_arguments(config, folder),
        folder / f"train.node{node_rank}.log",
        f"{label_of(config)}, node {node_rank}",
        config.hardware.environment,
        launcher=launcher_of(config, node_rank),
    )


def training_is_over(config: DictConfig, last: Path | None) -> bool:
    """Whether the last checkpoint is the training's end: started again, fairseq-train would train beyond it."""
    from .checkpoints.io import load_checkpoint, number_of_updates
    from .checkpoints.resume import read_patience

    if last is None:
        return False
    max_update, patience = config.train.get("max-update"), config.train.get("patience")
    if max_update and number_of_updates(load_checkpoint(last, mmap=True)) >= max_update:
        return True
    state = read_patience(last.parent) if patience else None
    return state is not None and state.validations_since >= patience


def average(config: DictConfig, folder: Path) -> None:
    """Averages the checkpoints that the recipe names. Output: ``averaged.pt``."""
    from .checkpoints.average import average_checkpoints
    from .checkpoints.io import save_checkpoint
    from .checkpoints.select import select_in_folder

    output = folder / "averaged.pt"
    if output.exists():
        logger.info("%s: averaged already (%s)", label_of(config), output)
        return
    paths = select_in_folder(folder / "checkpoints", **config.average)
    logger.info("%s: averaging %s", label_of(config), ", ".join(path.name for path in paths))
    save_checkpoint(average_checkpoints(paths), output)


def model_path(config: DictConfig, folder: Path) -> Path:
    """The checkpoint that translates: ``recalibrated.pt`` where the recipe recalibrates, else ``averaged.pt``."""
    return folder / ("recalibrated.pt" if config.recalibrate.batches else "averaged.pt")


def recalibrate(config: DictConfig, folder: Path) -> None:
    """Estimates the average's running statistics anew, if the recipe says so. Output: ``recalibrated.pt``."""
    output = model_path(config, folder)
    if not config.recalibrate.batches:
        logger.info("%s: not recalibrated, as the recipe has it", label_of(config))
        return
    if output.exists():
        logger.info("%s: recalibrated already (%s)", label_of(config), output)
        return
    from .checkpoints.io import save_checkpoint
    from .transformer.recalibrate import recalibrate_checkpoint

    check_data(config)
    recalibrated = recalibrate_checkpoint(
        folder / "averaged.pt",
        data=ROOT / config.recipe.binarized,
        batches=config.recalibrate.batches,
        max_tokens=config.train["max-tokens"],
        seed=config.seed,
        cpu=bool(config.train.get("cpu")),
    )
    save_checkpoint(recalibrated, output)


def translate(config: DictConfig, folder: Path) -> None:
    """Translates every test set by beam search. Output: ``TEST_SET/hypothesis.txt`` and ``reference.txt``.

    Where the model's text is Moses' tokens, the detokenised text stands beside, as ``hypothesis.detokenized.txt``, and
    ``hypothesis.txt`` is that text as the main protocol wants it.
    """
    for test_set in config.recipe.test_sets:
        hypothesis = folder / test_set / "hypothesis.txt"
        if hypothesis.exists():
            logger.info("%s: %s translated already (%s)", label_of(config), test_set, hypothesis)
            continue
        translate_test_set(config, folder, test_set)


def translate_test_set(config: DictConfig, folder: Path, test_set: str) -> None:
    """One test set of :func:`translate`; ``hypothesis.txt`` is written last."""
    from .scoring.translations import read_translations

    check_data(config)
    log, target = folder / test_set / "generate.log", config.recipe.target
    raw = read_lines(ROOT / config.recipe.raw / f"{test_set}.{target}")
    log.unlink(missing_ok=True)
    execution.run_fairseq(
        "generate",
        generate_arguments(config, model_path(config, folder), test_set),
        log,
        f"{label_of(config)}, {test_set}",
        config.hardware.environment,
        execution.generation_progress(len(raw)),
    )
    translations = read_translations(read_lines(log), len(raw))
    if config.recipe.get("tokenized") is None:
        write_texts(folder / test_set, {"reference.txt": raw, "hypothesis.txt": translations})
        return
    from .corpora import moses

    detokenized = [moses.detokenize(line, target) for line in translations]
    if config.recipe.retokenize:
        translations = [moses.tokenize(line, target) for line in detokenized]
    tokenized = read_lines(ROOT / config.recipe.tokenized / f"{test_set}.{target}")
    write_texts(
        folder / test_set,
        {
            "reference.detokenized.txt": raw,
            "hypothesis.detokenized.txt": detokenized,
            "reference.txt": tokenized,
            "hypothesis.txt": translations,
        },
    )


def write_texts(folder: Path, texts: dict[str, Sequence[str]]) -> None:
    """Writes files of lines by their names, each whole."""
    for name, lines in texts.items():
        with atomic_write(folder / name) as stream:
            stream.writelines(f"{line}\n" for line in lines)


def score(config: DictConfig, folder: Path) -> None:
    """Scores every test set's translations by the recipe's protocols. Output: ``TEST_SET/score.json`` and others."""
    from .scoring import bleu

    for test_set in config.recipe.test_sets:
        for arguments in score_arguments(config, folder, test_set):
            output = Path(arguments[-1])
            if output.exists():
                logger.info("%s: %s scored already (%s)", label_of(config), test_set, output)
                sys.stdout.write(f"{bleu.read_score(output)}\n")
            else:
                bleu.main(arguments)


def score_arguments(config: DictConfig, folder: Path, test_set: str) -> list[list[str]]:
    """The arguments of ``scoring.bleu``, one list for each of the recipe's protocols, the output's path at the end."""
    from .scoring.protocols import protocol_named, text_suffix

    commands = []
    for protocol in (config.score.protocol, *config.score.get("further", ())):
        main = protocol == config.score.protocol
        suffix = text_suffix(protocol_named(protocol), protocol_named(config.score.protocol))
        paths = [folder / test_set / f"{side}{suffix}.txt" for side in ("hypothesis", "reference")]
        output = folder / test_set / ("score.json" if main else f"score.{protocol}.json")
        commands.append(
            [
                *("--hypothesis", str(paths[0]), "--reference", str(paths[1])),
                *("--protocol", protocol, "--output", str(output)),
            ]
        )
    return commands


Stage = Callable[[DictConfig, Path], None]
STAGES: dict[str, Stage] = {
    "train": train,
    "average": average,
    "recalibrate": recalibrate,
    "translate": translate,
    "score": score,
}


def run_stage(name: str, config: DictConfig, folder: Path) -> None:
    """Runs one stage while holding the folder's lock, so that no other process works on the run."""
    with exclusive(folder):
        STAGES[name](config, folder)
