"""The command line of recipes: a stage of one run, a value of a configuration, a look ahead, or the table.

    python -m fairseq_powernorm.launch train --recipe multi30k_de_en --norm power --seed 1
    python -m fairseq_powernorm.launch translate --run runs/multi30k_de_en/power/seed1

With ``--dry-run`` a stage prints its commands and does nothing.
"""

import argparse
import logging
import os
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from .dry_run import stage_commands
from .execution import check_devices
from .files import check_room_to_grow, run_command_line
from .recipes import choices, compose_run, run_folder
from .settings import load_config, vary_run
from .stages import STAGES, join_training, run_stage


def add_run_options(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Declares the options that choose a run, started or not."""
    parser.add_argument("--recipe", required=required, help=f"one of: {', '.join(choices('recipe'))}")
    parser.add_argument("--norm", default="power", help=f"one of: {', '.join(choices('norm'))} (default: power)")
    parser.add_argument("--seed", type=int, default=1, help="(default: 1)")
    parser.add_argument("--hardware", default="cpu", help=f"one of: {', '.join(choices('hardware'))} (default: cpu)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    parser.add_argument(
        "--override", action="append", default=[], metavar="KEY=VALUE", help="Hydra override, may be repeated"
    )


def chosen_run(arguments: argparse.Namespace) -> tuple[DictConfig, Path]:
    """The configuration and the folder of the run that the options choose.

    Raises:
        ValueError: an unknown name, an override that does not apply, or a folder without a run.
    """
    if getattr(arguments, "run", None) is not None:
        folder = arguments.run.absolute()
        return load_config(folder), folder
    if arguments.recipe is None:
        raise ValueError("give --run, the folder of a run, or --recipe")
    config = compose_run(arguments.recipe, arguments.norm, arguments.hardware, arguments.seed, arguments.override)
    return config, run_folder(config, arguments.runs.absolute())


def show(config: DictConfig, folder: Path, key: str) -> str:
    """One value of a configuration as a line, lists separated by commas; ``folder`` is the run's."""
    value = str(folder) if key == "folder" else OmegaConf.select(config, key)
    if value is None:
        raise ValueError(f"the configuration has no {key}")
    return ",".join(map(str, value)) if OmegaConf.is_list(value) else str(value)


def table_arguments(config: DictConfig) -> list[str]:
    """What ``scoring.table`` has to know of a recipe: the figures that others published for it."""
    published = config.get("published")
    if published is None:
        return []
    figures = ",".join(f"{norm}={bleu}" for norm, bleu in published.bleu.items())
    return ["--published", figures, "--published-source", published.source]


def make_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = argparse.ArgumentParser(prog="python -m fairseq_powernorm.launch", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, stage in STAGES.items():
        verb = verbs.add_parser(name, help=stage.__doc__.splitlines()[0], description=stage.__doc__)
        add_run_options(verb, required=name == "train")
        if name == "train":
            verb.add_argument(
                "--node-rank",
                type=int,
                default=int(os.environ.get("SLURM_NODEID", "0")),
                help="which of hardware.nodes machines this is (default: Slurm's, or 0)",
            )
        else:
            verb.add_argument("--run", type=Path, help="the run's folder, RUNS/RECIPE/NORM/seedN, instead of --recipe")
        verb.add_argument("--dry-run", action="store_true", help="print the commands and stop")
    verb = verbs.add_parser("show", help="print one value of a configuration, lists separated by commas")
    add_run_options(verb)
    verb.add_argument("--key", required=True, help="such as recipe.prepare; folder is the run's")
    verb = verbs.add_parser("vary", help="a folder with a run's average and other settings behind it")
    verb.add_argument("--run", type=Path, required=True, help="the run's folder, RUNS/RECIPE/NORM/seedN")
    verb.add_argument("--into", type=Path, required=True, help="the new folder, OTHER_RUNS/RECIPE/NORM/seedN")
    verb.add_argument(
        "--override", action="append", default=[], metavar="SECTION.KEY=VALUE", help="of recalibrate, generate or score"
    )
    verb = verbs.add_parser("preflight", help="end with an error where the disk or the devices do not do for runs")
    add_run_options(verb)
    verb.add_argument("--gpus", type=int, default=0, help="CUDA devices that this machine has to have (default: 0)")
    verb.add_argument("folders", nargs="+", help="the runs' folders, there or not; a trained run needs no more")
    verb = verbs.add_parser("table", help="the table of a recipe's runs: scoring.table with the published figures")
    add_run_options(verb)
    verb.add_argument("--output-prefix", required=True, help="writes PREFIX.md and PREFIX.csv, replacing them")
    verb.add_argument("--command", help="what reproduces the table")
    return parser


def main() -> None:
    """Runs one verb; see ``--help``."""
    arguments = make_parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if arguments.verb == "vary":
        vary_run(arguments.run.absolute(), arguments.into.absolute(), arguments.override)
        return
    config, folder = chosen_run(arguments)
    if arguments.verb == "show":
        sys.stdout.write(show(config, folder, arguments.key) + "\n")
    elif arguments.verb == "preflight":
        untrained = [path for path in arguments.folders if not (Path(path) / "run.json").exists()]
        if untrained:
            check_devices(arguments.gpus)
            check_room_to_grow(config.recipe.disk_gb * 1e9, *untrained)
    elif arguments.verb == "table":
        from .scoring import table

        options = ["--runs", str(arguments.runs / config.recipe.name), "--output-prefix", arguments.output_prefix]
        command = ["--command", arguments.command] if arguments.command else []
        table.main([*options, "--force", *table_arguments(config), *command])
    elif arguments.dry_run:
        node_rank = getattr(arguments, "node_rank", 0)
        sys.stdout.writelines(f"{command}\n" for command in stage_commands(arguments.verb, config, folder, node_rank))
    elif arguments.verb == "train" and arguments.node_rank > 0:
        join_training(config, folder, arguments.node_rank)
    else:
        run_stage(arguments.verb, config, folder)


if __name__ == "__main__":
    run_command_line(main)
