"""``powernorm-run VERB …``: whole recipes, single stages of a run, tables, charts and studies.

The scripts of scripts/ are these verbs by other names. Each has ``--help``; ``--dry-run`` prints every command.
"""

import argparse
import inspect
import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from omegaconf import DictConfig

from ..options import Parser, folder, listed, whole_number
from . import plan, provenance, recipes, stages
from .commands import is_language_model, stage_commands
from .configuration import ROOT, SHIPPED, choices, compose_run, run_folder
from .processes import exit_on_sigterm
from .run_folder import check_same_run, load_config, vary_run

logger = logging.getLogger(__name__)

SCRIPT = os.environ.get("POWERNORM_SCRIPT")  # of scripts/, where one of them was called
NORMS = "layer,batch,pn-v,power"
TABLE_1 = f"{NORMS},ds,fixup"
CELLS = "layer,batch-plain,batch,pn-v-plain,pn-v,power-plain,power-warmup-only,power-scaling-only,power"
HELP = {"-h", "--help"}
Options = argparse.Namespace


def one_run(options: Options) -> None:
    """One stage of a run, or all of them."""
    if options.run is not None and (options.recipe or options.override):
        raise ValueError("--run names a run with all its settings; leave out --recipe and --override")
    if options.run is not None:
        config, own = load_config(options.run), options.run
    elif options.recipe is None:
        raise ValueError("--run is missing (or --recipe, --norm and --seed); see --help")
    else:
        config = compose_run(options.recipe, options.norm, options.hardware, options.seed, options.override)
        own = run_folder(config, options.runs)
        if not options.dry_run:
            check_same_run(config, own)
    names = list(stages.STAGES) if options.verb == "run" else [options.verb]
    node_rank = stages.node_rank_of(config, options.node_rank)
    if options.dry_run:
        for name in names:
            sys.stdout.writelines(f"{command}\n" for command in stage_commands(name, config, own, node_rank))
    else:
        stages.run_stages(config, own, names, node_rank)


def second_ending(options: Options) -> None:
    """Goes through everything after a run's average once more, with other settings."""
    config = vary_run(options.run, options.into, options.override)
    stages.run_stages(config, options.into, stages.AFTER_AVERAGE)


def planned(make_plan: Callable[[Options, str], plan.Plan]) -> Callable[[Options], None]:
    """The verb of a plan: prints it or carries it out."""

    def verb(options: Options) -> None:
        steps = make_plan(options, this_command())
        if options.dry_run:
            plan.print_plan(steps)
            return
        began = time.monotonic()
        try:
            plan.Executor().execute(steps)
        except SystemExit:  # SIGTERM
            logger.info("stopped; the same command continues where the runs are")
            raise
        logger.info("done in %d min %02d s", *divmod(int(time.monotonic() - began), 60))

    verb.__doc__ = make_plan.__doc__
    return verb


def this_command() -> str:
    """How this very command is typed, without ``--dry-run``, for records."""
    words = [SCRIPT, *sys.argv[2:]] if SCRIPT else ["powernorm-run", *sys.argv[1:]]
    return shlex.join(word for word in words if word != "--dry-run")


def table(options: Options) -> None:
    """Makes the table of a recipe's finished runs: BLEU by norm, the difference to LayerNorm with sacreBLEU's paired
    bootstrap, seeds, updates, time; and a bar chart. Of language models: test perplexity by norm."""
    from ..analysis import bar_chart
    from ..scoring import perplexity_table, table

    config, output = compose_run(options.recipe, overrides=options.override), options.output
    output = output or options.runs / options.recipe / "table"
    words = ["--runs", str(options.runs / options.recipe), "--output-prefix", str(output), *published(config)]
    if updates := compose_run(options.recipe).train.get("max-update"):
        words += ["--recipe-updates", str(updates)]
    if is_language_model(config):
        perplexity_table.main([*words, "--force", "--command", options.command or this_command()])
        logger.info("wrote %s.md and %s.csv", output, output)
        return
    table.main([*words, "--force", "--command", options.command or this_command()])
    bar_chart.main(["--table", f"{output}.csv", "--output", f"{output}.png", "--title", options.recipe, "--force"])
    logger.info("wrote %s.md, %s.csv and %s.png", output, output, output)


def published(config: DictConfig) -> list[str]:
    """What ``scoring.table`` has to know of a recipe: the figures that others published for it."""
    if (figures := config.get("published")) is None:
        return []
    scores = figures.perplexity if is_language_model(config) else figures.bleu
    listed = ",".join(f"{norm}={figure}" for norm, figure in scores.items())
    test_set = ["--published-test-set", figures.test_set] if "test_set" in figures else []
    notes = [word for row, note in figures.get("notes", {}).items() for word in ("--published-note", f"{row}={note}")]
    return ["--published", listed, "--published-source", figures.source, *test_set, *notes]


