"""The flags of initializations: defaults, and what goes together."""

import argparse

import pytest

from fairseq_powernorm.flags.initialization import INIT_DEFAULTS, add_init_flags, fill_in_init_defaults, init_of
from fairseq_powernorm.flags.norms import add_norm_flags, fill_in_defaults
from fairseq_powernorm.flags.values import FlagError
from fairseq_powernorm.initialization.schemes import SCHEMES, available_schemes

NONE = ["--norm-type", "none", "--decoder-norm-type", "none"]
POST = ["--norm-position", "post"]


def filled(*arguments, **attributes):
    parser = argparse.ArgumentParser(exit_on_error=False)
    group = parser.add_argument_group("model", argument_default=argparse.SUPPRESS)
    add_norm_flags(group)
    add_init_flags(group)
    args = parser.parse_args(arguments)
    for stack in ("encoder", "decoder"):
        setattr(args, f"{stack}_embed_dim", 12)
        setattr(args, f"{stack}_attention_heads", 4)
    for name, value in attributes.items():
        setattr(args, name, value)
    fill_in_defaults(args)
    fill_in_init_defaults(args)
    return args


def test_every_flag_has_a_default_and_is_primitive():
    parser = argparse.ArgumentParser()
    add_init_flags(parser)
    assert {action.dest for action in parser._actions} - {"help"} == set(INIT_DEFAULTS)
    args = filled()
    assert (args.init_scheme, args.init_omega) == ("fairseq", "constant")


def test_names_that_checkpoints_hold_stay():
    papers = {"fairseq", "ds", "ds-released", "fixup", "t-fixup", "admin", "rezero", "deepnet"}
    assert papers | {"xavier", "he", "orthogonal", "truncated-normal"} <= set(available_schemes())


@pytest.mark.parametrize("name", available_schemes())
def test_every_scheme_goes_with_what_it_says(name):
    norms = {"any": [], "post": POST, "none": NONE}[SCHEMES[name].norms]
    assert filled("--init-scheme", name, *norms).init_scheme == name


@pytest.mark.parametrize("name", [name for name, scheme in SCHEMES.items() if scheme.norms == "any"])
@pytest.mark.parametrize("norms", [NONE, POST, ["--norm-type", "batch"]])
def test_what_goes_with_any_norm(name, norms):
    assert filled("--init-scheme", name, *norms).init_scheme == name


@pytest.mark.parametrize(
    ("arguments", "attributes", "message"),
    [
        (["fixup"], {}, "for a model without norms: give --norm-type none --decoder-norm-type none$"),
        (["rezero", "--norm-type", "none"], {}, "norms: give --decoder-norm-type none$"),
        (["t-fixup", *NONE, "--decoder-norm-ffn", "power"], {}, "norms: leave out --decoder-norm-ffn$"),
        (
            ["t-fixup", "--norm-type", "layer", "--decoder-norm-type", "none", "--decoder-norm-output", "rms"],
            {},
            "give --norm-type none and leave out --decoder-norm-output$",
        ),
        (["fixup", *NONE], {"layernorm_embedding": True}, "leave out --layernorm-embedding$"),
        (["rezero", *NONE], {"scale_fc": True}, "leave out --scale-fc$"),
        (["fixup", *NONE, *POST], {}, "give --norm-position pre$"),
        (["ds"], {}, "--init-scheme ds is for post-norm models: give --norm-position post$"),
        (["deepnet", *NONE, *POST], {}, "for models with norms: give --norm-type another one than none$"),
        (["admin", *POST, "--decoder-norm-ffn", "none"], {}, "give --decoder-norm-ffn another one than none$"),
    ],
)
def test_what_does_not_go_together(arguments, attributes, message):
    with pytest.raises(FlagError, match=message):
        filled("--init-scheme", *arguments, **attributes)


def test_a_site_of_its_own_may_be_none_too():
    sites = ["--encoder-norm-self-attn", "--encoder-norm-ffn", "--encoder-norm-output"]
    words = [word for site in sites for word in (site, "none")]
    assert filled("--init-scheme", "rezero", *words, "--decoder-norm-type", "none").init_scheme == "rezero"


@pytest.mark.parametrize("flag", ["--init-scheme", "--init-omega"])
def test_bad_values_are_argparse_errors(flag):
    with pytest.raises(argparse.ArgumentError, match="invalid choice: 'profile'"):
        filled(flag, "profile")


def test_what_makes_another_model():
    assert init_of(argparse.Namespace()) == {"scheme": "fairseq"}
    assert init_of(filled("--init-omega", "trainable")) == {"scheme": "fairseq"}
    args = filled("--init-scheme", "admin", "--init-omega", "trainable", *POST)
    assert init_of(args) == {"scheme": "admin", "omega": "trainable"}
