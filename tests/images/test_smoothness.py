"""Smoothness along the gradient against a softmax regression by formula, and that measuring changes nothing."""

import csv

import numpy as np
import pytest
import torch
from torch import nn

from fairseq_powernorm.images import smoothness
from fairseq_powernorm.images.data import Images
from fairseq_powernorm.images.resnet import ResNet20
from fairseq_powernorm.images.smoothness import COLUMNS, main, measure, study


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("fairseq_powernorm.images.resnet.BLOCKS", 1)


def images(count):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.arange(count) % 10, "generated")


def regression(weights, x, labels):
    """Loss and gradient of softmax regression."""
    scores = x @ weights.T
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    chosen = np.arange(len(labels)), labels
    loss = -np.log(shares[chosen]).mean()
    shares[chosen] -= 1
    return loss, shares.T @ x / len(labels)


def test_it_is_what_the_formulas_say(monkeypatch):
    monkeypatch.setattr(smoothness, "STEPS", (1.0, 3.0))
    model = nn.Linear(4, 3, bias=False).double()
    x, labels = torch.randn(20, 4, dtype=torch.float64), torch.randint(3, (20,))
    found = measure(model, x, labels, 2.0)
    weights, inputs = model.weight.detach().numpy(), x.numpy()
    loss, gradient = regression(weights, inputs, labels.numpy())
    there = [regression(weights - size * gradient, inputs, labels.numpy()) for size in (2.0, 6.0)]
    distances = [np.linalg.norm(gradient - other) for _, other in there]
    length = np.linalg.norm(gradient)
    smooth = max(distance / (size * length) for distance, size in zip(distances, (2.0, 6.0), strict=True))
    losses = [value for value, _ in there]
    expected = [loss, length, min(losses), max(losses), min(distances), max(distances), smooth]
    assert list(found) == list(COLUMNS[1:-1]) and list(found.values()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("norm", ["batch", "pn-v", "none"])
def test_measuring_changes_nothing(norm):
    model = ResNet20(norm)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    measure(model, torch.randn(4, 3, 32, 32), torch.arange(4), 0.1)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_study_of_the_bound(tmp_path):
    """Rounding in float32 aside no gradient is beyond it, and it is not far away either."""
    bounds = study("power", images(32), steps=4, every=2, learning_rate=0.01, seed=1, batch=16)
    assert [*dict.fromkeys(row["step"] for row in bounds)] == [0, 1, 2, 3] and len(bounds) == 4 * 7
    assert all(0.1 < row["largest_share"] <= 1 + 1e-4 and row["projection_share"] <= 1 + 1e-4 for row in bounds)
    assert any(row["projection_share"] > 0 for row in bounds)


def test_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setattr(smoothness, "STEPS", (1.0,))
    data = images(20)
    np.savez(tmp_path / "train.npz", pixels=data.pixels, labels=data.labels, source="generated")
    words = [
        "--data",
        str(tmp_path),
        "--output",
        str(tmp_path / "out"),
        "--images",
        "20",
        "--steps",
        "3",
        "--every",
        "2",
    ]
    main([*words, "--norms", "none,pn-v"])
    with open(tmp_path / "out" / "smoothness_pn-v.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["0", "2"] and float(rows[0]["effective_smoothness"]) > 0
    table = tmp_path / "out" / "smoothness_none.csv"
    before = table.stat().st_mtime_ns
    main([*words, "--norms", "none"])
    assert table.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"smoothness_none.csv was made with seed 1, asked for 7; give another"):
        main([*words, "--norms", "none", "--seed", "7"])
    assert table.stat().st_mtime_ns == before
    with pytest.raises(SystemExit, match=r"error: --norms takes layer, .*, none, got bn; see --help$"):
        main([*words, "--norms", "bn"])
