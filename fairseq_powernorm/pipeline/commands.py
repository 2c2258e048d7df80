"""The command lines of a run: fairseq's arguments from its configuration, and each stage as one would type it."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ..files import read_lines
from . import slurm
from .configuration import IN_CLONE, PACKAGE, ROOT, SHIPPED, tokens_warning

RECORD_FOLDER = "norm_record"
"""In a run's folder: the record of its norms."""


def to_arguments(flags: DictConfig | dict[str, Any]) -> list[str]:
    """Flags as a command line: a value becomes ``--flag value``, True a bare ``--flag``, False and None nothing. An
    installed package is named by its path: fairseq looks for ``--user-dir fairseq_powernorm`` in the working folder."""
    arguments = []
    for flag, value in flags.items():
        if value is None or value is False:
            continue
        arguments.append(f"--{flag!s}")
        if flag == "user-dir" and value == PACKAGE.name and not IN_CLONE:
            value = PACKAGE
        if value is not True:
            arguments.append(str(value))
    return arguments


def is_language_model(config: DictConfig) -> bool:
    """Whether a recipe's model goes on with a text, rather than translates: then scores are perplexities."""
    return config.recipe.get("task") == "language_modeling"


def prepare_words(recipe: DictConfig) -> list[str]:
    """The command that prepares a recipe's data; ``powernorm-run prepare NAME …`` for a script that came in a wheel."""
    program, *words = map(str, recipe.prepare)
    if (ROOT / program).exists() or not (SHIPPED / program).exists():
        return [program, *words]
    return ["powernorm-run", "prepare", Path(program).stem.removeprefix("prepare_"), *words]


def data_arguments(config: DictConfig) -> list[str]:
    """The recipe's data and languages, as every command of fairseq takes them."""
    if is_language_model(config):
        return [config.recipe.binarized, "--task", "language_modeling"]
    return [config.recipe.binarized, "--source-lang", config.recipe.source, "--target-lang", config.recipe.target]


def train_arguments(config: DictConfig, folder: str | Path) -> list[str]:
    """The arguments of ``fairseq-train`` for a run whose checkpoints go to ``folder``/checkpoints, and what its norms
    see and TensorBoard's files, if the configuration says so, to ``folder``/norm_record and ``folder``/tensorboard."""
    words = [*data_arguments(config), *to_arguments(config.train), "--save-dir", str(Path(folder) / "checkpoints")]
    if config.get("record"):
        words += ["--norm-record", str(Path(folder) / RECORD_FOLDER)]
        words += ["--norm-record-interval", str(config.record_interval)]
    if config.get("track") == "tensorboard":
        words += ["--tensorboard-logdir", str(Path(folder) / "tensorboard")]
    return words


def subset_of(config: DictConfig, test_set: str) -> str:
    """What fairseq calls a test set: ``test``, ``test1``, ``test2``, … by its place among those that fairseq-preprocess
    was given. That is its line in the data's ``test_sets.txt``; data without that file are taken to have the recipe's
    order. The texts of a language model's recipe have fairseq's names.

    Raises:
        ValueError: the recipe or its data has no such test set.
    """
    if is_language_model(config):
        return test_set
    test_sets, record = list(config.recipe.test_sets), ROOT / config.recipe.binarized / "test_sets.txt"
    if test_set not in test_sets:
        raise ValueError(f"unknown test set {test_set!r}; the recipe has {', '.join(test_sets)}")
    if record.is_file():
        test_sets = read_lines(record)
    if test_set not in test_sets:
        raise ValueError(f"{record.parent} has no test set {test_set!r}; it has {', '.join(test_sets)}")
    return f"test{test_sets.index(test_set) or ''}"


def generate_arguments(config: DictConfig, checkpoint: str | Path, test_set: str) -> list[str]:
    """The arguments of ``fairseq-generate`` for one of the recipe's test sets.

    Raises:
        ValueError: the recipe or its data has no such test set.
    """
    subset = subset_of(config, test_set)
    flags = to_arguments(config.generate)
    return [*data_arguments(config), *flags, "--path", str(checkpoint), "--gen-subset", subset]


def model_path(config: DictConfig, folder: Path) -> Path:
    """The checkpoint that translates: ``recalibrated.pt`` where the recipe recalibrates, else ``averaged.pt``."""
    return folder / ("recalibrated.pt" if config.recalibrate.batches else "averaged.pt")


def recalibrate_arguments(config: DictConfig, folder: Path) -> list[str]:
    """The arguments of ``powernorm-recalibrate`` for a run's average."""
    return [
        *("--checkpoint", str(folder / "averaged.pt"), "--data", config.recipe.binarized),
        *("--batches", str(config.recalibrate.batches), "--max-tokens", str(config.train["max-tokens"])),
        *("--seed", str(config.seed), *(["--cpu"] if config.train.get("cpu") else [])),
        *("--output", str(model_path(config, folder))),
    ]


