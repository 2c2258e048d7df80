"""Theorem 4's bound against its formula in numpy, over a training with jumps."""

import numpy as np
import pytest
import torch
from torch import nn

from fairseq_powernorm import build_norm
from fairseq_powernorm.norms.update import one_update
from fairseq_powernorm.recording.bound import BoundObserver


@pytest.mark.parametrize("warmup", [0, 3])
def test_it_is_what_the_formula_says(warmup):
    norm = build_norm("power", 3, warmup_updates=warmup).double()
    nn.init.uniform_(norm.weight, 0.5, 2)
    observer, largest = BoundObserver(norm), np.zeros(3)
    generator = torch.Generator().manual_seed(0)
    for step in range(8):
        norm.set_num_updates(step)
        x = torch.randn(10, 3, generator=generator, dtype=torch.float64) * (20 if step == 5 else 1)
        x.requires_grad_()
        grad = torch.randn(10, 3, generator=generator, dtype=torch.float64)
        square_mean = norm.running_square_mean.numpy().copy()
        with one_update(norm):
            norm(x).backward(grad)
        rows, g = x.detach().numpy(), grad.numpy() * norm.weight.detach().numpy()
        root = np.sqrt((np.mean(rows**2, axis=0) if step < warmup else square_mean) + norm.eps)
        normalized = rows / root
        own = np.sqrt((g**2).mean(0)) / np.sqrt((normalized**2).mean(0))
        limit = (abs(g) + (own if step < warmup else largest) * abs(normalized)) / root
        largest = np.maximum(largest, own)
        (row,) = observer.rows
        observer.rows.clear()
        assert row["gradient"] == pytest.approx(float(x.grad.norm())) and row["bound"] == pytest.approx(
            np.linalg.norm(limit)
        )
        assert (
            row["largest_share"] == pytest.approx((abs(x.grad.numpy()) / limit).max())
            and row["largest_share"] <= 1 + 1e-9
        )
        assert row["projection_share"] <= 1


def test_a_model_without_power():
    for model in (nn.Linear(2, 2), build_norm("batch", 4), build_norm("power", 4, group_scaling=2)):
        with pytest.raises(ValueError, match=r"has no norm 'power' without scaling, which the bound is of$"):
            BoundObserver(model)


def test_channels_may_stand_in_another_dimension():
    """Images (B, C, H, W) have the bound of their positions."""
    images, grad, found = torch.randn(3, 5, 2, 4), torch.randn(3, 5, 2, 4), []
    for settings, layout in (({"channel_dim": 1}, lambda x: x), ({}, lambda x: x.permute(0, 2, 3, 1).reshape(-1, 5))):
        norm = build_norm("power", 5, **settings)
        observer = BoundObserver(norm)
        for step in range(2):
            with one_update(norm, num_updates=step):
                norm(layout(images).clone().requires_grad_()).backward(layout(grad))
        found.append([value for row in observer.rows for value in row.values() if isinstance(value, float)])
    assert len(found[0]) == 2 * 4 and found[0] == pytest.approx(found[1], rel=1e-5)
