"""The commands of a run's stages, as one would type them; nothing is read or written."""

import shlex
from pathlib import Path

from omegaconf import DictConfig

from . import execution
from .recipes import generate_arguments, tokens_warning, train_arguments
from .stages import launcher_of, model_path, score_arguments


def stage_commands(name: str, config: DictConfig, folder: Path, node_rank: int = 0) -> list[str]:
    """The commands of one stage of :data:`fairseq_powernorm.stages.STAGES`; none where the recipe leaves it out. What
    is done between commands stands in lines that begin with ``#``.

    Args:
        name: the stage.
        config: the run's configuration.
        folder: the run's folder.
        node_rank: which of several machines the training's command is for.
    """
    if name == "train":
        warning = tokens_warning(config)
        command = execution.shell_command("train", train_arguments(config, folder), launcher_of(config, node_rank))
        return [*([] if warning is None else [f"# {warning}"]), command]
    if name == "average":
        chosen = ["--folder", f"{folder}/checkpoints", "--last", str(config.average.last), "--by", config.average.by]
        return [shlex.join(["powernorm-average", *chosen, "--output", f"{folder}/averaged.pt"])]
    if name == "recalibrate":
        if not config.recalibrate.batches:
            return []
        chosen = ["--checkpoint", f"{folder}/averaged.pt", "--data", config.recipe.binarized]
        chosen += ["--batches", str(config.recalibrate.batches), "--max-tokens", str(config.train["max-tokens"])]
        chosen += ["--seed", str(config.seed), "--output", str(model_path(config, folder))]
        return [shlex.join(["powernorm-recalibrate", *chosen])]
    if name == "translate":
        model = model_path(config, folder)
        commands = []
        for test_set in config.recipe.test_sets:
            commands.append(execution.shell_command("generate", generate_arguments(config, model, test_set)))
            commands.append(
                f"# {folder}/{test_set}: hypothesis.txt and reference.txt, from its output and the raw text"
            )
        return commands
    return [
        execution.python_command("fairseq_powernorm.scoring.bleu", arguments)
        for test_set in config.recipe.test_sets
        for arguments in score_arguments(config, folder, test_set)
    ]
