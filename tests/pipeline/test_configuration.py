"""Recipes: every composition is one that fairseq's own parser takes."""

import re

import pytest
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

import fairseq_powernorm.transformer  # noqa: F401 (registers the architectures)
from fairseq_powernorm import available_norms
from fairseq_powernorm.pipeline import commands, configuration
from fairseq_powernorm.pipeline.commands import (
    evaluate_arguments,
    evaluation_protocols,
    generate_arguments,
    is_language_model,
    subset_of,
    to_arguments,
    train_arguments,
)
from fairseq_powernorm.pipeline.configuration import choices, compose_run, run_folder, suffix_of, tokens_warning
from fairseq_powernorm.pipeline.inputs import check_average


def test_every_norm_has_a_file():
    chosen = {compose_run("demo_de_en", name).train["norm-type"] for name in choices("norm")}
    assert set(choices("norm")) >= set(available_norms()) == chosen


@pytest.mark.parametrize(
    ("recipe", "norm"),
    [*((recipe, "power") for recipe in choices("recipe")), *(("multi30k_de_en", norm) for norm in choices("norm"))],
)
def test_every_recipe_parses(recipe, norm):
    config = compose_run(recipe, norm, seed=7)
    arguments = train_arguments(config, "runs/x")
    args = options.parse_args_and_arch(options.get_training_parser(), arguments)
    decoder = args.norm_type if is_language_model(config) else "layer"
    assert args.norm_type == config.train["norm-type"] and args.decoder_norm_type == decoder and args.seed == 7
    assert args.save_dir == "runs/x/checkpoints" and args.data == config.recipe.binarized
    for test_set in config.recipe.test_sets:
        if is_language_model(config):
            for window in evaluation_protocols(config).values():
                evaluation = evaluate_arguments(config, "averaged.pt", test_set, window)
                args = options.parse_args_and_arch(options.get_eval_lm_parser(), evaluation)
                assert (args.gen_subset, args.context_window, args.path) == (test_set, window, "averaged.pt")
                assert args.context_window < args.tokens_per_sample == config.train["tokens-per-sample"]
            continue
        generation = generate_arguments(config, "averaged.pt", test_set)
        args = options.parse_args_and_arch(options.get_generation_parser(), generation)
        assert args.beam == config.generate.beam and args.path == "averaged.pt"


@pytest.mark.parametrize("recipe", choices("recipe"))
def test_norms_differ_in_their_norm_alone(recipe):
    """Hyper-parameters are the same for every norm, as in the paper."""
    norms = choices("norm") if recipe == "multi30k_de_en" else ["layer", "batch", "power", "unified"]
    flags = [dict(compose_run(recipe, norm).train) for norm in norms]
    for other in flags:
        assert all(key.startswith("norm-") for key in other if other[key] != flags[0].get(key))


TABLE_1 = {  # Shen et al. 2020: G, warm-up, whether statistics are taken over all devices
    "batch": (1, 0, True),
    "pn-v": ("heads", 0, True),
    "power": ("heads", 8000, False),
    "batch-plain": (0, 0, True),
    "pn-v-plain": (0, 0, True),
    "power-plain": (0, 0, False),
    "power-scaling-only": ("heads", 0, False),
    "power-warmup-only": (0, 8000, False),
}


@pytest.mark.parametrize("norm", TABLE_1)
def test_the_names_of_table_1_are_its_rows(norm):
    train = compose_run("wmt14_en_de_big", norm, "gpu", overrides=["hardware.devices=8"]).train
    assert (train["norm-group-scaling"], train["norm-warmup-updates"], train["norm-sync"]) == TABLE_1[norm]
    assert compose_run("wmt14_en_de_big", norm, "gpu").train["norm-sync"] is False  # one device has them all


@pytest.mark.parametrize("hardware", choices("hardware"))
def test_every_hardware_composes(hardware):
    config = compose_run("multi30k_de_en", "power", hardware)
    assert config.hardware.name == hardware and config.train["distributed-world-size"] == 1
    assert ("--fp16" in train_arguments(config, "x")) == (hardware == "gpu_fp16")


def test_the_released_norm_warms_up_as_long_as_the_learning_rate():
    train = compose_run("multi30k_de_en", "power-released", overrides=["train.warmup-updates=77"]).train
    assert train["norm-warmup-updates"] == 77 and train["norm-group-scaling"] == "heads"
    # It counts forward calls, of which an update has several where tokens are gathered.
    chosen = ["hardware.devices=8"]
    assert compose_run("wmt14_en_de_big", "power-released", "gpu", overrides=chosen).train["norm-warmup-updates"] == (
        16 * 8000
    )


