"""The console scripts ``powernorm-train`` and the like: fairseq's command with ``--user-dir`` filled in.

They also look at what the command is about to read, so that a missing dictionary or a damaged checkpoint ends with
one line, before fairseq is imported; stock ``fairseq-…`` with ``--user-dir fairseq_powernorm`` does the same work and
shows a traceback.
"""

import functools
import importlib
import logging
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from .checkpoints.io import load_checkpoint
from .files import run_command_line
from .kernels.operators import mode

SPECIAL_TYPES = 4  # of every dictionary of fairseq's: begin, padding, end, unknown
HELP = {"--help", "-h"}
USER_DIR = str(Path(__file__).resolve().parent)


def with_user_dir(arguments: list[str]) -> list[str]:
    """The arguments with ``--user-dir`` of this package behind them, unless they name one."""
    if any(argument.split("=")[0] == "--user-dir" for argument in arguments):
        return arguments
    return [*arguments, "--user-dir", USER_DIR]


def with_task(arguments: list[str]) -> list[str]:
    """The arguments of fairseq-validate, which has no default, with a task by the data's dictionaries, unless they
    name one."""
    if option(arguments, "--task") is not None:
        return arguments
    folder = Path(arguments[0].split(":")[0]) if arguments else Path()
    return [*arguments, "--task", "language_modeling" if is_of_one_language(folder) else "translation"]


def option(arguments: list[str], name: str) -> str | None:
    """The value of ``--name VALUE`` or ``--name=VALUE``, the last one given, or None."""
    value = None
    for position, argument in enumerate(arguments):
        if argument == name and position + 1 < len(arguments):
            value = arguments[position + 1]
        elif argument.startswith(f"{name}="):
            value = argument.split("=", 1)[1]
    return value


def is_of_one_language(folder: Path) -> bool:
    """Whether data are a language model's: fairseq-preprocess --only-source names no language."""
    return (folder / "dict.txt").is_file()


def check_dictionary(dictionary: Path, path: str, model: Mapping) -> None:
    """Raises ``ValueError`` if a language model was trained with a dictionary of another size."""
    with open(dictionary, encoding="utf-8") as stream:
        types = SPECIAL_TYPES + sum(1 for _ in stream)
    embedding = model.get("decoder.embed_tokens.weight")
    if embedding is not None and len(embedding) != types:
        raise ValueError(
            f"{dictionary} has {types} types, the model of {path} was trained with {len(embedding)}; is it the data "
            "that the model was trained on?"
        )


def check_inputs(arguments: list[str]) -> None:
    """Looks at the data folder and the checkpoints that the arguments name, and at the variable that chooses kernels.

    Raises:
        ValueError: a data folder without dictionaries, or with another than a language model's, a damaged or foreign
            checkpoint, or a value that the variable does not take.
        FileNotFoundError: no such checkpoint.
    """
    mode()
    folder = None
    if arguments and not arguments[0].startswith("-"):
        folder = Path(arguments[0].split(":")[0])
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such data folder")
        if not any(folder.glob("dict.*.txt")) and not is_of_one_language(folder):
            raise ValueError(
                f"{folder} holds no dict.LANGUAGE.txt, nor dict.txt of a language model; is it the output of "
                "fairseq-preprocess?"
            )
    for path in (option(arguments, "--path") or "").split(":"):
        if path:
            model = load_checkpoint(path, mmap=True)["model"]
            if folder is not None and is_of_one_language(folder):
                check_dictionary(folder / "dict.txt", path, model)


def import_command(program: str) -> ModuleType:
    """``fairseq_cli.PROGRAM``, with the logging of ``fairseq-PROGRAM``: its commands set that up before they import
    fairseq, which else gives the root logger a handler of its own, as it has here."""
    handlers, logging.root.handlers[:] = logging.root.handlers[:], []
    cli = importlib.import_module(f"fairseq_cli.{program}")
    logging.root.handlers[:] = logging.root.handlers or handlers
    return cli


def run(program: str) -> None:
    """Runs ``fairseq-PROGRAM`` on this process's arguments."""
    arguments = sys.argv[1:]
    if not HELP & set(arguments):
        run_command_line(lambda: check_inputs(arguments))
    cli = import_command(program)
    if program == "train" and HELP & set(arguments) and option(arguments, "--arch"):
        given = [argument for argument in arguments if argument not in HELP]
        importlib.import_module(".transformer.training_help", __package__).print_help(with_user_dir(given))
    if program == "validate":
        arguments = with_task(arguments)
    sys.argv[1:] = with_user_dir(arguments)
    try:
        cli.cli_main()
    except KeyboardInterrupt:
        goes_on = "; the same command goes on after the last checkpoint" if program == "train" else ""
        sys.stderr.write(f"powernorm-{program.replace('_', '-')}: stopped{goes_on}\n")
        sys.exit(128 + signal.SIGINT)


train = functools.partial(run, "train")
generate = functools.partial(run, "generate")
interactive = functools.partial(run, "interactive")
validate = functools.partial(run, "validate")
eval_lm = functools.partial(run, "eval_lm")


if __name__ == "__main__":  # python -m fairseq_powernorm.command_line train …, as torchrun starts it
    run(sys.argv.pop(1))
