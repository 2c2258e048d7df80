"""The command line of recipes: dry runs whose every command parses, and what it tells the table."""

import functools
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
from fairseq import options

import fairseq_powernorm.transformer  # registers the architectures
from fairseq_powernorm.pipeline import __main__ as pipeline_main
from fairseq_powernorm.pipeline import command_line, commands, inputs, recipes
from fairseq_powernorm.pipeline.configuration import choices, compose_run, run_folder
from fairseq_powernorm.pipeline.run_folder import store_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def help_of(run_python):
    @functools.cache
    def help_of(module):
        done = run_python("-m", module, "--help")
        assert done.returncode == 0, done.stderr
        return done.stdout

    return help_of


def parse(command, help_of):
    """Gives a printed command to the parser of the program that it starts."""
    if command.startswith("# "):
        return None
    words = shlex.split(command)
    if words[0] == "torchrun":
        words = [words[words.index("-m") + 1], *words[words.index("-m") + 2 :]]
    if words[0] in ("fairseq-train", "fairseq_cli.train"):
        return options.parse_args_and_arch(options.get_training_parser(), words[1:])
    if words[0] == "fairseq-generate":
        return options.parse_args_and_arch(options.get_generation_parser(), words[1:])
    if words[0] in ("powernorm-average", "powernorm-recalibrate"):
        module = {"powernorm-average": "average", "powernorm-recalibrate": "recalibrate"}[words[0]]
        return help_knows(help_of(f"fairseq_powernorm.checkpoints.{module}"), words[1:])
    if words[0] == "powernorm-run":
        command_line.make_parser().parse_args(words[1:])
        return None
    if "-m" in words and words[words.index("-m") + 1].startswith("fairseq_powernorm."):
        return help_knows(help_of(words[words.index("-m") + 1]), words[words.index("-m") + 2 :])
    assert (ROOT / words[0]).is_file(), command
    return None


def help_knows(text, arguments):
    for argument in arguments:
        assert not argument.startswith("--") or argument in text, f"{argument} is not in {text}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "extra", "trainings"),
    [
        ("iwslt14_de_en", [], 18),
        ("wmt14_en_de_big", ["--gpus", "8", "--norms", "layer,power", "--seeds", "1"], 2),
        ("wmt14_en_de_big", ["--gpus", "8", "--hardware", "gpu_fp16", "--norms", "pn-v", "--seeds", "1"], 1),
        ("multi30k_de_en", ["--seeds", "1", "--override", "recalibrate.batches=50"], 6),
    ],
)
def test_a_dry_run_prints_every_command_and_each_parses(recipe, extra, trainings, tmp_path, help_of):
    done = subprocess.run(
        ["scripts/reproduce_table1.sh", "--recipe", recipe, "--runs", str(tmp_path / "runs"), "--dry-run", *extra],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    commands = done.stdout.splitlines()
    for command in commands:
        parse(command, help_of)
    assert sum("fairseq_powernorm.corpora.binarize" in command for command in commands) == 1
    assert sum("train " in command and "--save-dir" in command for command in commands) == trainings
    test_sets = len(compose_run(recipe).recipe.test_sets)
    assert sum(command.startswith("fairseq-generate") for command in commands) == trainings * test_sets
    table, curves, report = commands[-3:]
    assert table.startswith("powernorm-run table") and f"reproduce_table1.sh --recipe {recipe}" in table
    assert curves.startswith("powernorm-run curves") and curves.endswith("table_curves") and ".report." in report
    assert not (tmp_path / "runs").exists()


def test_which_runs_have_running_statistics():
    assert recipes.has_statistics(compose_run("smoke_de_en", "power"))
    assert not recipes.has_statistics(compose_run("smoke_de_en", "layer"))
    inner = compose_run("smoke_de_en", "layer", overrides=["++train.encoder-norm-ffn-inner=batch"])
    assert recipes.has_statistics(inner)


def test_the_table_hears_of_the_paper_s_figures():
    arguments = command_line.published(compose_run("iwslt14_de_en"))
    assert arguments[:2] == ["--published", "layer=35.5,batch=34.4,pn-v=35.5,power=35.9,ds=34.4,fixup=34.5"]
    assert arguments[2] == "--published-source" and "Shen et al. 2020, Table 1" in arguments[3]
    assert command_line.published(compose_run("multi30k_de_en")) == []


def launcher(devices, nodes=1, node_rank=0, master="null"):
    overrides = [f"hardware.devices={devices}", f"hardware.nodes={nodes}", f"hardware.master={master}"]
    return commands.launcher_of(compose_run("wmt14_en_de", hardware="gpu", overrides=overrides), node_rank)


def test_how_devices_are_started():
    assert launcher(1) == []
    assert launcher(8) == ["--standalone", "--nproc-per-node", "8"]
    several = launcher(128, 16, 3, "node0:29400")
    assert several[:6] == ["--nnodes", "16", "--node-rank", "3", "--nproc-per-node", "8"]
    assert several[6:] == ["--master-addr", "node0", "--master-port", "29400"]
    assert commands.fairseq_command("train", ["x"], several).startswith("torchrun --nnodes 16 ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, 3), "8 devices do not divide among 3 nodes"),
        ((16, 2), "need HOST:PORT of the first as hardware.master, got ''"),
        ((16, 2, 0, "node0"), "got 'node0'"),
        ((16, 2, 2, "node0:1"), "expected a node rank from 0 to 1, got 2"),
    ],
)
def test_devices_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        launcher(*arguments)


