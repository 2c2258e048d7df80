"""The recorder against an account in float64 numpy of what went through the norms, and against trainings without it."""

import contextlib
import functools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from fairseq_powernorm import available_norms, build_norm
from fairseq_powernorm.norms.registry import NORMS
from fairseq_powernorm.norms.update import one_update
from fairseq_powernorm.recording.quantities import QUANTITIES
from fairseq_powernorm.recording.record import read_record
from fairseq_powernorm.recording.recorder import NormRecorder

T, B, C, EPS = 6, 5, 8, 1e-5
NAMES = ("first", "second", "third")


class Model(nn.Module):
    """Three norms with linear layers between them; (T, B, C) and a mask."""

    def __init__(self, names=("power", "layer", "batch"), groups=2):
        super().__init__()
        torch.manual_seed(3)
        self.linear = nn.ModuleList(nn.Linear(C, C) for _ in names)
        for attribute, name in zip(NAMES, names, strict=True):
            scaled = groups and NORMS[name].declaration.auto_group_scaling != "0"
            self.add_module(attribute, build_norm(name, C, **({"group_scaling": groups} if scaled else {})))
            with torch.no_grad():
                getattr(self, attribute).weight.uniform_(0.5, 2)

    def block(self, linear, norm, mask, x):
        return torch.tanh(linear(norm(x, mask)))

    def forward(self, x, mask, how=None):
        for linear, name in zip(self.linear, NAMES, strict=True):
            block = functools.partial(self.block, linear, getattr(self, name), mask)
            x = block(x) if how is None else checkpoint(block, x, use_reentrant=how == "reentrant")
        return x[~mask.t()]


def batch(seed):
    """A batch whose padding holds NaN, with sentences of their own means."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, T + 1, (B,), generator=generator)
    mask = torch.arange(T) >= lengths[:, None]
    x = torch.randn(T, B, C, generator=generator) * 3 + torch.randn(1, B, C, generator=generator) + 2
    return x.masked_fill(mask.t()[..., None], torch.nan).requires_grad_(), mask


class Account:
    """What went through each norm, as arrays in float64."""

    def __init__(self, model):
        self.seen = []
        for name in NAMES:
            getattr(model, name).register_forward_hook(
                lambda norm, given, y, name=name: self.note(name, norm, given, y)
            )

    def note(self, name, norm, given, output):
        x, mask = given
        seen = {"name": name, "norm": norm, "mask": mask.t().numpy(), "x": x.detach().double().numpy()}
        seen["weight"] = norm.weight.detach().double().numpy()
        self.seen.append(seen)
        output.register_hook(lambda grad: seen.update(grad=grad.double().numpy()))


def scaled(x, groups):
    """Each token's groups at quadratic mean 1."""
    parts = x.reshape(*x.shape[:-1], groups, -1)
    return (parts / np.sqrt((parts**2).mean(-1, keepdims=True) + EPS)).reshape(x.shape)


def moments(rows):
    return [rows.mean(0), rows.var(0), (rows**2).mean(0)]


def expected(x, seen, running, divisor):
    """All quantities of one pass by their definitions."""
    real = ~seen["mask"]
    rows, g = x[real], (seen["grad"] * seen["weight"])[real] / divisor
    mean, variance, square_mean = moments(rows)
    size = lambda vector: math.sqrt((vector**2).sum()) / C  # noqa: E731
    of_sentences = np.stack([x[:, b][real[:, b]].mean(0) for b in range(B)])
    between = (real.sum(0)[:, None] * (of_sentences - mean) ** 2).sum() / (len(rows) * variance.sum())
    normalized = (rows - mean) / np.sqrt(variance + EPS)
    found = [size(b - r) for b, r in zip((mean, variance, square_mean), running, strict=True)]
    found += [size(np.sqrt(variance) - np.sqrt(running[1]))]
    found += [*map(size, (mean, variance, square_mean)), *map(size, running)]
    found += [(abs(running[0] - mean) / np.sqrt(variance + EPS)).mean()]
    found += [
        abs(np.sqrt((r + EPS) / (b + EPS)) - 1).mean() for r, b in ((running[1], variance), (running[2], square_mean))
    ]
    means = g.mean(0), (g * normalized).mean(0), (g * rows / np.sqrt(square_mean + EPS)).mean(0)
    return [*found, between, *(np.linalg.norm(each) for each in means)]