def list_recipes(options: Options) -> None:
    """Lists the recipes: what each is, whether its data is prepared, the room that a run takes."""
    for name in choices("recipe"):
        sys.stdout.write(recipes.describe_recipe(name))


def prepare(options: Options) -> NoReturn:
    """Prepares data: NAME [OPTION...] of demo, multi30k, iwslt14_de_en, wmt14_en_de, parallel_text (text of your own),
    language_model and cifar10. Becomes the script prepare_NAME.sh, whose --help names its options."""
    name, *words = options.words
    script = SHIPPED / "scripts" / f"prepare_{name}.sh"
    if not script.is_file():
        known = sorted(path.stem.removeprefix("prepare_") for path in script.parent.glob("prepare_*.sh"))
        raise ValueError(f"no preparation is called {name!r}; there are {', '.join(known)}")
    os.execve(script, [script, *words], {**os.environ, "POWERNORM_PYTHON": sys.executable})


def curves(options: Options) -> None:
    """Draws training and validation loss of a recipe's runs by update, as CSV and chart; runs may be under way yet."""
    from ..analysis import curves

    output = options.output or options.runs / options.recipe / "curves"
    words = ["--runs", str(options.runs / options.recipe), "--output-prefix", str(output)]
    curves.main([*words, "--title", options.recipe, "--force"])
    logger.info("wrote %s.csv and %s.png", output, output)


def figures(options: Options) -> None:
    """Draws the PowerNorm paper's figures from runs of this recipe, as PNG and CSV: 2, 3 and 4 from runs with
    --override record=true and from those of train_cifar10.sh (RUNS/cifar10), 5 from batch_size_study.sh, 6 from the
    averages of layer and power; and Lemma 2 and Theorem 4 by experiment, smoothness and bound, from
    smoothness_study.sh. What there are no runs for is left out."""
    from ..analysis import figures

    output = options.output or options.runs / options.recipe / "figures" / "paper"
    words = ["--runs", str(options.runs / options.recipe), "--images", str(options.runs / "cifar10")]
    words += ["--batch-sizes", str(options.runs / "batch_sizes" / f"{options.recipe}.csv"), "--seed", str(options.seed)]
    for name in ("figures", "norms"):
        words += [f"--{name}", ",".join(map(str, getattr(options, name)))] if getattr(options, name) else []
    figures.main([*words, "--output-prefix", str(output), "--title", options.recipe, "--force"])


def option(text: str, metavar: str | None = None, type: Callable | None = None, default=None, **others) -> dict:
    """The keywords of ``add_argument`` that are given."""
    given = {"help": text, "metavar": metavar, "type": type, "default": default}
    return {name: value for name, value in given.items() if value is not None} | others


def options_by_name() -> dict[str, dict]:
    """Every option that a verb may take."""
    names, numbers = listed("names", "[A-Za-z0-9_+-]+"), listed("numbers", "[0-9]+", int)
    known = {group: ", ".join(choices(group)) for group in ("recipe", "norm", "init", "hardware")}
    norm = f"{known['norm']}; an initialization, {known['init']}; or NORM+INIT"
    override = "a Hydra override, such as train.max-update=100; ++train.KEY=VALUE sets a flag that the recipe has not"
    gpus = "CUDA devices of this machine to use; a run trains on as many as an update has full passes for, as many runs"
    return {
        "recipe": option(f"one of: {known['recipe']}", "NAME", required=True),
        "norm": option(f"one of: {norm} (default %(default)s)", "NAME", default="power"),
        "norms": option(f"of {norm} (default %(default)s)", "LIST", names, NORMS),
        "seed": option("of initialization, data order and dropout (default %(default)s)", "N", int, 1),
        "seeds": option("seeds, separated by commas (default %(default)s)", "LIST", numbers, "1"),
        "hardware": option(f"one of: {known['hardware']} (default cpu; with --gpus, gpu)", "NAME"),
        "gpus": option(f"{gpus} as fit go on side by side", "N", whole_number),
        "jobs": option("runs at the same time (default: one a core on cpu, else what fits --gpus)", "N", whole_number),
        "runs": option("folder of all runs (default runs)", "DIR", folder, ROOT / "runs"),
        "run": option("the run's folder, RUNS/RECIPE/NORM/seedN", "DIR", folder),
        "into": option("folder of the second endings (default RUNS/recalibrated_N)", "DIR", folder),
        "from": option("the raw data's folder, handed to the recipe's preparation", "DIR", folder, dest="source"),
        "override": option(f"{override}; may be repeated", "KEY=VALUE", action="append", default=[]),
        "output": {"type": folder, "metavar": "PREFIX"},
        "command": option("the command to name as the one that makes it (default: this one)", "TEXT"),
        "node-rank": option(
            "which of hardware.nodes machines this is (default: Slurm's); 0 keeps the records", "N", int
        ),
        "passes": option(
            "that make an update (default %(default)s: 1 x 4096 … 8 x 512 tokens)",
            *("LIST", listed("numbers above 0", "[1-9][0-9]*", int), "1,2,4,8"),
        ),
        "figures": option("of 2,3,4,5,6,smoothness,bound (default: all that there are runs for)", "LIST", names),
        "batches": option("batches of training data to estimate on (default %(default)s)", "N", whole_number, 100),
        "dry-run": option("print every command and do nothing", action="store_true"),
    }