@pytest.mark.parametrize(
    ("recipe", "devices", "max_tokens", "update_freq", "sync"),
    [
        ("wmt14_en_de_big", 1, 4096, 128, False),
        ("wmt14_en_de_big", 8, 4096, 16, False),
        ("wmt14_en_de_big", 128, 4096, 1, False),
        ("wmt14_en_de_big", 256, 2048, 1, True),
        ("wmt14_en_de", 3, 4096, 43, False),
        ("iwslt14_de_en", 1, 4096, 1, False),
        ("iwslt14_de_en", 4, 1024, 1, True),
    ],
)
def test_an_update_has_the_paper_s_tokens_on_any_number_of_devices(recipe, devices, max_tokens, update_freq, sync):
    config = compose_run(recipe, "power", "gpu", overrides=[f"hardware.devices={devices}"])
    train = config.train
    assert (train["max-tokens"], train["update-freq"], train["norm-sync"]) == (max_tokens, update_freq, sync)
    assert train["distributed-world-size"] == devices
    tokens = devices * train["max-tokens"] * train["update-freq"]
    assert abs(tokens / config.batch.tokens_per_update - 1) < 0.01


def test_a_bigger_device_takes_more_at_a_time():
    train = compose_run("wmt14_en_de_big", overrides=["batch.tokens_per_device=16384"]).train
    assert (train["max-tokens"], train["update-freq"], train["norm-sync"]) == (16384, 32, False)


@pytest.mark.parametrize("value", ["0", "-4", "many"])
def test_a_batch_without_tokens(value):
    with pytest.raises(ValueError, match=f"tokens_per_device to be a whole number above 0, got '?{value}"):
        compose_run("wmt14_en_de", overrides=[f"batch.tokens_per_device={value}"])


def test_the_paper_s_averages_and_the_authors_are_selectable():
    config = compose_run("iwslt14_de_en")
    assert config.average.last == 10 <= config.train["keep-last-epochs"]
    assert compose_run("iwslt14_de_en", overrides=["average.last=5"]).average.last == 5


def test_language_models_have_a_warm_up_of_the_norm_alone():
    """Their learning rate has none, which `auto` and the other recipes' norms would follow."""
    for recipe, updates in (("ptb", 1000), ("wikitext103", 4000)):
        config = compose_run(recipe, "power")
        assert config.train["norm-warmup-updates"] == updates and "warmup-updates" not in config.train
    train = compose_run("ptb", "power", overrides=["norm.warmup_updates=40"]).train
    assert train["norm-warmup-updates"] == 40
    assert compose_run("multi30k_de_en", "power").train["norm-warmup-updates"] == 400


def test_flags_become_arguments():
    flags = {"a": True, "b": False, "c": None, "d": 0, "e": "(0.9, 0.98)"}
    assert to_arguments(flags) == ["--a", "--d", "0", "--e", "(0.9, 0.98)"]


def test_where_a_run_lives():
    config = compose_run("demo_de_en", "pn-v", seed=3)
    assert str(run_folder(config, "runs")) == "runs/demo_de_en/pn-v/seed3"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recipe": "wmt99"}, "unknown recipe 'wmt99'; known: demo_de_en, "),
        (
            {"recipe": "demo_de_en", "norm": "instance"},
            "unknown norm 'instance'; known: batch, batch-plain, ",
        ),
        ({"recipe": "demo_de_en", "hardware": "tpu"}, "unknown hardware 'tpu'"),
        ({"recipe": "demo_de_en", "overrides": ["train.dropuot=1"]}, r"append to your config use \+train.dropuot=1"),
        ({"recipe": "demo_de_en", "overrides": ["nonsense"]}, "configuration: "),
    ],
)
def test_bad_names_and_overrides(arguments, message):
    with pytest.raises(ValueError, match=message):
        compose_run(**arguments)


def test_an_unknown_test_set():
    with pytest.raises(ValueError, match="unknown test set 'news'; the recipe has test"):
        generate_arguments(compose_run("demo_de_en"), "averaged.pt", "news")


@pytest.mark.parametrize(
    ("devices", "said"), [(1, None), (8, None), (128, None), (3, "528384 .*\\+0.8%"), (96, "-25.0%")]
)
def test_an_update_of_other_tokens_than_the_recipe_s_is_said(devices, said):
    config = compose_run("wmt14_en_de_big", hardware="gpu", overrides=[f"hardware.devices={devices}"])
    warning = tokens_warning(config)
    assert warning is None if said is None else re.search(said, warning)


def test_fairseq_reads_its_configuration_in_the_same_process():
    """As a sweep does that recalibrates, or this suite in another order."""
    config = compose_run("smoke_de_en")
    args = options.parse_args_and_arch(options.get_training_parser(), train_arguments(config, "runs"))
    assert convert_namespace_to_omegaconf(args).model.arch == config.train.arch


def test_a_recipe_has_the_name_of_its_file():
    """A copy whose name was forgotten would take another recipe's runs for its own."""
    with pytest.raises(ValueError, match=r"demo_de_en.yaml has recipe.name mine: .* make it demo_de_en"):
        compose_run("demo_de_en", overrides=["recipe.name=mine"])


@pytest.mark.parametrize("recipe", choices("recipe"))
def test_every_recipe_leaves_the_checkpoints_that_it_averages(recipe):
    check_average(compose_run(recipe))


