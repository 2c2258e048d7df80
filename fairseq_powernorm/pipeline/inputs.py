"""What a run is given, looked at before it starts: all that could end it after hours of training.

The data must be there, every test set have as many lines on both sides as its references, none empty, none longer than
the model's positions; references score 100 against themselves; and the training must leave as many checkpoints as are
averaged. What fairseq alone can tell, it is asked for in a process of its own (:mod:`.fairseq_data`).
"""

import json
import math
import subprocess
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from ..files import check_room_to_grow, read_lines
from .commands import (
    evaluate_arguments,
    evaluation_protocols,
    generate_arguments,
    is_language_model,
    launcher_of,
    prepare_words,
    score_arguments,
    subset_of,
    train_arguments,
)
from .configuration import ROOT
from .processes import clean_environment, python_module


def check_data(config: DictConfig) -> None:
    """Raises ``ValueError`` if the recipe's data, or one of the sets that it is scored on, is not there."""
    folder, recipe = ROOT / config.recipe.binarized, config.recipe
    needed: dict[tuple[str, ...], str]  # what it is by its name, or by either of its names
    if is_language_model(config):
        needed = {("dict.txt",): "the dictionary", ("train.idx",): "the training text"}
        needed |= {(f"{subset_of(config, test_set)}.idx",): f"the text {test_set}" for test_set in recipe.test_sets}
    else:
        sides = recipe.source, recipe.target
        needed = {(f"dict.{language}.txt",): "the dictionary" for language in sides}
        for test_set in recipe.test_sets:
            if "/" in test_set:
                raise ValueError(
                    f"the recipe's test set {test_set!r} is no name: its text is {recipe.raw}/NAME.{recipe.target}"
                )
            pairs = [f"{subset_of(config, test_set)}.{'-'.join(pair)}" for pair in (sides, sides[::-1])]
            for language in sides:  # fairseq translates data in either direction
                needed[tuple(f"{pair}.{language}.idx" for pair in pairs)] = f"which is test set {test_set}"
    for names, what in needed.items():
        if not any((folder / name).is_file() for name in names):
            prepare = " ".join(prepare_words(recipe))
            raise ValueError(f"{folder} holds no {names[0]}, {what}; prepare the data first: {prepare}")
    if not recipe.test_sets:
        raise ValueError("the recipe has no test sets")


def reference_paths(config: DictConfig, test_set: str) -> dict[str, Path]:
    """The texts that a test set is scored against, by their names in the run's folder: ``reference.txt``, and where
    that is Moses' tokens, ``reference.detokenized.txt`` for the raw text."""
    name, recipe = f"{test_set}.{config.recipe.target}", config.recipe
    if recipe.get("tokenized") is None:
        return {"reference.txt": ROOT / recipe.raw / name}
    return {"reference.txt": ROOT / recipe.tokenized / name, "reference.detokenized.txt": ROOT / recipe.raw / name}


def read_references(config: DictConfig, test_set: str) -> dict[str, list[str]]:
    """The lines of :func:`reference_paths`.

    Raises:
        ValueError: a file that is not there or is not UTF-8, a line without words or with a carriage return within it
            (which other programs take for the end of a line), or files of different length; names set, file and line.
    """
    texts = {}
    for name, path in reference_paths(config, test_set).items():
        if not path.is_file():
            raise ValueError(f"{path} is not there, the reference of the recipe's test set {test_set}")
        texts[name] = read_lines(path)
        for number, line in enumerate(texts[name], start=1):
            fault = "empty" if not line.strip() else "a carriage return within it" if "\r" in line else None
            if fault:
                raise ValueError(
                    f"test set {test_set}, {path}, line {number}: {fault}; mend the text and prepare it again"
                )
    if len({len(lines) for lines in texts.values()}) > 1:
        paths = " and ".join(map(str, reference_paths(config, test_set).values()))
        raise ValueError(f"test set {test_set}: {paths} differ in their number of lines")
    return texts


def check_references(config: DictConfig) -> None:
    """Raises ``ValueError`` if a test set cannot be scored by each of the recipe's protocols: see
    :func:`read_references`; and a reference with a line of four words or more scores 100 against itself."""
    from ..scoring.bleu import score

    for test_set in config.recipe.test_sets:
        texts, paths = read_references(config, test_set), reference_paths(config, test_set)
        for arguments in score_arguments(config, Path(), test_set):
            options = dict(zip(arguments[::2], arguments[1::2], strict=True))
            name, protocol = Path(options["--reference"]).name, options["--protocol"]
            if name not in paths:
                raise ValueError(f"protocol {protocol} needs {name}, which a recipe without tokenized text cannot have")
            found = score(paths[name], paths[name], protocol=protocol)
            if found.bleu < 99.995 and any(len(line.split()) > 3 for line in texts[name]):
                raise ValueError(
                    f"test set {test_set}: {paths[name]} scores {found.bleu:.2f} against itself by {protocol}"
                )


