"""The flags: parsing, defaults and contradictions."""

import argparse

import pytest

from fairseq_powernorm.flags.norms import DEFAULTS, add_norm_flags, fill_in_defaults, stack_spec, unused_flags
from fairseq_powernorm.flags.own import OWN_FLAGS
from fairseq_powernorm.flags.values import AUTO, FlagError
from fairseq_powernorm.norms.registry import available_norms, describe_stack
from fairseq_powernorm.norms.spec import NormSpec

STACKS = ("encoder", "decoder")


def namespace(*arguments, channels=12, heads=4, **attributes):
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_norm_flags(parser.add_argument_group("model", argument_default=argparse.SUPPRESS))
    args = parser.parse_args(arguments)
    for stack in STACKS:
        setattr(args, f"{stack}_embed_dim", channels)
        setattr(args, f"{stack}_ffn_embed_dim", 2 * channels)
        setattr(args, f"{stack}_attention_heads", heads)
    for name, value in attributes.items():
        setattr(args, name, value)
    return args


def filled(*arguments, **attributes):
    args = namespace(*arguments, **attributes)
    fill_in_defaults(args)
    return args


def test_defaults_are_those_of_the_paper():
    args = filled(warmup_updates=7)
    encoder, decoder = stack_spec(args, "encoder"), stack_spec(args, "decoder")
    table_1 = NormSpec("power", group_scaling=4, warmup_updates=7)
    assert encoder.self_attn == encoder.ffn == encoder.output == table_1
    assert encoder.cross_attn is None
    assert {site.name for site in (decoder.self_attn, decoder.cross_attn, decoder.ffn, decoder.output)} == {"layer"}
    assert args.encoder_normalize_before and args.decoder_normalize_before


@pytest.mark.parametrize("position", ["pre", "post"])
@pytest.mark.parametrize(
    ("name", "groups"),
    [("layer", (0, 0)), ("batch", (1, 1)), ("pn-v", (4, 6)), ("power", (4, 6)), ("power-released", (4, 6))],
)
def test_the_rule_of_auto_is_frozen_as_checkpoints_say_auto(name, groups, position):
    """4 heads in the encoder, 6 in the decoder."""
    chosen = ["--norm-type", name, "--decoder-norm-type", name, "--norm-position", position]
    args = filled(*chosen, decoder_attention_heads=6)
    assert args.norm_group_scaling == AUTO
    found = [{spec.group_scaling for spec in vars(stack_spec(args, stack)).values() if spec} for stack in STACKS]
    assert found == [{count} for count in groups]


def test_a_namespace_without_the_flags_has_the_bare_norm():
    args = namespace("--norm-type", "power", warmup_updates=7)
    del args.norm_group_scaling, args.norm_warmup_updates
    fill_in_defaults(args)
    assert stack_spec(args, "encoder").ffn == NormSpec("power")


def test_0_is_the_bare_norm():
    args = filled("--norm-group-scaling", "0", "--norm-warmup-updates", "0", warmup_updates=7)
    assert stack_spec(args, "encoder").ffn == NormSpec("power")


@pytest.mark.parametrize(
    ("norms", "attributes", "warmup"),
    [
        (["power"], {"warmup_updates": 7, "update_freq": [4]}, 7),
        (["power"], {"warmup_updates": 7, "update_freq": [4, 2]}, 7),
        (["power"], {}, 0),
        (["layer"], {"warmup_updates": 7}, 7),
        (["power-released"], {"warmup_updates": 7, "update_freq": [4]}, 28),
        (["power-released"], {"warmup_updates": 7}, 7),
        (["power", "--decoder-norm-output", "power-released"], {"warmup_updates": 7, "update_freq": [4]}, 7),
    ],
)
def test_an_automatic_warmup_is_stored_as_a_number(norms, attributes, warmup):
    args = filled("--norm-type", *norms, **attributes)
    assert args.norm_warmup_updates == warmup


def test_a_log_says_what_auto_came_to():
    args = filled("--encoder-norm-output", "power-released", warmup_updates=7)
    assert describe_stack(stack_spec(args, "encoder")) == (
        "power after scaling each token in 4 groups with a warm-up of 7 updates (self-attn, ffn); "
        "power-released after scaling each token in 4 groups with a warm-up of 1000 forward calls (output)"
    )
    assert describe_stack(stack_spec(args, "decoder")) == "layer (self-attn, ffn, output, cross-attn)"