@pytest.mark.parametrize(
    ("recipe", "override", "left"),
    [
        ("mix_de_en", "train.max-update=1999", "leaves 3 checkpoints by update"),
        ("mix_de_en", "train.keep-interval-updates=4", "leaves 4 checkpoints by update"),
        ("iwslt14_de_en", "train.keep-last-epochs=9", "leaves 9 checkpoints by epoch"),
    ],
)
def test_too_few_checkpoints_for_an_average_are_noticed_before_the_training(recipe, override, left):
    with pytest.raises(ValueError, match=left):
        check_average(compose_run(recipe, overrides=[override]))


def test_test_sets_are_numbered_as_the_data_has_them(tmp_path):
    """A recipe may name some of them, in any order: fairseq knows their numbers alone."""
    overrides = [f"recipe.binarized='{tmp_path}'", "recipe.test_sets=[c,a,x]"]
    config = compose_run("demo_de_en", overrides=overrides)
    assert [subset_of(config, name) for name in ("c", "a", "x")] == ["test", "test1", "test2"]  # nothing says otherwise
    (tmp_path / "test_sets.txt").write_text("a\nb\nc\n")
    assert [generate_arguments(config, "x.pt", name)[-1] for name in ("c", "a")] == ["test2", "test"]
    with pytest.raises(ValueError, match=f"{tmp_path} has no test set 'x'; it has a, b, c"):
        subset_of(config, "x")


@pytest.mark.parametrize("name", ["test 2014", "test,a", "tests for a", "täst", "test;b", "it's"])
def test_a_test_set_of_any_name(name, tmp_path):
    (tmp_path / "test_sets.txt").write_text(f"test\n{name}\n", encoding="utf-8")
    quoted = name.replace("'", "\\'")
    config = compose_run("demo_de_en", overrides=[f"recipe.binarized='{tmp_path}'", f"recipe.test_sets=['{quoted}']"])
    assert generate_arguments(config, "x.pt", name)[-1] == "test1"


@pytest.mark.parametrize(
    ("overrides", "suffix"),
    [
        (
            ["recipe=x", "norm=power", "seed=3", "hardware=gpu", "+runs='/a b'", "hardware.devices=8", "recipe.raw=x"],
            "",
        ),
        (["train.lr=0.1", "norm=layer", "++generate.beam=2"], ",generate.beam=2,train.lr=0.1"),
        (["batch.tokens_per_update=5", "hydra.sweep.dir=x"], ",batch.tokens_per_update=5"),
    ],
)
def test_jobs_of_a_sweep_over_a_flag_have_folders_of_their_own(overrides, suffix):
    assert suffix_of(overrides) == suffix_of(reversed(overrides)) == suffix
    folder = run_folder(compose_run("demo_de_en", seed=3), "runs", overrides)
    assert str(folder) == f"runs/demo_de_en/power/seed3{suffix}"


def test_whatever_an_override_says_the_folder_has_a_name_of_its_own():
    values = ["'a/b'", "a_b", "'a b'", "x" * 300, "y" + "x" * 299, "x" * 300 + "y"]
    names = [suffix_of([f"train.restore-file={value}"]) for value in values]
    assert len(set(names)) == len(values)
    assert all(re.fullmatch(r"[\w.,=+-]{1,120}", name) for name in names)


def test_recipes_of_one_s_own_where_the_package_is_installed(tmp_path, monkeypatch):
    """Beside the shipped ones, from configs/ in the caller's folder; what came with the package has its name."""
    shipped = {name: compose_run(name) for name in ("demo_de_en", "smoke_de_en")}
    monkeypatch.setattr(configuration, "ROOT", tmp_path)
    assert configuration.own_configs() == []
    recipe = tmp_path / "configs" / "recipe" / "mine.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("# @package _global_\ndefaults: [demo_de_en]\nrecipe: {name: mine}\ntrain: {max-update: 7}\n")
    (recipe.parent / "smoke_de_en.yaml").write_text("# @package _global_\nrecipe: {name: other}\n")
    configuration._composed.cache_clear()
    assert "mine" in choices("recipe") and "layer" in choices("norm")
    mine = compose_run("mine", "layer")
    assert mine.train["max-update"] == 7 and mine.train.arch == shipped["demo_de_en"].train.arch
    assert compose_run("smoke_de_en") == shipped["smoke_de_en"]
    configuration._composed.cache_clear()


def test_scripts_that_came_with_the_package(tmp_path, monkeypatch):
    recipe = compose_run("smoke_de_en").recipe
    assert commands.prepare_words(recipe)[0] == "scripts/prepare_demo.sh"
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    words = commands.prepare_words(recipe)
    assert words[:3] == ["powernorm-run", "prepare", "demo"] and words[3:] == list(map(str, recipe.prepare[1:]))
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "prepare_demo.sh").touch()  # the caller's own
    assert commands.prepare_words(recipe)[0] == "scripts/prepare_demo.sh"
    assert commands.to_arguments({"user-dir": "fairseq_powernorm"}) == ["--user-dir", "fairseq_powernorm"]
    monkeypatch.setattr(commands, "IN_CLONE", False)  # which --user-dir does not find by its name
    assert commands.to_arguments({"user-dir": "fairseq_powernorm"}) == ["--user-dir", str(commands.PACKAGE)]
    recipe.prepare = ["true"]
    assert commands.prepare_words(recipe) == ["true"]