def train(model, updates, recorder=None, how=None, start=0):
    """SGD with two micro-batches an update, the learning rate's updates ``start`` + 1 … ``updates``; their losses."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for number in range(start + 1, updates + 1):
        with one_update(model) as update, recorder.record(update, number) if recorder else contextlib.nullcontext():
            for seed in (2 * number, 2 * number + 1):
                loss = model(*batch(seed), how).square().sum()
                loss.backward()
                losses.append(loss.detach())
            optimizer.step()
            optimizer.zero_grad()
    return torch.stack(losses)


def places(seen):
    """x as it comes in, and after the scaling where there is one, zero at padding."""
    clean, groups = np.where(seen["mask"][..., None], 0, seen["x"]), getattr(seen["norm"], "group_scaling", 0)
    return {"input": clean, **({"scaled": scaled(clean, groups)} if groups else {})}


@pytest.mark.parametrize("scale", [1.0, 128.0])
@pytest.mark.parametrize("names", [("power", "layer", "batch"), ("batch", "pn-v", "power"), ("layer", "rms", "pn-v")])
def test_the_record_equals_an_account_in_float64(tmp_path, names, scale):
    """12 updates of two micro-batches, of which every fourth is recorded; μ, σ² and ψ² at both places."""
    model = Model(names)
    account = Account(model)
    recorder = NormRecorder(model, tmp_path, interval=4)
    recorder.summed_over = 7
    running, wanted = {}, []
    for update in range(1, 13):
        account.seen.clear()
        with one_update(model, scale) as under_way, recorder.record(under_way, update):
            for half in range(2):
                (model(*batch(10 * update + half)).square().sum() * scale).backward()
        model.zero_grad()
        found = {}
        for number, seen in enumerate(account.seen):
            real = ~seen["mask"]
            for place, x in places(seen).items():
                key = seen["name"], place
                found.setdefault(key, []).append((real.sum(), moments(x[real])))
                before = running.setdefault(key, [np.zeros(C), np.ones(C), np.ones(C)])
                wanted.append((update, number // 3, *key, int(real.sum()), expected(x, seen, before, 7 * scale)))
        for key, halves in found.items():
            tokens = sum(count for count, _ in halves)
            for index in range(3):  # σ² follows the mean of the halves' variances, as batch's own does
                mean = sum(count * values[index] for count, values in halves) / tokens
                running[key][index] = 0.9 * running[key][index] + 0.1 * mean
    wanted = [each for each in wanted if each[0] % 4 == 0]
    rows = read_record(tmp_path)
    assert [(r["update"], r["pass"], r["norm"], r["place"], r["tokens"]) for r in rows] == [each[:5] for each in wanted]
    assert all(r["rank"] == 0 and r["channels"] == C and r["kind"] == names[NAMES.index(r["norm"])] for r in rows)
    for row, (*_, values) in zip(rows, wanted, strict=True):
        for name, value in zip(QUANTITIES, values, strict=True):
            assert row[name] == pytest.approx(value, rel=1e-6, abs=1e-8), (row["norm"], row["place"], name)


@pytest.mark.parametrize("how", [None, "reentrant", "other"])
def test_a_training_with_a_recorder_is_bit_equal_to_one_without(tmp_path, how):
    plain, recorded = Model(), Model()
    recorder = NormRecorder(recorded, tmp_path, interval=2)
    assert torch.equal(train(plain, 7, how=how), train(recorded, 7, recorder, how=how))
    for key, value in plain.state_dict().items():
        assert torch.equal(value, recorded.state_dict()[key]), key


@pytest.mark.parametrize("how", ["reentrant", "other"])
def test_activation_checkpointing_gives_the_same_record(tmp_path, how):
    for folder, kind in (("plain", None), ("recomputed", how)):
        model = Model()
        train(model, 6, NormRecorder(model, tmp_path / folder, interval=3), how=kind)
    found, plain = read_record(tmp_path / "recomputed"), read_record(tmp_path / "plain")
    assert found == plain and not any(math.isnan(row["gradient_mean"]) for row in found)


def test_an_update_that_is_left_out_is_not_recorded(tmp_path):
    model = Model()
    recorder = NormRecorder(model, tmp_path, interval=1)
    train(model, 3, recorder)
    averages = [average.clone() for sites in recorder.sites.values() for site in sites for average in site.averages]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with one_update(model) as update, recorder.record(update, 4):
        model(*batch(0)).square().sum().backward()
        update.taken = False
    optimizer.zero_grad()
    assert {row["update"] for row in read_record(tmp_path)} == {1, 2, 3}
    now = [average for sites in recorder.sites.values() for site in sites for average in site.averages]
    assert all(map(torch.equal, now, averages))


def test_passes_that_are_ignored_evaluation_and_passes_outside_are_not_recorded(tmp_path):
    model = Model()
    recorder = NormRecorder(model, tmp_path, interval=1)
    model(*batch(1)).sum().backward()
    with one_update(model) as update, recorder.record(update, 1):
        model.eval()
        model(*batch(2))
        model.train()
        update.ignored = True
        model(*batch(3)).sum().backward()
        update.ignored = False
        model(*batch(4)).sum().backward()
    rows = read_record(tmp_path)
    assert len(rows) == 5 and {row["tokens"] for row in rows} == {int((~batch(4)[1]).sum())}
    assert {row["pass"] for row in rows} == {1}


class Operators(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.names.append(str(function))
        return function(*arguments, **(keywords or {}))


def operators(model, recorder=None):
    with Operators() as counted:
        train(model, 3, recorder)
    return counted.names


def test_off_is_not_one_operator_more(tmp_path):
    expected = operators(Model())
    model = Model()
    recorder = NormRecorder(model, tmp_path / "one", interval=1)
    assert operators(model) == expected  # hooks outside an update that is recorded
    recorder.remove()
    assert operators(model, recorder) == expected
    model = Model()
    assert len(operators(model, NormRecorder(model, tmp_path / "two", interval=1))) > len(expected)


def test_between_two_records_nothing_waits_for_the_device(tmp_path, monkeypatch):
    """No tensor becomes a number: not in a pass, and not at the end of an update that is not recorded."""
    del monkeypatch
    model = Model()
    with Operators() as counted:
        train(model, 4, NormRecorder(model, tmp_path, interval=5))
    assert "aten._local_scalar_dense.default" not in counted.names
    assert "fairseq_powernorm.moments.default" in counted.names
    with Operators() as counted:
        train(model, 5, NormRecorder(model, tmp_path, interval=5, updates=4), start=4)
    assert "aten._local_scalar_dense.default" in counted.names or "aten._to_copy.default" in counted.names


def test_rows_have_no_sentences(tmp_path):
    norm = build_norm("pn-v", C)
    recorder = NormRecorder(norm, tmp_path, interval=1)
    with one_update(norm) as update, recorder.record(update, 1):
        norm(torch.randn(9, C)).sum().backward()
    (row,) = read_record(tmp_path)
    assert math.isnan(row["between_sentences"]) and row["norm"] == "" and row["tokens"] == 9
    assert row["gradient_mean"] > 0


def test_channels_may_stand_in_another_dimension(tmp_path):
    """Images (B, C, H, W) give the record of their positions."""
    images, found = torch.randn(3, C, 2, 4), []
    for name, x, settings in (
        ("images", images, {"channel_dim": 1}),
        ("rows", images.permute(0, 2, 3, 1).reshape(-1, C), {}),
    ):
        norm = build_norm("batch", C, **settings)
        recorder = NormRecorder(norm, tmp_path / name, interval=1, run={})
        with one_update(norm) as update, recorder.record(update, 1):
            norm(x).mul(x).sum().backward()
        found.append(read_record(tmp_path / name)[0])
    for quantity in set(QUANTITIES) - {"between_sentences"}:
        assert found[0][quantity] == pytest.approx(found[1][quantity], rel=1e-6)


def test_a_norm_without_gradient_has_empty_ones(tmp_path):
    norm = build_norm("pn-v", C, elementwise_affine=False)
    recorder = NormRecorder(norm, tmp_path, interval=1)
    with one_update(norm) as update, recorder.record(update, 1):
        norm(torch.randn(9, C))
    (row,) = read_record(tmp_path)
    assert math.isnan(row["gradient_mean"]) and row["mean_distance"] > 0


@pytest.mark.parametrize("name", available_norms())
def test_every_norm_can_be_recorded(tmp_path, name):
    norm = build_norm(name, C)
    recorder = NormRecorder(norm, tmp_path, interval=1)
    with one_update(norm) as update, recorder.record(update, 1):
        norm(torch.randn(T, B, C, requires_grad=True), torch.zeros(B, T, dtype=torch.bool)).sum().backward()
    (row,) = read_record(tmp_path)
    assert all(math.isfinite(row[quantity]) for quantity in QUANTITIES) and row["kind"] == name


def test_a_training_that_goes_on_ends_with_the_same_record(tmp_path):
    whole = Model()
    train(whole, 12, NormRecorder(whole, tmp_path / "whole", interval=2))
    parts = Model()
    recorder = NormRecorder(parts, tmp_path / "parts", interval=2, run={"seed": 1})
    train(parts, 5, recorder)
    recorder.save(5)
    state = {key: value.clone() for key, value in parts.state_dict().items()}
    train(parts, 8, recorder, start=5)  # lost: after the checkpoint
    assert {row["update"] for row in read_record(tmp_path / "parts")} == {2, 4, 6, 8}

    again = Model()
    again.load_state_dict(state)
    recorder = NormRecorder(again, tmp_path / "parts", interval=2, updates=5, run={"seed": 1})
    assert {row["update"] for row in read_record(tmp_path / "parts")} == {2, 4}
    train(again, 12, recorder, start=5)
    found, expected = read_record(tmp_path / "parts"), read_record(tmp_path / "whole")
    assert found == expected and len(found) == 2 * 5 * 6


def test_missing_averages_are_a_warning(tmp_path, caplog):
    model = Model()
    train(model, 2, recorder := NormRecorder(model, tmp_path, interval=1, run={}))
    recorder.remove()
    NormRecorder(model, tmp_path, interval=1, updates=2, run={})
    assert "update2.npz is missing" in caplog.text and len(caplog.records) == 1


def test_damaged_averages_are_named(tmp_path):
    model = Model()
    train(model, 2, recorder := NormRecorder(model, tmp_path, interval=1, run={}))
    recorder.save(2)
    recorder.remove()
    (tmp_path / "averages" / "update2.npz").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"update2.npz is damaged, or no file of arrays"):
        NormRecorder(model, tmp_path, interval=1, updates=2, run={})


def test_old_averages_go(tmp_path):
    recorder = NormRecorder(Model(), tmp_path, run={})
    for updates in range(1, 31):
        recorder.save(updates)
    names = sorted(int(path.stem.removeprefix("update")) for path in (tmp_path / "averages").iterdir())
    assert names == [*range(11, 31)]
    NormRecorder(Model(), tmp_path, updates=25, run={}).remove()
    assert not (tmp_path / "averages" / "update26.npz").exists()


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match=r"^Linear has no norm of fairseq_powernorm to record$"):
        NormRecorder(nn.Linear(2, 2), tmp_path)
    with pytest.raises(ValueError, match=r"^expected an interval of 1 update or more, got 0$"):
        NormRecorder(Model(), tmp_path, interval=0)
    with pytest.raises(
        ValueError, match=r"^the norm 'de,en' has a name that a line of values with commas cannot hold$"
    ):
        NormRecorder(nn.ModuleDict({"de,en": build_norm("power", 2)}), tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.gpu
def test_on_cuda_nothing_waits_for_the_device_between_two_records(tmp_path):
    """And what is recorded there is what is recorded on the CPU."""
    rows = []
    for device in ("cpu", "cuda"):
        model = Model().to(device)
        recorder = NormRecorder(model, tmp_path / device, interval=3)
        batches = [[tensor.to(device) for tensor in batch(number)] for number in (1, 2, 3)]
        for update, (x, mask) in enumerate(batches, start=1):
            torch.cuda.set_sync_debug_mode("error" if device == "cuda" and update < 3 else "default")
            with one_update(model) as under_way, recorder.record(under_way, update):
                hidden = x.detach().requires_grad_()
                for linear, name in zip(model.linear, NAMES, strict=True):
                    hidden = model.block(linear, getattr(model, name), mask, hidden)
                hidden.masked_fill(mask.t()[..., None], 0).square().sum().backward()
        torch.cuda.set_sync_debug_mode("default")
        rows.append(read_record(tmp_path / device))
    for one, other in zip(*rows, strict=True):
        for name in QUANTITIES:
            assert one[name] == pytest.approx(other[name], rel=1e-4), (one["norm"], name)