def test_a_site_goes_over_its_stack():
    args = filled("--norm-type", "pn-v", "--encoder-norm-output", "layer", "--decoder-norm-cross-attn", "batch")
    encoder, decoder = stack_spec(args, "encoder"), stack_spec(args, "decoder")
    assert [encoder.self_attn.name, encoder.ffn.name, encoder.output.name] == ["pn-v", "pn-v", "layer"]
    assert [decoder.self_attn.name, decoder.cross_attn.name] == ["layer", "batch"]


def test_every_flag_has_a_default_and_is_primitive():
    parser = argparse.ArgumentParser()
    add_norm_flags(parser)
    declared = {action.dest for action in parser._actions} - {"help"}
    assert declared == set(DEFAULTS)
    assert all(value is None or isinstance(value, str | int | float | bool) for value in vars(filled()).values())


def test_filling_in_twice_changes_nothing():
    args = filled("--norm-position", "post", "--norm-group-scaling", "heads")
    before = dict(vars(args))
    fill_in_defaults(args)
    assert vars(args) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--norm-type", "instance"], ", ".join(map(repr, available_norms()))),
        (["--decoder-norm-ffn", "instance"], "invalid choice: 'instance'"),
        (["--norm-alpha-fwd", "1"], r"expected a number in \[0, 1\), got 1"),
        (["--norm-alpha-bwd", "-0.5"], r"expected a number in \[0, 1\), got -0.5"),
        (["--norm-alpha-bwd", "nan"], r"expected a number in \[0, 1\), got nan"),
        (["--norm-alpha-bwd", "x"], r"expected a number in \[0, 1\), got x"),
        (["--norm-eps", "0"], "expected a number above 0, got 0"),
        (["--norm-eps", "-1e-5"], "expected a number above 0"),
        (["--norm-warmup-updates", "-1"], "expected a number of updates, 0 or more, or 'auto', got -1"),
        (["--norm-group-scaling", "tails"], "expected a number of groups, 'heads' or 'auto', got tails"),
        (["--norm-group-scaling", "-2"], "got -2"),
        (["--norm-position", "middle"], "invalid choice"),
        (["--norm-group-count", "0"], "expected a whole number, 1 or more, or 'heads', got 0"),
        (["--norm-group-count", "tails"], "or 'heads', got tails"),
        (["--norm-dynamic-tanh-alpha", "-1"], "expected a finite number above 0, got -1"),
        (["--norm-dynamic-erf-shift", "nan"], "expected a finite number, got nan"),
    ],
)
def test_bad_values_are_argparse_errors(arguments, message):
    with pytest.raises(argparse.ArgumentError, match=message):
        namespace(f"{arguments[0]}={arguments[1]}")


@pytest.mark.parametrize(
    ("arguments", "attributes", "message"),
    [
        (["--norm-group-scaling", "5"], {}, "5 groups do not divide the encoder's 12 channels"),
        (
            ["--norm-group-scaling", "heads", "--decoder-norm-ffn", "power"],
            {"decoder_embed_dim": 10},
            "4 groups do not divide the decoder's 10",
        ),
        (
            ["--decoder-norm-ffn", "power-released"],
            {"warmup_updates": 7, "update_freq": [4]},
            "power needs 7 updates and power-released 28 forward calls",
        ),
        (["--norm-type", "power-released"], {"warmup_updates": 7, "update_freq": [4, 2]}, "--update-freq changes"),
        (
            ["--norm-type", "group", "--norm-group-count", "5"],
            {},
            "group of the encoder's self-attn: expected",
        ),
        (["--norm-position", "post", "--decoder-norm-output", "layer"], {}, "--decoder-norm-output needs"),
        (["--norm-position", "post"], {"encoder_normalize_before": True}, "contradicts --encoder-normalize-before"),
        (["--norm-sync"], {"decoder_layerdrop": 0.1, "distributed_world_size": 2}, "contradicts --decoder-layerdrop"),
        (["--norm-depth-scaling", "--decoder-norm-type", "none"], {}, "no site may have none"),
        (["--decoder-norm-output", "batch"], {"no_decoder_final_norm": True}, "contradicts --no-decoder-final-norm"),
        (["--decoder-norm-cross-attn", "batch"], {"no_cross_attention": True}, "contradicts --no-cross-attention"),
    ],
)
def test_contradictions(arguments, attributes, message):
    with pytest.raises(FlagError, match=message) as caught:
        filled(*arguments, **attributes)
    assert isinstance(caught.value, ValueError) and caught.value.code.startswith("fairseq_powernorm: error: ")


