"""The stages of a run: train, average, translate, score. Each is skipped when its output exists.

A run's folder, RUNS/RECIPE/NORM/seedN, holds ``config.yaml`` (resolved), ``train.log``, ``checkpoints/``,
``averaged.pt``, ``run.json`` (updates, time, commit, hardware, versions, commands), and for each test set a folder
with ``hypothesis.txt``, ``reference.txt`` and ``score.json``.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from . import execution
from .files import atomic_write, read_lines, run_command_line
from .recipes import ROOT, choices, compose_run, generate_arguments, run_folder, train_arguments

logger = logging.getLogger(__name__)


def label_of(config: DictConfig) -> str:
    """What messages call a run: norm and seed."""
    return f"{config.norm.name} seed {config.seed}"


def check_data(config: DictConfig) -> None:
    """Raises ``ValueError`` if the recipe's data is not there, before hours are spent."""
    folder = ROOT / config.recipe.binarized
    for language in (config.recipe.source, config.recipe.target):
        if not (folder / f"dict.{language}.txt").is_file():
            raise ValueError(
                f"{folder} holds no dict.{language}.txt; prepare the data first: {' '.join(config.recipe.prepare)}"
            )


def store_config(config: DictConfig, folder: Path) -> None:
    """Writes the run's configuration, or checks that a run begun earlier has the same.

    Raises:
        ValueError: the folder holds a run of another configuration.
    """
    text, path = OmegaConf.to_yaml(config), folder / "config.yaml"
    if not path.exists():
        with atomic_write(path) as stream:
            stream.write(text)
    elif path.read_text(encoding="utf-8") != text:
        raise ValueError(f"{path} is of another configuration; give another --runs folder, or remove {folder}")


def load_config(folder: Path) -> DictConfig:
    """The configuration of a run by its folder.

    Raises:
        ValueError: the folder holds no run.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise ValueError(f"{folder} holds no run (no config.yaml)")
    return OmegaConf.load(path)


def train(config: DictConfig, folder: Path) -> None:
    """Trains; continues after ``checkpoints/checkpoint_last.pt`` if there is one. Output: ``run.json``."""
    from .checkpoints.io import load_checkpoint, number_of_updates

    record = folder / "run.json"
    if record.exists():
        logger.info("%s: trained already (%s)", label_of(config), record)
        return
    check_data(config)
    store_config(config, folder)
    arguments = train_arguments(config, folder)
    surroundings = {
        "commit": execution.commit(),
        "hardware": execution.hardware(),
        "versions": execution.versions(),
        "command": execution.shell_command("train", arguments),
    }
    max_update, last_path = config.train.get("max-update"), folder / "checkpoints" / "checkpoint_last.pt"
    # Started again after its last update, fairseq-train would do one more.
    if not (max_update and last_path.exists() and number_of_updates(load_checkpoint(last_path)) >= max_update):
        execution.run_fairseq(
            "train",
            arguments,
            folder / "train.log",
            label_of(config),
            config.hardware.environment,
            execution.training_progress(max_update),
        )
    last = load_checkpoint(last_path)
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


def translate(config: DictConfig, folder: Path) -> None:
    """Translates every test set by beam search. Output: ``TEST_SET/hypothesis.txt`` and ``reference.txt``."""
    from .scoring.translations import read_translations

    for test_set in config.recipe.test_sets:
        hypothesis, log = folder / test_set / "hypothesis.txt", folder / test_set / "generate.log"
        if hypothesis.exists():
            logger.info("%s: %s translated already (%s)", label_of(config), test_set, hypothesis)
            continue
        check_data(config)
        reference = read_lines(ROOT / config.recipe.raw / f"{test_set}.{config.recipe.target}")
        log.unlink(missing_ok=True)
        execution.run_fairseq(
            "generate",
            generate_arguments(config, folder / "averaged.pt", test_set),
            log,
            f"{label_of(config)}, {test_set}",
            config.hardware.environment,
            execution.generation_progress(len(reference)),
        )
        for name, lines in (
            ("reference.txt", reference),
            ("hypothesis.txt", read_translations(read_lines(log), len(reference))),
        ):
            with atomic_write(folder / test_set / name) as stream:
                stream.writelines(f"{line}\n" for line in lines)


def score(config: DictConfig, folder: Path) -> None:
    """Scores every test set's translations with sacreBLEU. Output: ``TEST_SET/score.json``."""
    from .scoring import bleu

    for test_set in config.recipe.test_sets:
        output = folder / test_set / "score.json"
        if output.exists():
            logger.info("%s: %s scored already (%s)", label_of(config), test_set, output)
            sys.stdout.write(f"{bleu.read_score(output)}\n")
            continue
        arguments = ["--hypothesis", str(folder / test_set / "hypothesis.txt")]
        arguments += ["--reference", str(folder / test_set / "reference.txt")]
        arguments += ["--tokenize", config.score.tokenize, "--output", str(output)]
        bleu.main(arguments + ["--lowercase"] * config.score.lowercase)


STAGES = {"train": train, "average": average, "translate": translate, "score": score}


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Declares the options that choose a run, started or not."""
    parser.add_argument("--recipe", required=True, help=f"one of: {', '.join(choices('recipe'))}")
    parser.add_argument("--norm", default="power", help=f"one of: {', '.join(choices('norm'))} (default: power)")
    parser.add_argument("--seed", type=int, default=1, help="(default: 1)")
    parser.add_argument("--hardware", default="cpu", help=f"one of: {', '.join(choices('hardware'))} (default: cpu)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    parser.add_argument(
        "--override", action="append", default=[], metavar="KEY=VALUE", help="Hydra override, may be repeated"
    )


def main() -> None:
    """The command line: a stage, or ``show`` to print one value of a configuration."""
    parser = argparse.ArgumentParser(prog="python -m fairseq_powernorm.launch", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, stage in STAGES.items():
        verb = verbs.add_parser(name, help=stage.__doc__.splitlines()[0], description=stage.__doc__)
        if name == "train":
            add_run_options(verb)
            verb.add_argument("--dry-run", action="store_true", help="print the command and stop")
        else:
            verb.add_argument("--run", type=Path, required=True, help="the run's folder, RUNS/RECIPE/NORM/seedN")
    show = verbs.add_parser("show", help="print one value of a configuration, lists separated by commas")
    add_run_options(show)
    show.add_argument("--key", required=True, help="such as recipe.prepare")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if arguments.verb not in ("train", "show"):
        folder = arguments.run.absolute()
        STAGES[arguments.verb](load_config(folder), folder)
        return
    config = compose_run(arguments.recipe, arguments.norm, arguments.hardware, arguments.seed, arguments.override)
    folder = run_folder(config, arguments.runs.absolute())
    if arguments.verb == "show":
        value = str(folder) if arguments.key == "folder" else OmegaConf.select(config, arguments.key)
        if value is None:
            raise ValueError(f"the configuration has no {arguments.key}")
        sys.stdout.write((value if isinstance(value, str) else ",".join(map(str, value))) + "\n")
    elif arguments.dry_run:
        sys.stdout.write(execution.shell_command("train", train_arguments(config, folder)) + "\n")
    else:
        train(config, folder)


if __name__ == "__main__":
    run_command_line(main)
