"""The flags: parsing, defaults and contradictions."""

import argparse

import pytest

from fairseq_powernorm.flags import DEFAULTS, FlagError, add_norm_flags, fill_in_defaults, stack_spec
from fairseq_powernorm.spec import NormSpec


def namespace(*arguments, channels=12, heads=4, **attributes):
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_norm_flags(parser.add_argument_group("model", argument_default=argparse.SUPPRESS))
    args = parser.parse_args(arguments)
    for stack in ("encoder", "decoder"):
        setattr(args, f"{stack}_embed_dim", channels)
        setattr(args, f"{stack}_attention_heads", heads)
    for name, value in attributes.items():
        setattr(args, name, value)
    return args


def filled(*arguments, **attributes):
    args = namespace(*arguments, **attributes)
    fill_in_defaults(args)
    return args


def test_defaults_are_those_of_the_paper():
    args = filled()
    encoder, decoder = stack_spec(args, "encoder"), stack_spec(args, "decoder")
    assert encoder.self_attn == encoder.ffn == encoder.output == NormSpec("power")
    assert encoder.cross_attn is None
    assert {site.name for site in (decoder.self_attn, decoder.cross_attn, decoder.ffn, decoder.output)} == {"layer"}
    assert args.encoder_normalize_before and args.decoder_normalize_before


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
        (["--norm-type", "instance"], "'layer', 'batch', 'pn-v', 'power', 'power-released'"),
        (["--decoder-norm-ffn", "rms"], "invalid choice: 'rms'"),
        (["--norm-alpha-fwd", "1"], r"expected a number in \[0, 1\), got 1"),
        (["--norm-alpha-bwd", "-0.5"], r"expected a number in \[0, 1\), got -0.5"),
        (["--norm-alpha-bwd", "nan"], r"expected a number in \[0, 1\), got nan"),
        (["--norm-alpha-bwd", "x"], "invalid decay value: 'x'"),
        (["--norm-eps", "0"], "expected a number above 0, got 0"),
        (["--norm-eps", "-1e-5"], "expected a number above 0"),
        (["--norm-warmup-updates", "-1"], "expected 0 or more, got -1"),
        (["--norm-group-scaling", "tails"], "expected a number of groups or 'heads', got tails"),
        (["--norm-group-scaling", "-2"], "got -2"),
        (["--norm-position", "middle"], "invalid choice"),
    ],
)
def test_bad_values_are_argparse_errors(arguments, message):
    with pytest.raises(argparse.ArgumentError, match=message):
        namespace(f"{arguments[0]}={arguments[1]}")


@pytest.mark.parametrize(
    ("arguments", "attributes", "message"),
    [
        (["--norm-group-scaling", "5"], {}, "5 groups do not divide the encoder's 12 channels"),
        (["--norm-group-scaling", "heads"], {"decoder_embed_dim": 10}, "4 groups do not divide the decoder's 10"),
        (["--norm-position", "post", "--decoder-norm-output", "layer"], {}, "--decoder-norm-output needs"),
        (["--norm-position", "post"], {"encoder_normalize_before": True}, "contradicts --encoder-normalize-before"),
        (["--norm-sync"], {"decoder_layerdrop": 0.1, "distributed_world_size": 2}, "contradicts --decoder-layerdrop"),
    ],
)
def test_contradictions(arguments, attributes, message):
    with pytest.raises(FlagError, match=message) as caught:
        filled(*arguments, **attributes)
    assert isinstance(caught.value, ValueError) and caught.value.code.startswith("fairseq_powernorm: error: ")


def test_heads_are_counted_by_stack():
    args = filled("--norm-group-scaling", "heads", "--decoder-norm-type", "power", decoder_attention_heads=6)
    assert stack_spec(args, "encoder").ffn.group_scaling == 4
    assert stack_spec(args, "decoder").ffn.group_scaling == 6