def test_the_ranks_of_torchrun_count_too(monkeypatch):
    filled("--norm-sync", decoder_layerdrop=0.1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(FlagError, match="contradicts --decoder-layerdrop"):
        filled("--norm-sync", decoder_layerdrop=0.1)


def test_groups_have_to_divide_the_channels_only_where_tokens_are_scaled():
    args = filled("--norm-group-scaling", "5", "--norm-type", "layer", "--decoder-norm-ffn", "layer")
    assert stack_spec(args, "encoder").ffn.group_scaling == 0


def test_heads_are_counted_by_stack():
    args = filled("--norm-group-scaling", "heads", "--decoder-norm-type", "power", decoder_attention_heads=6)
    assert stack_spec(args, "encoder").ffn.group_scaling == 4
    assert stack_spec(args, "decoder").ffn.group_scaling == 6


def test_a_setting_of_one_norm_reaches_it_alone():
    args = filled("--norm-type", "group", "--decoder-norm-ffn", "dynamic-erf", "--norm-dynamic-erf-alpha", "0.7")
    encoder, decoder = stack_spec(args, "encoder"), stack_spec(args, "decoder")
    assert encoder.ffn.own == {"count": 4}  # heads
    assert decoder.ffn.own == {"alpha": 0.7, "shift": 0.0} and decoder.self_attn.own == {}
    assert describe_stack(encoder) == "group, count 4 (self-attn, ffn, output)"
    assert stack_spec(filled("--norm-type", "group", "--norm-group-count", "3"), "encoder").ffn.own == {"count": 3}


def test_a_setting_is_named_after_its_norm():
    shared = {f"norm_{setting}" for setting in NormSpec("power").settings()}
    assert not shared & set(OWN_FLAGS)
    for flag, own in OWN_FLAGS.items():
        assert all(flag.startswith(f"norm_{name.removesuffix('-released').replace('-', '_')}_") for name in own.norms)


def test_flags_that_no_norm_uses_are_named():
    given = ["--norm-alpha-bwd", "0.8", "--norm-group-count", "3", "--norm-group-scaling", "2", "--norm-eps", "1e-3"]
    assert unused_flags(filled("--norm-type", "layer", *given)) == [
        *("--norm-alpha-bwd", "--norm-group-scaling", "--norm-group-count")
    ]
    assert unused_flags(filled("--norm-type", "power", "--decoder-norm-ffn", "group", *given)) == []
    assert unused_flags(filled("--norm-type", "layer")) == unused_flags(filled()) == []


@pytest.mark.parametrize(
    ("norm", "attributes", "settings"),
    [
        ("unified", {"max_update": 1080}, {"warmup_updates": 43}),
        ("unified-released", {}, {"warmup_updates": 4000}),
        ("progressive-rep-batch", {"max_update": 1080}, {"updates": 864, "warmup_updates": 0}),
    ],
)
def test_a_schedule_is_a_share_of_the_training(norm, attributes, settings):
    args = filled("--norm-type", norm, **attributes)
    own = stack_spec(args, "encoder").ffn.own
    assert {key: own[key] for key in settings} == settings
    assert all(not isinstance(value, str) or value in ("diff", "heads") for value in own.values())
    fill_in_defaults(args)
    assert stack_spec(args, "encoder").ffn.own == own
    flag = f"--norm-{norm.removesuffix('-released')}-{next(iter(settings)).replace('_', '-')}"
    given = stack_spec(filled("--norm-type", norm, flag, "7", **attributes), "encoder").ffn.own
    assert given[next(iter(settings))] == 7


def test_the_inner_norm_has_the_channels_of_the_hidden_layer():
    args = filled("--encoder-norm-ffn-inner", "group", "--norm-group-count", "8", "--norm-type", "layer")
    assert stack_spec(args, "encoder").ffn_inner.own == {"count": 8}  # which divides 24, not 12
    assert stack_spec(args, "decoder").ffn_inner is None
    assert describe_stack(stack_spec(args, "encoder")).endswith("group, count 8 (ffn-inner)")


def test_peri_ln_is_pre_norm_and_more():
    args = filled("--norm-position", "peri", "--encoder-norm-output", "rms")
    assert args.encoder_normalize_before and stack_spec(args, "encoder").output.name == "rms"


def test_help_has_the_settings_of_a_norm_together():
    parser = argparse.ArgumentParser()
    add_norm_flags(parser)
    families = [action.help.split("]")[0] for action in parser._actions if (action.help or "").startswith("[")]
    assert len(families) == len(OWN_FLAGS)
    assert [name for number, name in enumerate(families) if name not in families[:number]] == [
        name for number, name in enumerate(families) if number == 0 or families[number - 1] != name
    ]
    assert "[unified, unified-released] updates whose quadratic means" in " ".join(parser.format_help().split())