def test_a_machine_without_the_devices_is_told_before_hours(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    inputs.check_devices(2)
    with pytest.raises(ValueError, match="has 8 CUDA devices a machine, this one has 2"):
        inputs.check_devices(8)


def options_of(*words):
    return command_line.make_parser().parse_args([str(word) for word in words])


def test_room_for_every_run_that_is_not_trained(tmp_path, limit_disk):
    options = options_of(
        "recipe", "--recipe", "wmt14_en_de_big", "--norms", "power", "--seeds", "1,2", "--runs", tmp_path
    )
    trained, other = (tmp_path / "wmt14_en_de_big" / "power" / name for name in ("seed1", "seed2"))
    limit_disk(61 * 10**9)
    with pytest.raises(OSError, match=r"not enough room on the disk: 62.000 GB needed, 61.000 GB free"):
        recipes.plan_recipe(options, "")
    trained.mkdir(parents=True)
    (trained / "run.json").touch()
    recipes.plan_recipe(options, "")
    other.mkdir()
    (other / "run.json").touch()  # no run is left to train
    limit_disk(0)
    recipes.plan_recipe(options, "")


def test_a_dry_run_is_of_the_machine_that_it_is_asked_for(capsys):
    machines = ["hardware.devices=16", "hardware.nodes=2", "hardware.master=first:29400"]
    overrides = [word for machine in machines for word in ("--override", machine)]
    options = ["--recipe", "wmt14_en_de_big", "--hardware", "gpu", *overrides, "--node-rank", "1", "--dry-run"]
    command_line.main(["train", *options])
    assert "torchrun --nnodes 2 --node-rank 1 --nproc-per-node 8 --master-addr first" in capsys.readouterr().out


@pytest.mark.parametrize("extra", [["--override", "generate.beam=1"], ["--recipe", "demo_de_en"]])
def test_a_run_has_the_settings_that_it_has(tmp_path, extra):
    with pytest.raises(ValueError, match="--run names a run with all its settings"):
        command_line.main(["translate", "--run", str(tmp_path), *extra])


def test_a_stage_of_another_configuration_does_not_go_into_a_run(tmp_path):
    config = compose_run("smoke_de_en", "power")
    folder = run_folder(config, tmp_path)
    (folder / "checkpoints").mkdir(parents=True)
    store_config(config, folder)
    (folder / "checkpoints" / "checkpoint1.pt").touch()
    words = ["--recipe", "smoke_de_en", "--norm", "power", "--runs", str(tmp_path), "--override", "generate.beam=1"]
    for verb in ("average", "translate", "score"):
        with pytest.raises(ValueError, match=r"is of another configuration: generate.beam is 2, asked for 1"):
            command_line.main([verb, *words])


def test_former_module_names_still_work(run_python):
    """For one release; docs named them."""
    done = run_python("-m", "fairseq_powernorm.launch", "score", "--help")
    assert done.returncode == 0 and "usage: powernorm-run score" in done.stdout


def test_the_list_of_recipes(capsys, monkeypatch, tmp_path):
    """Every recipe with the comment of its file; a recipe's data is there once it was prepared."""
    monkeypatch.setattr(recipes, "ROOT", tmp_path)
    (tmp_path / "data-bin" / "multi30k_de_en").mkdir(parents=True)
    command_line.main(["list"])
    text = capsys.readouterr().out
    assert all(f"\n{name}\n    " in f"\n{text}" for name in choices("recipe"))
    listed = text.partition("multi30k_de_en\n")[2]
    assert listed.startswith("    Multi30k German -> English: image captions, 29,000 pairs.")
    assert "data: data-bin/multi30k_de_en, prepared\n    a run takes 0.2 GB\n" in listed
    assert "data: not prepared yet: scripts/prepare_iwslt14_de_en.sh" in text


def test_the_version_names_what_a_result_depends_on(run_python):
    done = run_python("-m", "fairseq_powernorm.pipeline", "--version")
    assert done.returncode == 0 and done.stdout.startswith(f"fairseq_powernorm {fairseq_powernorm.__version__} (")
    assert f"torch {torch.__version__}" in done.stdout and "fairseq-fixed " in done.stdout


def test_prepare_is_the_preparation_s_script(tmp_path, run_python):
    run_command = functools.partial(run_python, "-m", "fairseq_powernorm.pipeline")
    done = run_command("prepare", "demo", "--name", "mine", "--pairs", "20", "--dry-run")
    assert done.returncode == 0 and "--destination data/mine/raw --train 20" in done.stdout
    for words, name in ((["prepare", "demos"], "demos"), (["prepare"], "")):
        done = run_command(*words)
        assert done.returncode == 1
        assert f"no preparation is called '{name}'; there are cifar10, demo, iwslt14_de_en, " in done.stderr


def test_the_usual_verb(monkeypatch):
    """A whole recipe."""
    given = []
    monkeypatch.setattr(recipes, "plan_recipe", lambda options, command: given.append(options.recipe) or [])
    command_line.main(["--recipe", "smoke_de_en", "--dry-run"])
    assert given == ["smoke_de_en"]


def test_recipes_need_linux(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(SystemExit, match=r"powernorm-run: recipes need Linux .*, this is win32; the norms"):
        pipeline_main.command()
