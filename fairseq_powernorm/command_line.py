"""The console scripts ``powernorm-train`` and the like: fairseq's command with ``--user-dir`` filled in.

They also look at what the command is about to read, so that a missing dictionary or a damaged checkpoint ends with
one line; stock ``fairseq-…`` with ``--user-dir fairseq_powernorm`` does the same work and shows a traceback. And an
interrupted ``powernorm-train`` goes on as if it had not been: with the same batches, and the same count of epochs
without improvement (``--patience``); fairseq-train forgets both. A last checkpoint that is damaged gives way to the
newest whole one.
"""

import functools
import importlib
import logging
import os
import sys
from pathlib import Path
from types import ModuleType

from .checkpoints.io import load_checkpoint
from .checkpoints.resume import read_patience, repair_last_checkpoint
from .files import run_command_line
from .kernels.backend import mode

logger = logging.getLogger(__name__)

USER_DIR = str(Path(__file__).resolve().parent)


def with_user_dir(arguments: list[str]) -> list[str]:
    """The arguments with ``--user-dir`` of this package behind them, unless they name one."""
    if any(argument.split("=")[0] == "--user-dir" for argument in arguments):
        return arguments
    return [*arguments, "--user-dir", USER_DIR]


def option(arguments: list[str], name: str) -> str | None:
    """The value of ``--name VALUE`` or ``--name=VALUE``, the last one given, or None."""
    value = None
    for position, argument in enumerate(arguments):
        if argument == name and position + 1 < len(arguments):
            value = arguments[position + 1]
        elif argument.startswith(f"{name}="):
            value = argument.split("=", 1)[1]
    return value


def check_inputs(arguments: list[str]) -> None:
    """Looks at the data folder and the checkpoints that the arguments name, and at the variable that chooses kernels.

    Raises:
        ValueError: a data folder without dictionaries, a damaged or foreign checkpoint, or a value that the variable
            does not take.
        FileNotFoundError: no such checkpoint.
    """
    mode()
    if arguments and not arguments[0].startswith("-"):
        folder = Path(arguments[0].split(":")[0])
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such data folder")
        if not any(folder.glob("dict.*.txt")):
            raise ValueError(f"{folder} holds no dict.LANGUAGE.txt; is it the output of fairseq-preprocess?")
    for path in (option(arguments, "--path") or "").split(":"):
        if path:
            load_checkpoint(path)


def restore_patience(cli: ModuleType, arguments: list[str]) -> None:
    """Gives ``fairseq_cli.train`` back the state of its early stopping, which is in no checkpoint.

    fairseq keeps it in two attributes of a function, and counts from 0 again after a restart.
    """
    maximize = "--maximize-best-checkpoint-metric" in arguments
    state = read_patience(option(arguments, "--save-dir") or "checkpoints", maximize)
    if state is not None:
        cli.should_stop_early.best, cli.should_stop_early.num_runs = state.best, state.validations_since
        logger.info("early stopping goes on: best %s, %d validations since", state.best, state.validations_since)


def keep_batches_of_the_first_epoch() -> None:
    """Makes a restarted training go through the very batches that it began with.

    fairseq makes its batches once, and draws the order of equally long sentences by the seed plus the epoch that the
    process begins with. A training that is started again in epoch 3 so has other batches from there on, and ends with
    another model. Here every start draws by the first epoch, as an undisturbed training does; where fairseq makes new
    batches in every epoch, nothing changes.
    """
    task_class = importlib.import_module("fairseq.tasks.fairseq_task").FairseqTask
    stock = task_class.get_batch_iterator

    @functools.wraps(stock)
    def get_batch_iterator(self, dataset, *args, epoch=1, **options):
        made_once = self.can_reuse_epoch_itr(dataset) and not (
            options.get("disable_iterator_cache") or options.get("update_epoch_batch_itr")
        )
        if not made_once or dataset in self.dataset_to_epoch_iter:
            return stock(self, dataset, *args, epoch=epoch, **options)
        iterator = stock(self, dataset, *args, epoch=1, **options)
        iterator.epoch = epoch
        dataset.set_epoch(epoch)
        return iterator

    task_class.get_batch_iterator = get_batch_iterator


def run(program: str) -> None:
    """Runs ``fairseq-PROGRAM`` on this process's arguments."""
    arguments = sys.argv[1:]
    if not {"--help", "-h"} & set(arguments):
        run_command_line(lambda: check_inputs(arguments))
    cli = importlib.import_module(f"fairseq_cli.{program}")
    if program == "train":
        keep_batches_of_the_first_epoch()
        if not option(arguments, "--restore-file") and os.environ.get("WORLD_SIZE", "1") == "1":
            # Of several processes each would repair it while the others read it.
            run_command_line(lambda: repair_last_checkpoint(option(arguments, "--save-dir") or "checkpoints"))
        if option(arguments, "--patience") and not option(arguments, "--restore-file"):
            run_command_line(lambda: restore_patience(cli, arguments))
    importlib.import_module("fairseq_powernorm.transformer")  # the package is loaded, so --user-dir will not do it
    if program == "validate" and option(arguments, "--task") is None:
        arguments = [*arguments, "--task", "translation"]  # fairseq-validate has no default
    sys.argv[1:] = with_user_dir(arguments)
    cli.cli_main()


def train() -> None:
    """``powernorm-train``: fairseq-train with the plugin."""
    run("train")


def generate() -> None:
    """``powernorm-generate``: fairseq-generate with the plugin."""
    run("generate")


def interactive() -> None:
    """``powernorm-interactive``: fairseq-interactive with the plugin."""
    run("interactive")


def validate() -> None:
    """``powernorm-validate``: fairseq-validate with the plugin."""
    run("validate")


PROGRAMS = {"train": train, "generate": generate, "interactive": interactive, "validate": validate}

if __name__ == "__main__":  # `python -m fairseq_powernorm.command_line train …`, as torchrun starts it
    PROGRAMS[sys.argv.pop(1)]()