def score_arguments(config: DictConfig, folder: Path, test_set: str) -> list[list[str]]:
    """The arguments of ``scoring.bleu``, one list for each of the recipe's protocols, the output's path at the end."""
    from ..scoring.protocols import protocol_named, text_suffix

    commands = []
    for protocol in (config.score.protocol, *config.score.get("further", ())):
        main = protocol == config.score.protocol
        suffix = text_suffix(protocol_named(protocol), protocol_named(config.score.protocol))
        hypothesis, reference = (folder / test_set / f"{side}{suffix}.txt" for side in ("hypothesis", "reference"))
        output = folder / test_set / ("score.json" if main else f"score.{protocol}.json")
        words = ["--hypothesis", hypothesis, "--reference", reference, "--protocol", protocol, "--output", output]
        commands.append([str(word) for word in words])
    return commands


def evaluation_protocols(config: DictConfig) -> dict[str, int]:
    """How a language model's text is cut: by protocol, the tokens at the beginning of each segment that are context
    alone. ``segments`` has none, as Ma et al. 2019, but for the last segment, which is kept; ``context`` has
    ``score.context_window``."""
    window = config.score.get("context_window") or 0
    return {"segments": 0, **({"context": window} if window else {})}


def evaluate_arguments(config: DictConfig, checkpoint: str | Path, test_set: str, context_window: int) -> list[str]:
    """The arguments of ``fairseq-eval-lm`` for one of the recipe's texts."""
    arguments = [*data_arguments(config), *to_arguments(config.generate), "--path", str(checkpoint)]
    return [*arguments, "--gen-subset", subset_of(config, test_set), "--context-window", str(context_window)]


def evaluation_commands(config: DictConfig, folder: Path) -> list[str]:
    """The commands that score a language model, as one would type them."""
    return [
        fairseq_command("eval_lm", evaluate_arguments(config, model_path(config, folder), test_set, window))
        for test_set in config.recipe.test_sets
        for window in evaluation_protocols(config).values()
    ]


def launcher_of(config: DictConfig, node_rank: int = 0) -> list[str]:
    """The arguments of torchrun for a run's training, one process a device; none for a single device.

    Args:
        config: ``hardware.devices`` of all ``hardware.nodes`` together, ``hardware.master``, HOST:PORT of node 0, which
            several nodes need; Slurm's first machine unless given.
        node_rank: which of the nodes this is.

    Raises:
        ValueError: devices that do not divide among the nodes, or several nodes without a master.
    """
    devices, nodes = config.hardware.devices, config.hardware.nodes
    if nodes < 1 or devices % nodes:
        raise ValueError(f"{devices} devices do not divide among {nodes} nodes")
    if not 0 <= node_rank < nodes:
        raise ValueError(f"expected a node rank from 0 to {nodes - 1}, got {node_rank}")
    if devices == 1:
        return []
    if nodes == 1:
        return ["--standalone", "--nproc-per-node", str(devices)]
    master = config.hardware.get("master") or slurm.master() or ""
    host, _, port = master.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(
            f"{nodes} nodes need HOST:PORT of the first as hardware.master, got {master!r}; where srun starts them, "
            "Slurm says it"
        )
    each = ["--nnodes", str(nodes), "--node-rank", str(node_rank), "--nproc-per-node", str(devices // nodes)]
    return [*each, "--master-addr", host, "--master-port", port]


def fairseq_command(program: str, arguments: Sequence[str], launcher: Sequence[str] = ()) -> str:
    """A fairseq command as one would type it, quoted for a shell: ``fairseq-train …``, or with the arguments of
    torchrun in ``launcher``, ``torchrun … -m fairseq_cli.train …``."""
    start = (
        ["torchrun", *launcher, "-m", f"fairseq_cli.{program}"]
        if launcher
        else [f"fairseq-{program.replace('_', '-')}"]
    )
    return shlex.join([*start, *arguments])


def stage_commands(name: str, config: DictConfig, folder: Path, node_rank: int = 0) -> list[str]:
    """The commands of one stage of :data:`~.stages.STAGES` as one would type them; none where the recipe leaves it out.
    What is done between commands is said in lines that begin with ``#``. Nothing is read or written.

    Args:
        name: the stage.
        config: the run's configuration.
        folder: the run's folder.
        node_rank: which of several machines the training's command is for.
    """
    if name == "train":
        warning = tokens_warning(config)
        command = fairseq_command("train", train_arguments(config, folder), launcher_of(config, node_rank))
        return [*([] if warning is None else [f"# {warning}"]), command]
    if name == "average":
        chosen = ["--folder", f"{folder}/checkpoints", "--last", str(config.average.last), "--by", config.average.by]
        return [shlex.join(["powernorm-average", *chosen, "--output", f"{folder}/averaged.pt"])]
    if name == "recalibrate":
        if not config.recalibrate.batches:
            return []
        return [shlex.join(["powernorm-recalibrate", *recalibrate_arguments(config, folder)])]
    if is_language_model(config) and name in ("translate", "score"):
        return evaluation_commands(config, folder) if name == "score" else []
    if name == "translate":
        commands = []
        for test_set in config.recipe.test_sets:
            arguments = generate_arguments(config, model_path(config, folder), test_set)
            commands.append(fairseq_command("generate", arguments))
            commands.append(
                f"# {folder}/{test_set}: hypothesis.txt and reference.txt, from its output and the raw text"
            )
        return commands
    return [
        shlex.join(["python", "-m", "fairseq_powernorm.scoring.bleu", *arguments])
        for test_set in config.recipe.test_sets
        for arguments in score_arguments(config, folder, test_set)
    ]