def checkpoints_left(train: Mapping, by: str, updates_per_epoch: int | None = None) -> float:
    """How many checkpoints a training leaves to average, ``inf`` where nothing bounds them.

    Args:
        train: fairseq-train's flags.
        by: ``epoch``, those at the end of an epoch (``checkpoint7.pt``); ``update``, those between
            (``checkpoint_7_12000.pt``), which fairseq does not write where an update ends an epoch.
        updates_per_epoch: of the training data; without, what the flags alone tell.
    """

    def flag(name: str, default: float) -> float:
        value = train.get(name)
        return default if value in (None, 0, -1) else float(value)

    epochs = flag("max-epoch", math.inf)
    updates = min(flag("max-update", math.inf), epochs * updates_per_epoch if updates_per_epoch else math.inf)
    if train.get("no-save") or (by == "epoch" and train.get("no-epoch-checkpoints")):
        return 0
    if by == "epoch":
        if updates_per_epoch and updates < math.inf:
            epochs = updates // updates_per_epoch
        made = epochs if epochs == math.inf else epochs // flag("save-interval", 1)
        return min(made, flag("keep-last-epochs", math.inf))
    interval, made = flag("save-interval-updates", math.inf), math.inf
    if interval == math.inf:
        return 0
    if updates < math.inf:
        saved = range(int(interval), int(updates) + 1, int(interval))
        first = min(flag("validate-after-updates", 0), updates)  # before it fairseq saves nothing
        made = sum(number >= first and not (updates_per_epoch and number % updates_per_epoch == 0) for number in saved)
    return min(made, math.inf if "keep-interval-updates-pattern" in train else flag("keep-interval-updates", math.inf))


def check_average(config: DictConfig, updates_per_epoch: int | None = None) -> None:
    """Raises ``ValueError`` if the training will not leave as many checkpoints as the recipe averages."""
    last, by = config.average.last, config.average.by
    if by not in ("epoch", "update") or not isinstance(last, int) or last < 1:
        raise ValueError(f"expected average.by = epoch or update and average.last > 0, got {by!r} and {last!r}")
    if (left := checkpoints_left(config.train, by, updates_per_epoch)) < last:
        flags = "max-update, save-interval-updates, keep-interval-updates, keep-last-epochs, no-epoch-checkpoints"
        epoch = f"; an epoch has {updates_per_epoch} updates" if updates_per_epoch else ""
        other = "; where an update ends an epoch there is none" if by == "update" and updates_per_epoch else ""
        raise ValueError(
            f"average.last is {last}, but the training leaves {left:.0f} checkpoints by {by} ({flags}){epoch}{other}"
        )


def question_of(config: DictConfig, folder: Path) -> dict:
    """What :mod:`.fairseq_data` is asked: arguments of training and decoding, and how long each test set is."""
    asked = {"train": train_arguments(config, folder), "ranks": config.hardware.devices}
    if is_language_model(config):
        path, windows = folder / "averaged.pt", evaluation_protocols(config).values()
        texts = [evaluate_arguments(config, path, name, each) for name in config.recipe.test_sets for each in windows]
        return {**asked, "texts": texts}
    sets = {}
    for test_set in config.recipe.test_sets:
        arguments = generate_arguments(config, folder / "averaged.pt", test_set)
        sets[test_set] = {"arguments": arguments, "sentences": len(read_references(config, test_set)["reference.txt"])}
    return {**asked, "test_sets": sets}


def ask_fairseq(config: DictConfig, folder: Path) -> int:
    """Lets fairseq read the training's flags, the decoding's, the validation set and every test set.

    Returns:
        The optimizer updates of an epoch.

    Raises:
        ValueError: it does not take a flag, a set has sides of different length or a sentence that is too long; one
            line that names flag, or set and line.
    """
    done = subprocess.run(
        python_module("fairseq_powernorm.pipeline.fairseq_data"),
        input=json.dumps(question_of(config, folder)),
        cwd=ROOT,
        env=clean_environment(config.hardware.environment),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no output"]
        raise ValueError(lines[-1].partition(": error: ")[2] or lines[-1])
    return int(done.stdout.splitlines()[-1])


def check_inputs(config: DictConfig, folder: Path) -> None:
    """Raises ``ValueError``, or ``OSError`` for a disk without enough room, where a run could not come to its end."""
    check_data(config)
    check_average(config)
    launcher_of(config)
    check_share_of_devices(config)
    check_room_to_grow(config.recipe.disk_gb * 1e9, folder)
    if not is_language_model(config):
        check_references(config)
    check_average(config, ask_fairseq(config, folder))


def check_share_of_devices(config: DictConfig) -> None:
    """Raises ``ValueError`` if this machine lacks CUDA devices for its share of a run."""
    if config.hardware.name != "cpu":
        check_devices(config.hardware.devices // config.hardware.nodes)


def check_devices(devices: int) -> None:
    """Raises ``ValueError`` if this machine has fewer CUDA devices than its share: fairseq would use the CPU."""
    import torch

    if (found := torch.cuda.device_count()) < devices:
        raise ValueError(
            f"the recipe's hardware has {devices} CUDA devices a machine, this one has {found}; "
            "--hardware cpu trains without one"
        )
