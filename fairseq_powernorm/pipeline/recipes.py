"""The plans of whole recipes and of the studies: which steps lead from raw text to a table."""

import argparse
import itertools
import math
import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from ..files import check_room_to_grow, read_lines
from .commands import is_language_model, launcher_of, prepare_words, stage_commands
from .configuration import ROOT, check_choice, compose_run, config_files, run_folder
from .inputs import check_average, check_devices
from .plan import Command, Job, Jobs, Plan, cores
from .run_folder import load_config, varied
from .stages import AFTER_AVERAGE, STAGES


def with_overrides(overrides: Sequence[str]) -> list[str]:
    """``--override KEY=VALUE`` for each."""
    return [word for override in overrides for word in ("--override", override)]


def job_of(config: DictConfig, folder: Path, arguments: Sequence[str], stages: Iterable[str] = STAGES) -> Job:
    """The job of one run, or of a second ending: its stages."""
    commands = [command for stage in stages for command in stage_commands(stage, config, folder)]
    return Job(tuple(arguments), tuple(commands))


def plan_recipe(options: argparse.Namespace, command: str) -> list[Command | Jobs]:
    """Goes through a whole recipe: prepares the data, trains, averages, translates and scores every norm with every
    seed, makes the table and the chart of the losses. What is done already is skipped; an interrupted training
    continues after its last checkpoint. Names, settings, devices and the room on the disk are checked first.

    Args:
        options: of ``powernorm-run recipe``.
        command: what makes the table again.

    Raises:
        ValueError, OSError: what does not fit.
    """
    gpus, hardware, overrides = options.gpus, options.hardware or ("gpu" if options.gpus else "cpu"), options.override
    check_choice("hardware", hardware)
    if hardware == "cpu" and gpus:
        raise ValueError("--gpus goes with --hardware gpu or gpu_fp16")
    devices = 1
    if hardware != "cpu":
        gpus = gpus or 1
        batch = compose_run(options.recipe, options.norms[0], hardware, options.seeds[0], overrides).batch
        devices = min(gpus, math.ceil(batch.tokens_per_update / batch.tokens_per_device))
        overrides = [*overrides, f"hardware.devices={devices}"]
    fitting = gpus // devices if gpus else max(1, cores() // int(os.environ.get("OMP_NUM_THREADS") or 1))
    jobs, untrained = [], []
    for seed in options.seeds:  # all norms with the first one first
        for norm in options.norms:
            config = compose_run(options.recipe, norm, hardware, seed, overrides)
            folder = run_folder(config, options.runs)
            words = ["run", "--recipe", options.recipe, "--norm", norm, "--seed", str(seed), "--hardware", hardware]
            jobs.append(job_of(config, folder, [*words, "--runs", str(options.runs), *with_overrides(overrides)]))
            if not (folder / "run.json").exists():
                check_average(config)
                launcher_of(config)
                untrained.append(folder)
    if options.source and Path(config.recipe.prepare[0]).name == "prepare_demo.sh":
        raise ValueError(f"the data of {options.recipe} is generated: leave out --from")
    if untrained and not options.dry_run:
        if gpus:
            check_devices(gpus)
        check_room_to_grow(config.recipe.disk_gb * 1e9, *untrained)
    output = options.output or options.runs / options.recipe / "table"
    chosen = ["--recipe", options.recipe, "--runs", str(options.runs)]
    table = ["powernorm-run", "table", *chosen, "--output", str(output)]
    words = ["--runs", str(options.runs / options.recipe), "--force", "--command", command]
    report = Command((sys.executable, "-m", "fairseq_powernorm.report.command", *words))
    return [
        Command(
            (*prepare_words(config.recipe), *(["--from", str(options.source)] if options.source else [])), dry_run=True
        ),
        Jobs(tuple(jobs), min(options.jobs or fitting, len(jobs)), gpus, devices),
        Command((*table, *with_overrides(overrides), "--command", command)),
        Command(("powernorm-run", "curves", *chosen, "--output", f"{output}_curves")),
        *([] if is_language_model(config) else [report]),  # which is about translations
    ]


def plan_table1(options: argparse.Namespace, command: str) -> Plan:
    """Makes Table 1 of the PowerNorm paper: LN, BN, PN-V, PN, DS-Init and Fixup by one recipe over several seeds, from
    the archives to the scores, next to the paper's figures. iwslt14_de_en needs one GPU, wmt14_en_de_big several,
    multi30k_de_en hours on two CPU cores. Stopped or killed at any point, the same command continues."""
    return plan_recipe(options, command)


