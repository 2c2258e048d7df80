"""The micro-batches of an optimizer update count as one batch, and as none if the optimizer leaves it out."""

import copy
import io
import itertools

import pytest
import torch
from torch import nn

from fairseq_powernorm import build_norm
from fairseq_powernorm.norms.registry import NORMS
from fairseq_powernorm.norms.update import one_update

CHANNELS = 6
BATCH_NORMS = [name for name, norm in NORMS.items() if norm.statistics and norm.joins_updates]
SHARES = ((0, 5, 9, 20), (0, 1, 2, 20), (0, 20, 20, 20), (0, 8, 8, 20))
"""Borders of three micro-batches within 20 rows; some are empty."""


def batch(seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(20, CHANNELS, dtype=torch.float64, generator=generator) * 3 + 0.5
    grad = torch.randn(20, CHANNELS, dtype=torch.float64, generator=generator)
    padding = torch.rand(20, generator=generator) < 0.3
    return rows.to(dtype), grad.to(dtype), padding


def buffers(norm):
    return {name: buffer.clone() for name, buffer in norm.named_buffers()}


def run(norm, rows, grad, padding, scale=1.0):
    """Output and gradient at real tokens."""
    x = rows.clone().requires_grad_()
    y = norm(x, padding)
    (y * grad * scale).sum().backward()
    return y.detach()[~padding], x.grad[~padding] / scale


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("groups", [0, 2])
def test_micro_batches_of_power_equal_their_union(groups):
    whole, parts = (build_norm("power", CHANNELS, group_scaling=groups).double() for _ in range(2))
    for step in range(20):
        rows, grad, padding = batch(step)
        whole.zero_grad()
        parts.zero_grad()
        with one_update(whole):
            expected = run(whole, rows, grad, padding)
        borders, found = SHARES[step % len(SHARES)], []
        with one_update(parts):
            for start, end in itertools.pairwise(borders):
                found.append(run(parts, rows[start:end], grad[start:end], padding[start:end]))
        for expected_rows, pieces in zip(expected, zip(*found, strict=True), strict=True):
            torch.testing.assert_close(torch.cat(pieces), expected_rows)
        torch.testing.assert_close(parts.weight.grad, whole.weight.grad)
        for name, buffer in whole.named_buffers():
            torch.testing.assert_close(getattr(parts, name), buffer)
    assert not torch.equal(whole.gradient_projection, torch.zeros(CHANNELS))


@pytest.mark.parametrize("name", ["batch", "pn-v"])
def test_running_statistics_move_once_by_the_mean_over_tokens(name):
    norm = build_norm(name, CHANNELS, alpha_fwd=0.75).double()
    rows, grad, padding = batch(1)
    padding[:] = False
    with one_update(norm):
        before = buffers(norm)
        run(norm, rows[:5], grad[:5], padding[:5])
        run(norm, rows[5:], grad[5:], padding[5:])
        assert_same(buffers(norm), before)
    first, second = rows[:5], rows[5:]
    if name == "pn-v":
        expected = {"running_square_mean": 0.75 + 0.25 * rows.square().mean(0)}
    else:
        variance = (5 * first.var(0, correction=0) + 15 * second.var(0, correction=0)) / 20
        expected = {"running_mean": 0.25 * rows.mean(0), "running_var": 0.75 + 0.25 * variance}
    for key, value in expected.items():
        torch.testing.assert_close(getattr(norm, key), value)


def test_the_windows_of_unified_take_one_value_an_update():
    """The quadratic mean of all its micro-batches, and Λ; while they pass, windows and counter are those of before."""
    norm = build_norm("unified", CHANNELS, window=3).double()
    for update in range(5):
        rows, grad, padding = batch(update)
        padding[:] = False
        with one_update(norm):
            before = buffers(norm)
            for start, end in itertools.pairwise((0, 5, 9, 20)):
                output, _ = run(norm, rows[start:end], grad[start:end], padding[start:end])
            assert_same(buffers(norm), before)
        slot = (update + 1) % 3
        torch.testing.assert_close(norm.square_mean_window[slot], rows.square().mean(0))
        assert norm.num_updates == update + 1 and norm.gradient_window[slot].ne(0).all()
        if update < 3:  # while the window fills, a micro-batch is divided by its own root
            torch.testing.assert_close(output, rows[9:] / (rows[9:].square().mean(0) + norm.eps).sqrt())


@pytest.mark.parametrize("name", BATCH_NORMS)
def test_a_single_batch_is_as_without_the_block(name):
    plain, within = build_norm(name, CHANNELS), build_norm(name, CHANNELS)
    for step in range(5):
        rows, grad, padding = batch(step, torch.float32)
        expected = run(plain, rows, grad, padding)
        with one_update(within):
            found = run(within, rows, grad, padding)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
        assert_same(buffers(within), buffers(plain))


@pytest.mark.parametrize("name", BATCH_NORMS)
@pytest.mark.parametrize("how", ["not taken", "exception"])
def test_an_update_that_is_left_out_moves_nothing(name, how):
    norm = build_norm(name, CHANNELS)
    run(norm, *batch(0, torch.float32))
    before = buffers(norm)
    try:
        with one_update(norm) as update:
            run(norm, *batch(1, torch.float32))
            update.taken = False
            if how == "exception":
                update.taken = True
                raise MemoryError
    except MemoryError:
        pass
    assert_same(buffers(norm), before)
    run(norm, *batch(2, torch.float32))  # and the block has ended
    assert not torch.equal(next(norm.buffers()), next(iter(before.values())))


@pytest.mark.parametrize("name", BATCH_NORMS)
def test_what_is_ignored_counts_for_nothing(name):
    plain, with_stopgap = build_norm(name, CHANNELS), build_norm(name, CHANNELS)
    for step in range(3):
        rows, grad, padding = batch(step, torch.float32)
        with one_update(plain):
            run(plain, rows, grad, padding)
        with one_update(with_stopgap) as update:
            run(with_stopgap, rows, grad, padding)
            update.ignored = True
            output, grad_rows = run(with_stopgap, rows * 100, grad * 0, padding)
            assert output.isfinite().all() and not grad_rows.any()
        assert_same(buffers(with_stopgap), buffers(plain))


@pytest.mark.parametrize("warmup", [0, 2])
def test_the_loss_scale_has_no_influence(warmup):
    """Powers of two, as every loss scaler's: then the arithmetic is the same, bit for bit."""
    plain, scaled = (build_norm("power", CHANNELS, warmup_updates=warmup) for _ in range(2))
    for step, scale in enumerate([128.0, 128.0, 256.0, 0.25, 65536.0, 1.0, 64.0]):
        rows, grad, padding = batch(step, torch.float32)
        for norm in (plain, scaled):
            norm.set_num_updates(step)
        with one_update(plain):
            expected = run(plain, rows, grad, padding)
        with one_update(scaled, loss_scale=scale):
            found = run(scaled, rows, grad, padding, scale)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
        assert_same(buffers(scaled), buffers(plain))
    assert scaled.gradient_projection.abs().max() > 0


def test_an_update_within_an_update_counts_for_itself():
    """As fairseq's trainer repeats a batch after an overflow under --amp."""
    plain, nested = build_norm("power", CHANNELS), build_norm("power", CHANNELS)
    rows, grad, padding = batch(0, torch.float32)
    with one_update(plain):
        run(plain, rows, grad, padding)
    with one_update(nested) as outer:
        run(nested, rows * 7, grad, padding)
        with one_update(nested):
            run(nested, rows, grad, padding)
        outer.taken = False
    assert_same(buffers(nested), buffers(plain))


def test_only_the_norms_of_the_model_take_part():
    inside, outside, released = (build_norm(name, CHANNELS) for name in ("power", "power", "power-released"))
    rows, grad, padding = batch(0, torch.float32)
    with one_update(nn.ModuleList([inside, released, nn.Linear(2, 2)])) as update:
        for norm in (inside, outside, released):
            run(norm, rows, grad, padding)
        update.taken = False
    assert torch.equal(inside.running_square_mean, torch.ones(CHANNELS))
    assert not torch.equal(outside.running_square_mean, torch.ones(CHANNELS))
    assert released.num_forward_calls == 1  # the release moves its statistics in every call


@pytest.mark.parametrize("name", BATCH_NORMS)
def test_a_compiled_model_computes_the_same(name):
    plain = nn.Sequential(nn.Linear(CHANNELS, CHANNELS), build_norm(name, CHANNELS))
    compiled = copy.deepcopy(plain)
    models = plain, torch.compile(compiled, backend="eager")
    for step in range(3):
        found = []
        for owner, model in zip((plain, compiled), models, strict=True):
            owner.zero_grad()
            with one_update(owner, loss_scale=64.0):
                for part in range(2):
                    rows, grad, _ = batch(2 * step + part, torch.float32)
                    (model(rows) * grad * 64.0).sum().backward()
            found.append([parameter.grad.clone() for parameter in owner.parameters()] + list(owner.buffers()))
        assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_a_copy_takes_no_part_in_the_update():
    norm, stream = build_norm("power", CHANNELS), io.BytesIO()
    with one_update(norm):
        run(norm, *batch(0, torch.float32))
        torch.save(norm, stream)
        copies = [copy.deepcopy(norm), torch.load(io.BytesIO(stream.getvalue()), weights_only=False)]
    for each in copies:
        assert each.update is None and torch.equal(each.running_square_mean, torch.ones(CHANNELS))
        run(each, *batch(1, torch.float32))
        assert not torch.equal(each.running_square_mean, torch.ones(CHANNELS))


@pytest.mark.parametrize(
    ("loss_scale", "error"), [(0.0, ValueError), (-1, ValueError), (float("nan"), ValueError), (None, TypeError)]
)
def test_a_loss_scale_is_a_number_above_zero(loss_scale, error):
    with pytest.raises(error, match="loss_scale"), one_update(build_norm("power", CHANNELS), loss_scale=loss_scale):
        pass


def test_a_loss_scale_may_be_a_tensor():
    plain, scaled = build_norm("power", CHANNELS), build_norm("power", CHANNELS)
    for step in range(3):
        rows, grad, padding = batch(step, torch.float32)
        with one_update(plain):
            run(plain, rows, grad, padding)
        with one_update(scaled, loss_scale=torch.tensor(256.0)):
            run(scaled, rows, grad, padding, 256.0)
        assert_same(buffers(scaled), buffers(plain))
