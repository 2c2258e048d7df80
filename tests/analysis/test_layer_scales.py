"""The scale of activations and gradients by layer: a chain of layers worked by hand, and any model."""

import math

import pytest
import torch
from torch import nn

from fairseq_powernorm.analysis.layer_scales import LayerScale, draw, layer_names, measure_scales, to_rows


class Twice(nn.Module):
    """Gives a tuple, as fairseq's decoder layers do."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.weight * x, None


class Chain(nn.Module):
    def __init__(self, layers=3):
        super().__init__()
        self.layers = nn.ModuleList(Twice() for _ in range(layers))

    def forward(self, x):
        for layer in self.layers:
            x, _ = layer(x)
        return x


def test_a_chain_by_hand():
    """x = (3, 4): quadratic mean √12.5; each layer doubles it; the gradient of the sum is 1 at the end, halved by
    position: 1, 2, 4 backwards."""
    model, x = Chain(), torch.tensor([3.0, 4.0])
    gradient = model.layers[0].weight.grad = torch.tensor(7.0)
    found = measure_scales(model, lambda: model(x).sum())
    root = math.sqrt(12.5)
    expected = [("layers.0", 2 * root, 4.0), ("layers.1", 4 * root, 2.0), ("layers.2", 8 * root, 1.0)]
    assert [scale.module for scale in found] == [name for name, _, _ in expected]
    for scale, (_, activation, backward) in zip(found, expected, strict=True):
        assert scale.activation == pytest.approx(activation) and scale.gradient == pytest.approx(backward)
    assert model.layers[0].weight.grad is gradient and model.layers[1].weight.grad is None
    assert not model.layers[0]._forward_hooks
    with torch.no_grad():
        assert measure_scales(model, lambda: model(x).sum()) == found


def test_chosen_modules_of_any_model():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    found = measure_scales(model, lambda: model(torch.ones(3, 4)).mean(), ["2", "0"])
    assert [scale.module for scale in found] == ["0", "2"]  # in the order of the forward pass
    assert found[1].gradient == pytest.approx(1 / 3)


def test_layers_that_no_gradient_reaches():
    model = Chain()
    found = measure_scales(model, lambda: model.layers[1](model.layers[0](torch.ones(2))[0].detach())[0].sum())
    assert [scale.module for scale in found] == ["layers.0", "layers.1"] and math.isnan(found[0].gradient)


def test_a_layer_that_is_called_twice_is_measured_at_its_first_call():
    model = nn.Sequential(nn.Linear(1, 1, bias=False))
    nn.init.constant_(model[0].weight, 10.0)
    (scale,) = measure_scales(model, lambda: model(model(torch.ones(1, 1))).sum(), ["0"])
    assert (scale.activation, scale.gradient) == (10.0, 10.0)  # y = 10 x, z = 10 y


def test_outermost_lists_are_the_layers():
    model = nn.Module()
    model.encoder, model.decoder = Chain(2), nn.ModuleList([nn.ModuleList([nn.Linear(1, 1)])])
    assert layer_names(model) == ["encoder.layers.0", "encoder.layers.1", "decoder.0"]


@pytest.mark.parametrize(
    ("model", "modules", "message"),
    [
        (nn.Linear(1, 1), None, "has no list of layers"),
        (Chain(), ["layers.7"], "has no module 'layers.7'"),
    ],
)
def test_what_there_is_not(model, modules, message):
    with pytest.raises(ValueError, match=message):
        measure_scales(model, lambda: torch.zeros((), requires_grad=True), modules)


def test_table_and_chart():
    models = {
        "one": [LayerScale("a", 1.0, 0.5), LayerScale("b", 2.0, math.nan)],
        "other": [LayerScale("a", 0.25, 0.0), LayerScale("c", 3.0, 1.0)],
    }
    assert to_rows(models)[:2] == [("model", "module", "activation", "gradient"), ("one", "a", 1.0, 0.5)]
    activations, gradients = draw(models, "title").axes
    assert [list(line.get_ydata()) for line in activations.lines] == [[1.0, 2.0], [0.25, 3.0]]
    assert [list(line.get_xdata()) for line in gradients.lines] == [[0], [2]]
    assert [label.get_text() for label in activations.get_xticklabels()] == ["a", "b", "c"]
