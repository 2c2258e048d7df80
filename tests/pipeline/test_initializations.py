"""configs/init: every recipe and norm with every initialization, and what a row of a table is called."""

import pytest
from fairseq import options

import fairseq_powernorm.transformer  # noqa: F401 (registers the architectures)
from fairseq_powernorm.initialization.schemes import SCHEMES, available_schemes
from fairseq_powernorm.pipeline.commands import train_arguments
from fairseq_powernorm.pipeline.configuration import choices, compose_run, norm_and_init, row_of, run_folder

INITS = [name for name in choices("init") if name != "fairseq"]
OWN = {"init-scheme", "norm-type", "decoder-norm-type", "norm-position", "lr", "lr-scheduler", "warmup-updates"}
OWN |= {"warmup-init-lr", "total-num-update", "decay-updates", "weight-decay"}


def parsed(config):
    return options.parse_args_and_arch(options.get_training_parser(), train_arguments(config, "runs/x"))


def test_every_scheme_has_a_file_by_its_name():
    assert sorted(choices("init")) == sorted(available_schemes())
    for name in INITS:
        config = compose_run("demo_de_en", name)
        assert config.init.name == config.train["init-scheme"] == name
        assert (config.init.norm == "none") == (SCHEMES[name].norms == "none")
        assert (config.train.get("norm-position") == "post") == (SCHEMES[name].norms == "post")
    assert "init-scheme" not in compose_run("demo_de_en").train  # runs of before are the same runs


@pytest.mark.parametrize(
    ("recipe", "init"),
    [("demo_de_en", init) for init in INITS]
    + [(recipe, init) for recipe in choices("recipe") if recipe != "demo_de_en" for init in ("ds", "t-fixup")],
)
def test_every_recipe_parses(recipe, init):
    """With the usual norm; the recipe's dropout, optimizer and length stay."""
    config, plain = compose_run(recipe, init), compose_run(recipe, "layer")
    args = parsed(config)
    assert args.init_scheme == init and args.norm_type == ("none" if config.init.norm == "none" else "layer")
    assert {key for key in {**config.train, **plain.train} if config.train.get(key) != plain.train.get(key)} <= OWN
    if SCHEMES[init].norms == "any":
        assert config.train.lr == plain.train.lr and config.train["lr-scheduler"] == plain.train["lr-scheduler"]


@pytest.mark.parametrize("norm", [name for name in choices("norm") if name != "none"])
def test_every_norm_composes(norm):
    config, plain = compose_run("iwslt14_de_en", f"{norm}+deepnet"), compose_run("iwslt14_de_en", norm)
    assert config.train["norm-type"] == plain.train["norm-type"] and config.train["norm-position"] == "post"
    if norm == "power":
        warmup = parsed(config).norm_warmup_updates  # as long as the learning rate's, which the initialization changes
        assert warmup == config.train["warmup-updates"] == 6000


@pytest.mark.parametrize(
    ("init", "lr", "warmup"),
    [
        ("ds", 7e-4, 4000),
        ("fixup", 5e-4, 4000),
        ("t-fixup", 5e-4, None),
        ("admin", 7e-4, 6000),
        ("rezero", 7e-4, 6000),
        ("deepnet", 7e-4, 6000),
    ],
)
def test_hyper_parameters_of_the_papers(init, lr, warmup):
    """As they are for models like the papers'; in proportion for small ones."""
    train = compose_run("iwslt14_de_en", init).train
    assert (float(train.lr), train["warmup-updates"], train.dropout) == (lr, warmup, 0.3)
    small = compose_run("multi30k_de_en", init).train
    assert small.lr == pytest.approx(2 * lr)
    assert small["warmup-updates"] == (None if warmup is None else warmup / 20)
    if init == "t-fixup":
        assert (train["lr-scheduler"], train["decay-updates"], small["decay-updates"]) == ("t_fixup", 4000, 200)


@pytest.mark.parametrize(
    ("row", "norm", "init", "name"),
    [
        ("power", "power", "fairseq", "power"),
        ("power-plain+fairseq", "power-plain", "fairseq", "power-plain"),
        ("ds", "layer", "ds", "ds"),
        ("layer+ds", "layer", "ds", "ds"),
        ("power+ds-released", "power", "ds-released", "power+ds-released"),
        ("fixup", "none", "fixup", "fixup"),
        ("none+fixup", "none", "fixup", "fixup"),
        ("none+xavier", "none", "xavier", "none+xavier"),
    ],
)
def test_rows_have_one_name_each(row, norm, init, name):
    assert norm_and_init(row) == (norm, init)
    config = compose_run("demo_de_en", row)
    assert row_of(config) == name and norm_and_init(name) == (norm, init)
    assert str(run_folder(config, "runs", [f"init={init}"])) == f"runs/demo_de_en/{name}/seed1"


def test_a_run_of_before_is_called_by_its_norm():
    config = compose_run("demo_de_en", "rms")
    del config.init
    assert row_of(config) == "rms"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("layer+fixup", "fixup is for models without norms, got layer\\+fixup; write fixup$"),
        ("none+ds", "ds is for post-norm models, got none\\+ds; write ds, or another norm$"),
        ("fixupp", "unknown norm 'fixupp'; known: batch, .*; initializations: admin, "),
        ("layer+fixupp", "unknown init 'fixupp'; known: admin, "),
        ("fairseq", "unknown norm 'fairseq'"),
        ("ds+layer", "unknown norm 'ds'"),
    ],
)
def test_what_does_not_go_together(row, message):
    with pytest.raises(ValueError, match=message):
        compose_run("demo_de_en", row)
