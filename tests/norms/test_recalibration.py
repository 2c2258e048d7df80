"""Gathering statistics: what replaces the running ones, and that nothing else moves, whatever happens."""

import copy
import textwrap

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn
from torch.utils.checkpoint import checkpoint

from fairseq_powernorm import build_norm
from fairseq_powernorm.norms.batch_statistics import BatchStatisticsNorm
from fairseq_powernorm.norms.pn_v import SquareMeanNorm
from fairseq_powernorm.norms.recalibration import gather_statistics, norms_with_statistics
from fairseq_powernorm.norms.registry import NORMS
from fairseq_powernorm.norms.rep_batch_norm import RepBatchNorm

WITH_STATISTICS = [name for name, norm in NORMS.items() if norm.statistics]
DIVIDING_BY_PSI = [name for name in WITH_STATISTICS if issubclass(NORMS[name], SquareMeanNorm)]
GROUPS = [0, 2]
SHAPES = [(5, 3), (7, 2), (1, 4), (9, 6)]


def trained(name, groups=0, channels=8):
    """A norm in evaluation mode that has run: no parameter or buffer is at its start."""
    norm = build_norm(name, channels, group_scaling=groups)
    nn.init.normal_(norm.weight, 1, 0.2)
    nn.init.normal_(norm.bias, 0, 0.2)
    for _ in range(3):
        x = torch.randn(20, channels, requires_grad=True)
        norm(x).square().sum().backward()
    norm.zero_grad()
    return norm.eval()


def batches(channels=8):
    """(T, B, C) activations and masks of unequal sizes and shares of padding."""
    made = []
    for number, (length, sentences) in enumerate(SHAPES):
        x = torch.randn(length, sentences, channels) * (1 + number) + 0.5 * number
        mask = torch.rand(sentences, length) < 0.3
        mask[:, 0] = False
        made.append((x, mask))
    return made


def scaled(tokens, groups, eps=1e-5):
    """Group scaling by hand, in float64."""
    if not groups:
        return tokens
    wide = tokens.view(len(tokens), groups, -1)
    return (wide / (wide.square().mean(dim=-1, keepdim=True) + eps).sqrt()).flatten(1)


def by_hand(made, groups, norm):
    """The three statistics in float64: sums over batches, weighted by their tokens; RepBN's variances by n − 1."""
    correction = 1 if isinstance(norm, RepBatchNorm) else 0
    rows = [scaled(x.double()[~mask.t()], groups) for x, mask in made]
    total = sum(len(tokens) for tokens in rows)
    centred = [tokens.var(dim=0, correction=correction) for tokens in rows]
    return {
        "running_square_mean": sum(tokens.square().sum(dim=0) for tokens in rows) / total,
        "running_mean": sum(tokens.sum(dim=0) for tokens in rows) / total,
        "running_var": sum(len(tokens) * variance for tokens, variance in zip(rows, centred, strict=True)) / total,
    }


def gather(norm, made):
    with gather_statistics(norm):
        outputs = [norm(x, mask) for x, mask in made]
    return {name: getattr(norm, name).clone() for name in norm.running_statistics}, outputs


def assert_unchanged(module, before, but=()):
    for key, value in module.state_dict().items():
        assert key.rsplit(".", 1)[-1] in but or torch.equal(value, before[key]), key


def test_a_norm_names_the_buffers_that_evaluation_goes_by():
    for name in WITH_STATISTICS:
        norm = build_norm(name, 4)
        assert norm.running_statistics and set(norm.running_statistics) <= {key for key, _ in norm.named_buffers()}
    assert norms_with_statistics(nn.Sequential(build_norm("layer", 4), nn.BatchNorm1d(4))) == {}


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_against_float64_by_hand(name, groups):
    norm, made = trained(name, groups), batches()
    before = copy.deepcopy(norm.state_dict())
    found, _ = gather(norm, made)
    expected = by_hand(made, groups, norm)
    for key, value in found.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected[key], rtol=2e-6, atol=2e-6)
        assert not torch.equal(value, before[key])
    assert_unchanged(norm, before, but=norm.running_statistics)  # γ, β, ν, E and the counter, bit for bit
    assert not norm.training and norm.gathered is None


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_the_estimate_owes_nothing_to_what_it_replaces(name, groups):
    first = trained(name, groups)
    second, made = copy.deepcopy(first), batches()
    for buffer in second.running_statistics:
        getattr(second, buffer).mul_(100).add_(7)
    (expected, outputs), (found, others) = gather(first, made), gather(second, made)
    for key, value in expected.items():
        assert torch.equal(found[key], value)
    assert all(torch.equal(*pair) for pair in zip(outputs, others, strict=True))
    again, _ = gather(first, made)
    for key, value in expected.items():
        assert torch.equal(again[key], value)


