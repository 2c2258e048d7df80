"""The formulas of initializations against figures from elsewhere, on a Transformer's layers of plain torch."""

import math

import pytest
import torch
from torch import nn

from fairseq_powernorm.initialization.models import depth_of, initialize, layers_of, linear_layers
from fairseq_powernorm.initialization.places import Depth
from fairseq_powernorm.initialization.residual import (
    ReZeroBranch,
    ScaledBranch,
    Shift,
    ShiftAfter,
    ShiftAndScale,
    ShiftBefore,
    WeightedResidual,
)
from fairseq_powernorm.initialization.schemes import SCHEMES, admin_omega, markdown_table, truncated_normal_

D, FFN = 512, 1024


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, nn.utils.skip_init(nn.Linear, channels, channels))


class Layer(nn.Module):
    """What an initialization sees of fairseq's layers."""

    def __init__(self, channels, ffn, cross_attention):
        super().__init__()
        self.embed_dim = channels
        self.self_attn = Attention(channels)
        self.encoder_attn = Attention(channels) if cross_attention else None
        self.fc1 = nn.utils.skip_init(nn.Linear, channels, ffn)
        self.fc2 = nn.utils.skip_init(nn.Linear, ffn, channels)
        self.activation_fn, self.activation_dropout_module = torch.relu, nn.Dropout(0.0)
        self.register_module("residual", None)


