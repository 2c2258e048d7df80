"""Choosing a norm by name."""

import re

import pytest
import torch

from fairseq_powernorm import available_norms, build_norm
from fairseq_powernorm.norms.registry import (
    NORMS,
    build_from_spec,
    declarations,
    markdown_table,
    norms_with,
    own_flags,
    settings_of,
)
from fairseq_powernorm.norms.spec import NormSpec


def test_names_that_checkpoints_hold_stay():
    assert {"layer", "batch", "pn-v", "power", "power-released"} <= set(available_norms())


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=f"'instance'; known norms: {', '.join(available_norms())}$"):
        build_norm("instance", 4)


def test_declarations_are_complete_and_tell_norms_apart():
    """A colour and a short name of its own; a scaling only where the norm takes one."""
    declared = declarations()
    assert all(name == norm.name and norm.training and norm.gradient for name, norm in declared.items())
    for attribute in ("short_name", "color"):
        assert len({getattr(norm, attribute) for norm in declared.values()}) == len(declared)
    assert all(re.fullmatch("#[0-9A-F]{6}", norm.color) for norm in declared.values())
    assert {name for name, norm in declared.items() if norm.auto_group_scaling != "0"} <= set(
        norms_with("group_scaling")
    )


def test_the_documents_have_the_table_of_norms(root):
    """``python -m fairseq_powernorm.norms`` prints it."""
    assert markdown_table() in (root / "docs" / "norms.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", available_norms())
def test_options_of_torchs_norms(name):
    assert build_norm(name, 4, elementwise_affine=False, device="meta", dtype=torch.float64).weight is None
    with pytest.raises(
        TypeError, match="takes elementwise_affine, bias, device, dtype, batch_first, channel_dim; got affine"
    ):
        NORMS[name](4, affine=False)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("layer", {"alpha_fwd": 0.9}, "'layer' takes eps; got alpha_fwd"),
        ("none", {"eps": 1e-5}, "'none' takes no settings; got eps"),
        ("none", {"elementwise_affine": True}, "NoNorm has no affine parameters, got elementwise_affine=True"),
        ("batch", {"alpha_bwd": 0.9}, "'batch' takes eps, alpha_fwd, group_scaling, sync; got alpha_bwd"),
        ("pn-v", {"warmup_updates": 3}, "got warmup_updates"),
        ("power-released", {"sync": True}, "got sync"),
        ("power", {"momentum": 0.1}, "takes eps, alpha_fwd, alpha_bwd, warmup_updates, group_scaling, sync"),
        ("power", {"alpha_fwd": 1.0}, r"alpha_fwd in \[0, 1\), got 1.0"),
        ("power", {"alpha_bwd": -0.1}, r"alpha_bwd in \[0, 1\), got -0.1"),
        ("power", {"alpha_bwd": float("nan")}, r"alpha_bwd in \[0, 1\)"),
        ("power", {"warmup_updates": -1}, "warmup_updates >= 0"),
        ("power-released", {"alpha_bwd": 1}, r"alpha_bwd in \[0, 1\)"),
        ("power-released", {"warmup_updates": -1}, "warmup_updates >= 0"),
        ("layer", {"eps": 0}, "eps > 0"),
        ("pn-v", {"eps": -1e-5}, "eps > 0"),
        ("batch", {"group_scaling": 3}, "divides 4 channels, got 3"),
        ("batch", {"group_scaling": -2}, "got -2"),
        ("batch", {"group_scaling": "heads"}, "got heads"),
        ("group", {"count": 3}, "expected count to divide 4 channels, got 3"),
        ("group", {"count": 0}, "expected count to be a whole number, 1 or more, got 0"),
        ("group", {"count": 2.0}, "expected count to be a whole number, 1 or more, got 2.0"),
        ("group", {"count": True}, "got True"),
        ("dynamic-tanh", {"alpha": 0.0}, "expected alpha to be a finite number above 0, got 0.0"),
        ("dynamic-tanh", {"eps": 1e-5}, "'dynamic-tanh' takes alpha; got eps"),
        ("dynamic-erf", {"shift": float("inf")}, "expected shift to be a finite number, got inf"),
    ],
)
def test_bad_settings_are_named(name, settings, message):
    with pytest.raises(ValueError, match=message):
        build_norm(name, 4, **settings)


def test_no_channels():
    with pytest.raises(ValueError, match="channels >= 1, got 0"):
        build_norm("power", 0)


@pytest.mark.parametrize("name", available_norms())
def test_a_spec_gives_each_norm_the_settings_that_it_takes(name):
    own = {own.keyword: own.default for own in own_flags().values() if name in own.norms}
    shared = {"eps": 1e-3, "alpha_fwd": 0.5, "alpha_bwd": 0.6, "warmup_updates": 7, "group_scaling": 2, "sync": True}
    spec = NormSpec(name, **shared, own=own)
    norm = build_from_spec(spec, 4)
    for setting in set(settings_of(name)) - {"sync"}:
        expected = spec.own[setting] if setting in spec.own else getattr(spec, setting)
        assert norm.own_values[setting] == expected if setting in spec.own else getattr(norm, setting) == expected


def test_power_counts_updates_that_it_is_told():
    norm = build_norm("power", 4, warmup_updates=2)
    assert norm.warming_up
    norm.set_num_updates(2)
    assert not norm.warming_up