def plan_batch_sizes(options: argparse.Namespace, command: str) -> Plan:
    """Shows how a norm bears small batches: the same update in one pass or in several smaller ones (--update-freq), so
    that a batch statistic is taken over fewer tokens. Runs of 512 tokens a pass go to RUNS/512.

    Raises:
        ValueError, OSError: as :func:`plan_recipe`; a number of passes that does not divide the update.
    """
    check_translates(options.recipe)
    update = compose_run(options.recipe, options.norms[0], overrides=options.override).batch.tokens_per_update
    steps: list[Command | Jobs] = []
    tables = []
    for passes in options.passes:
        if update % passes:
            raise ValueError(f"{passes} passes do not divide an update of {update} tokens")
        tokens = update // passes
        own = argparse.Namespace(**vars(options))
        own.runs, own.output = options.runs / str(tokens), None
        own.override = [*options.override, f"batch.tokens_per_device={tokens}"]
        words = ["powernorm-run", "recipe", "--recipe", own.recipe, "--norms", ",".join(own.norms)]
        words += ["--seeds", ",".join(map(str, own.seeds)), "--runs", str(own.runs), *with_overrides(own.override)]
        prepare, *others = plan_recipe(own, shlex.join(words))
        steps += [*([] if steps else [prepare]), *others]
        tables.append(f"{tokens}={own.runs}/{own.recipe}/table.csv")
    output = options.output or options.runs / options.recipe
    words = [sys.executable, "-m", "fairseq_powernorm.analysis.batch_sizes", "--output-prefix", str(output)]
    return [*steps, Command((*words, "--title", options.recipe, "--force", "--command", command, *tables))]


def plan_ablation(options: argparse.Namespace, command: str) -> Plan:
    """Shows which part of PowerNorm does the work: LayerNorm; BN, PN-V and PN by their definitions and as the rows of
    Table 1, with a per-token scaling in front; PN with the scaling alone and with the warm-up alone. Every cell with
    every seed, the first seed of all cells first."""
    check_translates(options.recipe)
    output = options.output or options.runs / options.recipe / "ablation"
    words = [sys.executable, "-m", "fairseq_powernorm.analysis.ablation", "--runs", str(options.runs / options.recipe)]
    words += ["--output-prefix", str(output), "--force", "--title", options.recipe, "--command", command]
    return [*plan_recipe(argparse.Namespace(**{**vars(options), "output": None}), command), Command(tuple(words))]


def check_translates(recipe: str) -> None:
    """Raises ``ValueError`` for a language model's recipe: the studies compare BLEU."""
    if is_language_model(compose_run(recipe)):
        raise ValueError(f"{recipe} is a language model's recipe, and this study compares BLEU")


def has_statistics(config: DictConfig) -> bool:
    """Whether a norm of a run has running statistics."""
    from ..norms.registry import NORMS

    names = {
        value
        for flag, value in config.train.items()
        if re.fullmatch(r".*norm-(type|self-attn|cross-attn|ffn|ffn-inner|output)", flag)
    }
    return any(NORMS[name].statistics for name in names)


def plan_recalibration(options: argparse.Namespace, command: str) -> Plan:
    """Shows what recalibration changes: every finished run of a recipe gets a second ending, in which the running
    statistics of its average are estimated anew on training data, and is translated and scored again; a table compares
    both. Runs of norms without running statistics are left out.

    Raises:
        ValueError: no finished run.
    """
    from ..scoring.runs import run_folders

    check_translates(options.recipe)
    into = options.into or options.runs / f"recalibrated_{options.batches}"
    output = options.output or options.runs / options.recipe / f"recalibration_{options.batches}"
    if into.resolve() == options.runs.resolve():
        raise ValueError("--into is the folder of the runs themselves")
    overrides, jobs = [f"recalibrate.batches={options.batches}", *options.override], []
    for folder in run_folders(options.runs / options.recipe):
        finished = (folder / "run.json").is_file() and (folder / "averaged.pt").is_file()
        if finished and has_statistics(load_config(folder)):
            ending = into / folder.relative_to(options.runs)
            words = ["second-ending", "--run", str(folder), "--into", str(ending), *with_overrides(overrides)]
            jobs.append(job_of(varied(folder, ending, overrides), ending, words, AFTER_AVERAGE))
    if not jobs:
        raise ValueError(
            f"{options.runs / options.recipe} holds no run with running statistics that is trained and averaged"
        )
    changes = ", ".join([f"recalibrated on {options.batches} batches", *options.override])
    compare = [sys.executable, "-m", "fairseq_powernorm.scoring.comparison", "--force", "--command", command]
    compare += ["--before", str(options.runs / options.recipe), "--after", str(into / options.recipe)]
    compare += ["--output-prefix", str(output), "--title", f"{options.recipe}: {changes}"]
    return [Jobs(tuple(jobs), min(options.jobs or 1, len(jobs))), Command(tuple(compare))]


def describe_recipe(name: str) -> str:
    """What a recipe is, by the comment at the head of its file, whether its data is prepared, and the room of a run."""
    lines = read_lines(config_files("recipe")[name])
    comment = itertools.takewhile(lambda line: line.startswith("# "), lines[1:])  # after Hydra's own first line
    recipe = compose_run(name).recipe
    prepare = shlex.join(prepare_words(recipe))
    ready = (ROOT / recipe.binarized).is_dir()
    data = f"{recipe.binarized}, prepared" if ready else f"not prepared yet: {prepare}"
    words = [*(line.removeprefix("# ") for line in comment), f"data: {data}", f"a run takes {recipe.disk_gb} GB"]
    return "\n".join([name, *(f"    {line}" for line in words)]) + "\n"