class Stack(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers, self.layer_norm = nn.ModuleList(layers), nn.Identity()
        self.embed_tokens = nn.Embedding(40, D)
        self.output_projection = nn.Linear(D, 40, bias=False)


def transformer(encoder, decoder, channels=D, ffn=FFN):
    model = nn.Module()
    if encoder:
        model.encoder = Stack([Layer(channels, ffn, False) for _ in range(encoder)])
    model.decoder = Stack([Layer(channels, ffn, bool(encoder)) for _ in range(decoder)])
    return model


def found(model, scheme):
    """The matrices of a model under a scheme by stack, attention, name and layer."""
    initialize(model, SCHEMES[scheme])
    depth = depth_of(model)
    return {
        (stack, matrix.attention, matrix.name, number): linear.weight.detach()
        for stack in ("encoder", "decoder")
        for number, layer in enumerate(layers_of(model, stack), start=1)
        for matrix, linear in linear_layers(layer, stack, number, depth)
    }


def assert_bound(matrix, bound):
    """Uniform within ±bound."""
    assert 0.999 * bound < matrix.abs().max() <= bound * 1.0003  # printed with four digits
    assert abs(matrix.std() / (bound / math.sqrt(3)) - 1) < 0.01
    assert abs(matrix.mean()) < 0.01 * bound


# 512 channels, 1024 in the feed-forward block, layers 1 to 6: read off the papers' and the authors' programs.
DS_PAPER, DS_PAPER_FC = [".07655 .05413 .04419 .03827 .03423 .03125", ".06250 .04419 .03608 .03125 .02795 .02552"]
DS_OUT, DS_QKV, DS_FC = [
    ".07655 .06437 .05816 .05413 .05119 .04891",
    ".05413 .04551 .04113 .03827 .03620 .03458",
    ".06250 .05256 .04749 .04419 .04180 .03993",
]


def test_ds_has_the_bounds_of_paper_and_code():
    model = transformer(6, 6)
    for (_, _, name, number), matrix in found(model, "ds").items():
        row = DS_PAPER_FC if name.startswith("fc") else DS_PAPER
        assert_bound(matrix, float(row.split()[number - 1]))
    for (_, attention, name, number), matrix in found(model, "ds-released").items():
        fused = attention == "self_attn" and name != "out_proj"
        row = DS_FC if name.startswith("fc") else DS_QKV if fused else DS_OUT
        assert_bound(matrix, float(row.split()[number - 1]))
    biases = [value for key, value in model.state_dict().items() if key.endswith(".bias")]
    assert len(biases) == 6 * 6 + 6 * 10 and not any(bias.any() for bias in biases)


# Multiples of Xavier's bound √(6/(d_in + d_out)), or of its standard deviation, worked out by hand: q and k, v, out,
# fc1 and fc2, of the encoder and of the decoder.
XAVIER_FUSED = [0.7071, 0.7071, 1, 1, 1]
GAINS = {
    (6, 6): {
        "fixup": ([0.7071 * 0.5673, 0.7071 * 0.5673, 0, 0.18257, 0],) * 2,
        "t-fixup": ([0.7071, *[0.67 * 0.63894] * 4], [0.7071, *[0.36889] * 4]),
        "admin": (XAVIER_FUSED, XAVIER_FUSED),
        "rezero": (XAVIER_FUSED, XAVIER_FUSED),
        "deepnet": ([1, *[0.49698] * 4], [1, *[0.34330] * 4]),
    },
    (2, 3): {
        "fixup": ([0.7071 * 0.65213, 0.7071 * 0.65213, 0, 0.27735, 0],) * 2,
        "t-fixup": ([0.7071, *[0.67 * 0.84090] * 4], [0.7071, *[0.43869] * 4]),
        "admin": (XAVIER_FUSED, XAVIER_FUSED),
        "rezero": (XAVIER_FUSED, XAVIER_FUSED),
        "deepnet": ([1, *[0.68302] * 4], [1, *[0.40825] * 4]),
    },
}


@pytest.mark.parametrize("scheme", GAINS[6, 6])
@pytest.mark.parametrize("sizes", GAINS)
def test_gains_that_do_not_depend_on_the_layer(sizes, scheme):
    channels, ffn = 96, 160
    for (stack, _, name, _), matrix in found(transformer(*sizes, channels, ffn), scheme).items():
        place = ["q_proj", "v_proj", "out_proj", "fc1", "fc2"].index(name.replace("k_proj", "q_proj"))
        gain = GAINS[sizes][scheme][stack == "decoder"][place]
        deviation = gain * math.sqrt(2 / (2 * channels if name.endswith("proj") else channels + ffn))
        assert abs(matrix.std() - deviation) <= 0.03 * deviation, (stack, name)
        if scheme == "deepnet":  # a normal distribution: about 1 in 16,000 beyond 4 standard deviations
            assert matrix.abs().max() > 2.8 * deviation
        else:
            assert matrix.abs().max() <= math.sqrt(3) * deviation * 1.0001


@pytest.mark.parametrize("shape", [(300, 200), (200, 300)])
def test_distributions_of_theory(shape):
    layer = Layer(200, 300, False)
    model = nn.Module()
    model.decoder = Stack([layer])
    matrix = layer.fc1.weight if shape == (300, 200) else layer.fc2.weight
    torch.nn.init.constant_(layer.fc1.bias, 7.0)
    xavier = math.sqrt(2 / 500)
    initialize(model, SCHEMES["xavier"])
    assert_bound(matrix, math.sqrt(3) * xavier)
    initialize(model, SCHEMES["he"])
    assert abs(matrix.std() / math.sqrt(2 / shape[1]) - 1) < 0.015
    initialize(model, SCHEMES["orthogonal"])
    shorter = matrix if shape[0] < shape[1] else matrix.T
    torch.testing.assert_close(shorter @ shorter.T, torch.eye(200), rtol=0, atol=1e-5)
    initialize(model, SCHEMES["truncated-normal"])
    assert abs(matrix.std() / xavier - 1) < 0.01
    assert 0.99 * 2 / 0.87962566 < matrix.abs().max() / xavier <= 2 / 0.87962566  # TensorFlow's constant
    assert (layer.fc1.bias == 7).all()  # matrices only


def test_a_truncated_normal_distribution_takes_a_gain():
    matrix = truncated_normal_(torch.empty(300, 300), 0.5)
    assert abs(matrix.std() / (0.5 / math.sqrt(300)) - 1) < 0.02


def test_fairseq_changes_nothing_and_draws_nothing():
    model = transformer(1, 1, 8, 8)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    initialize(model, SCHEMES["fairseq"])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.decoder.layers[0].residual is None


def test_weights_of_residuals():
    """admin-torch's documented values for 6 + 6 layers; DeepNet's from the paper's table of formulas."""
    assert admin_omega(12) == pytest.approx(2.0170, abs=5e-5) and admin_omega(18) == pytest.approx(2.3351, abs=5e-5)
    model = transformer(2, 3, 16, 16)
    initialize(model, SCHEMES["admin"])
    assert model.encoder.layers[1].residual["ffn"].constant == pytest.approx(1.45140, abs=1e-4)
    assert model.decoder.layers[1].residual["encoder_attn"].constant == pytest.approx(1.82836, abs=1e-4)
    initialize(model, SCHEMES["deepnet"])
    assert model.encoder.layers[0].residual["self_attn"].constant == pytest.approx(1.03177, abs=1e-4)
    assert model.decoder.layers[2].residual["ffn"].constant == pytest.approx(1.73205, abs=1e-4)
    language_model = transformer(0, 4, 16, 16)
    initialize(language_model, SCHEMES["deepnet"])
    assert set(language_model.decoder.layers[0].residual) == {"self_attn", "ffn"}
    assert language_model.decoder.layers[0].residual["ffn"].constant == pytest.approx(8**0.25)


def test_branches_are_counted():
    assert [Depth(6, 6).branches(stack) for stack in ("encoder", "decoder")] == [12, 18]
    assert Depth(6, 6, cross_attention=False).branches("decoder") == 12


@pytest.mark.parametrize("shared", ["all", "none"])
def test_t_fixup_scales_embeddings_once(shared):
    model = transformer(6, 4, 8, 8)
    if shared == "all":
        model.decoder.embed_tokens = model.encoder.embed_tokens
        model.decoder.output_projection.weight = model.encoder.embed_tokens.weight
    before = {key: value.clone() for key, value in model.state_dict().items() if "embed" in key or "output" in key}
    initialize(model, SCHEMES["t-fixup"])
    ratio = {key: model.state_dict()[key] / value for key, value in before.items()}
    encoder, decoder = 54**-0.25, 54**-0.25 if shared == "all" else 36**-0.25
    torch.testing.assert_close(ratio["encoder.embed_tokens.weight"], torch.full((40, D), encoder))
    torch.testing.assert_close(ratio["decoder.embed_tokens.weight"], torch.full((40, D), decoder))
    output = encoder if shared == "all" else 1.0
    torch.testing.assert_close(ratio["decoder.output_projection.weight"], torch.full((40, D), output))


@pytest.mark.parametrize("tied", [True, False])
def test_fixup_has_no_biases_and_an_untied_output_of_zero(tied):
    model = transformer(1, 1, 8, 12)
    if tied:
        model.decoder.output_projection.weight = model.decoder.embed_tokens.weight
    initialize(model, SCHEMES["fixup"])
    assert not any(isinstance(module, nn.Linear) and module.bias is not None for module in model.modules())
    assert bool(model.decoder.output_projection.weight.any()) == tied
    scalars = sorted(key for key, value in model.state_dict().items() if value.numel() == 1)
    assert len(scalars) == (4 + 2 + 2) + (5 + 3 + 1)  # shifts, scales and the ends, as the authors' code has them
    assert all(key.endswith((".bias", ".scale")) for key in scalars)


def test_modules_compute_their_formulas():
    x, branch = torch.randn(3, 2, 5, dtype=torch.float64), torch.randn(3, 2, 5, dtype=torch.float64)
    cases = {
        WeightedResidual(1.5): 1.5 * x + branch,
        WeightedResidual(1.5, 5): torch.tensor([1.5, 2, 3, 4, 5], dtype=torch.float64) * x + branch,
        ScaledBranch(): x + 3 * branch,
        ReZeroBranch(): x + 3 * branch,
    }
    for module, expected in cases.items():
        module.double()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(3.0)
            if getattr(module, "omega", None) is not None:
                module.omega.copy_(torch.tensor([1.5, 2, 3, 4, 5]))
        torch.testing.assert_close(module(branch, x), expected)
    for module, expected in (
        (Shift(), x - 3),
        (ShiftAndScale(), 3 * (x - 3)),
        (ShiftBefore(torch.relu), torch.relu(x - 3)),
        (ShiftAfter(nn.ReLU()), torch.relu(x) - 3),
    ):
        for parameter in module.parameters():
            nn.init.constant_(parameter, 3.0)
        torch.testing.assert_close(module.double()(x), expected)


def test_parameters_start_where_the_papers_say():
    assert ScaledBranch().scale.item() == 1 and ReZeroBranch().alpha.item() == 0 and Shift().bias.item() == 0
    assert ShiftAndScale().scale.item() == 1 and (WeightedResidual(2.5, 4).omega == 2.5).all()
    assert not list(WeightedResidual(2.5).parameters())


def test_the_documents_have_the_table(root):
    """``python -m fairseq_powernorm.initialization`` prints it."""
    assert markdown_table() in (root / "docs" / "initialization.md").read_text(encoding="utf-8")