@pytest.mark.parametrize("name", ["batch", *DIVIDING_BY_PSI])
def test_each_batch_is_normalised_by_itself(name):
    norm, made = trained(name), batches()
    _, outputs = gather(norm, made)
    for (x, mask), y in zip(made, outputs, strict=True):
        assert y.dtype == x.dtype and not y.requires_grad
        tokens = ((y - norm.bias) / norm.weight)[~mask.t()]
        ones = torch.ones(8)
        torch.testing.assert_close(tokens.square().mean(dim=0), ones, rtol=1e-3, atol=1e-3)
        if name == "batch":
            torch.testing.assert_close(tokens.mean(dim=0), 0 * ones, rtol=0, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_order_and_mode_do_not_matter(name, training):
    first = trained(name)
    second, made = copy.deepcopy(first).train(training), batches()
    before = copy.deepcopy(first.state_dict())
    (expected, _), (found, _) = gather(first, made), gather(second, made[::-1])
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-7, atol=1e-7)
    assert second.training is training
    assert_unchanged(second, before, but=second.running_statistics)


@pytest.mark.parametrize("name", DIVIDING_BY_PSI)
def test_batches_equal_their_union(name):
    first, made = trained(name), batches()
    second = copy.deepcopy(first)
    rows = torch.cat([x.reshape(-1, 8) for x, _ in made])
    padding = torch.cat([mask.t().reshape(-1) for _, mask in made])
    (expected, _), (found, _) = gather(first, [(rows, padding)]), gather(second, made)
    torch.testing.assert_close(found["running_square_mean"], expected["running_square_mean"])


def test_batch_equals_update_bn():
    """On batches of one size: torch weighs batches alike, and its running variance is n/(n − 1) of ours."""
    ours, theirs = trained("batch"), nn.BatchNorm1d(8)
    made = [torch.randn(30, 8) * (1 + number) + number for number in range(5)]
    found, _ = gather(ours, [(x, None) for x in made])
    update_bn(made, theirs)
    torch.testing.assert_close(found["running_mean"], theirs.running_mean)
    torch.testing.assert_close(found["running_var"], theirs.running_var * 29 / 30)


@pytest.mark.parametrize("content", [1e4, float("nan"), float("inf")])
@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_what_stands_at_padding_changes_nothing(name, groups, content):
    first, made = trained(name, groups), batches()
    second = copy.deepcopy(first)
    filled = [(x.masked_fill(mask.t().unsqueeze(-1), content), mask) for x, mask in made]
    (expected, outputs), (found, others) = gather(first, made), gather(second, filled)
    for key, value in expected.items():
        assert torch.equal(found[key], value)
    for (_, mask), y, other in zip(made, outputs, others, strict=True):
        assert torch.equal(y[~mask.t()], other[~mask.t()])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_low_precision_is_summed_in_more(name, dtype):
    norm = trained(name).to(dtype)
    made = [(x.to(dtype), mask) for x, mask in batches()]
    found, (y, *_) = gather(norm, made)
    expected = by_hand(made, 0, norm)
    assert y.dtype == dtype
    for key, value in found.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected[key], rtol=2e-6, atol=2e-6)


def test_many_batches_do_not_wear_the_sum_out():
    """In float32 the small batches would vanish beside the large one."""
    norm = trained("power", channels=1)
    large, small = torch.full((1, 1), 3e4), torch.ones(1, 1)
    found, _ = gather(norm, [(large, None)] + [(small, None)] * 200)
    expected = torch.tensor([(9e8 + 200) / 201], dtype=torch.float64).float()
    assert torch.equal(found["running_square_mean"], expected)