def make_parser() -> Parser:
    """The parser of all verbs; a verb's help is its function's docstring."""
    parser = Parser(prog="powernorm-run", description="Whole recipes, single stages of a run, tables and studies.")
    parser.add_argument("--version", action="version", version=provenance.description())
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    known = options_by_name()

    def add(verb: str, function: Callable[[Options], None], options: str, output: str = "", **changes) -> None:
        documented = stages.STAGES.get(verb, function)
        text = re.split(r"\n\n(?:Args|Raises):", inspect.getdoc(documented) or "")[0].replace("``", "")
        added = verbs.add_parser(
            verb, help=text.split("\n")[0], description=text, prog=SCRIPT or f"powernorm-run {verb}"
        )
        added.set_defaults(function=function, run=None, node_rank=None)
        changes["output"] = option(f"writes {output}, replacing what is there")
        for name in options.split():
            aliases = [f"--{name.removesuffix('s')}"] if name in ("norms", "seeds") else []
            added.add_argument(f"--{name}", *aliases, **{**known[name], **changes.get(name, {})})

    several, three = "recipe norms seeds hardware gpus jobs runs output from override dry-run", {"default": "1,2,3"}
    made = "PREFIX.md, .csv, .png, and _curves.csv and .png (default RUNS/RECIPE/table)"
    add("recipe", planned(recipes.plan_recipe), several, made)
    add("table1", planned(recipes.plan_table1), several, made, seeds=three, norms={"default": TABLE_1})
    single, cpu, needed = "recipe norm seed hardware runs override dry-run", {"default": "cpu"}, {"required": True}
    for verb in ("run", *stages.STAGES):
        if verb in ("run", "train"):
            add(verb, one_run, f"{single} node-rank", hardware=cpu)
        else:
            add(verb, one_run, f"run {single}", recipe={"required": False}, hardware=cpu)
    setting = option("a setting of recalibrate, generate or score; may be repeated")
    add("second-ending", second_ending, "run into override", run=needed, into=needed, override=setting)
    add("list", list_recipes, "")
    add("prepare", prepare, "", "")
    add("table", table, "recipe runs output command override", "PREFIX.md, .csv and .png (default RUNS/RECIPE/table)")
    add("curves", curves, "recipe runs output", "PREFIX.csv and .png (default RUNS/RECIPE/curves)")
    made = "PREFIX_figureN….png and .csv (default RUNS/RECIPE/figures/paper)"
    all_norms = option("norms for figures 2 to 4 (default: all recorded ones)", default=None)
    add("figures", figures, "recipe figures norms seed runs output", made, norms={"default": None, **all_norms})
    own_runs = option("folder of all runs (default runs/batch_sizes)", default=ROOT / "runs" / "batch_sizes")
    made = "PREFIX.md, .csv and .png (default RUNS/RECIPE)"
    add("batch-sizes", planned(recipes.plan_batch_sizes), f"{several} passes", made, runs=own_runs)
    made = "PREFIX.md, .csv and .png (default RUNS/RECIPE/ablation)"
    add("ablation", planned(recipes.plan_ablation), several, made, norms={"default": CELLS}, seeds=three)
    chosen, made = "recipe batches runs into jobs output override dry-run", "PREFIX.md and .csv"
    one = option("runs at the same time (default 1)")
    add("recalibration", planned(recipes.plan_recalibration), chosen, made, jobs=one, override=setting)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one verb; see ``--help``. Without one, ``--recipe NAME`` is the whole recipe."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["prepare"] and not HELP & set(words[1:2]):
        prepare(Options(words=words[1:] or [""]))  # whose options are the script's
    if words and words[0].startswith("--") and words[0] not in (*HELP, "--version"):
        words.insert(0, "recipe")  # the usual verb
    options = make_parser().parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    exit_on_sigterm()
    options.function(options)