class TwoLayers(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.first, self.second = trained(name), trained(name)
        self.between = nn.Linear(8, 8)
        self.eval()

    def forward(self, x, mask):
        return self.second(torch.tanh(self.between(self.first(x, mask))), mask)


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_an_exception_leaves_all_as_before(name):
    model, made = TwoLayers(name), batches()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(KeyboardInterrupt), gather_statistics(model):
        model(*made[0])
        raise KeyboardInterrupt
    assert_unchanged(model, before)
    already = pytest.raises(ValueError, match="gathering statistics already")
    with already, gather_statistics(model), gather_statistics(model.second):
        pass
    assert_unchanged(model, before)
    model(*made[0])
    assert_unchanged(model, before)  # evaluation again
    found, _ = gather(model.first, made)
    for key, value in found.items():
        torch.testing.assert_close(value.double(), by_hand(made, 0, model.first)[key], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_without_tokens_nothing_is_written(name):
    model, (made, *_) = TwoLayers(name), batches()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="no token reached the norm first"), gather_statistics(model):
        pass
    with pytest.raises(ValueError, match="no token reached the norm first"), gather_statistics(model):
        y = model(made[0], torch.ones_like(made[1]))
    assert y.isfinite().all()
    with pytest.raises(ValueError, match="no token reached the norm second"), gather_statistics(model):
        model.first(*made)
    assert_unchanged(model, before)


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_statistics_that_are_not_finite_are_not_written(name):
    model, made = TwoLayers(name), batches()
    before = copy.deepcopy(model.state_dict())
    made[1][0][0, 0, 3] = float("inf")
    with pytest.raises(ValueError, match="the statistics of the norm first are not finite"), gather_statistics(model):
        for x, mask in made:
            model(x, mask)
    assert_unchanged(model, before)


def test_a_batch_of_padding_alone_counts_for_nothing():
    first, made = trained("batch"), batches()
    second = copy.deepcopy(first)
    nothing = (made[0][0], torch.ones_like(made[0][1]))
    (expected, _), (found, _) = gather(first, made), gather(second, [nothing, *made])
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_recomputation_is_no_second_batch(name, reentrant):
    norm, made = trained(name).train(), batches()
    before = copy.deepcopy(norm.state_dict())
    with gather_statistics(norm):
        for number, (x, mask) in enumerate(made):
            x = x.clone().requires_grad_()
            y = checkpoint(lambda x, mask: x.square() * norm(x, mask), x, mask, use_reentrant=reentrant)
            if number == 2:  # were every batch counted twice, the mean would not show it
                y.sum().backward()
    expected = by_hand(made, 0, norm)
    for key in norm.running_statistics:
        torch.testing.assert_close(getattr(norm, key).double(), expected[key], rtol=2e-6, atol=2e-6)
    assert_unchanged(norm, before, but=norm.running_statistics)  # ν has not moved either


def test_a_model_without_statistics_has_nothing_to_do():
    norm = build_norm("layer", 8)
    with gather_statistics(norm):
        norm(torch.randn(3, 8))
    assert not isinstance(norm, BatchStatisticsNorm)


WORKER = textwrap.dedent(
    """
    import os
    import sys
    import torch
    import torch.distributed as dist
    from fairseq_powernorm import build_norm
    from fairseq_powernorm.norms.recalibration import gather_statistics

    name, rank, ranks, store, output = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    model = torch.nn.Sequential(build_norm(name, 5, sync=True), torch.nn.Tanh(), build_norm(name, 5, sync=True)).eval()
    batches = [torch.randn(4 + n, 5, generator=torch.Generator().manual_seed(n)) * (1 + n) for n in range(5)]
    results = []
    # the first rank has three batches and the other one two; then the other one has none
    for shares in ((range(0, 5, 2), range(1, 5, 2)), (range(5), ())):
        with torch.no_grad(), gather_statistics(model):
            for number in shares[rank]:
                model(batches[number])
        results.append({key: value.clone() for key, value in model.state_dict().items()})
    try:
        with gather_statistics(model):
            pass
    except ValueError as error:
        results.append(str(error))
    torch.save(results, output)
    dist.barrier()  # see tests/test_distributed.py
    dist.destroy_process_group()
    os._exit(0)
    """
)


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.parametrize("name", ["batch", "power"])
def test_ranks_equal_one_process(name, tmp_path, run_ranks):
    parts = run_ranks(2, tmp_path, "-c", WORKER, name)
    model = nn.Sequential(build_norm(name, 5), nn.Tanh(), build_norm(name, 5)).eval()
    with torch.no_grad(), gather_statistics(model):
        for number in range(5):
            model(torch.randn(4 + number, 5, generator=torch.Generator().manual_seed(number)) * (1 + number))
    for key, expected in model.state_dict().items():
        for step in range(2):
            torch.testing.assert_close(parts[0][step][key], expected)
            assert torch.equal(parts[0][step][key], parts[1][step][key])
    assert all("no token reached the norm 0" in part[2] for part in parts)
