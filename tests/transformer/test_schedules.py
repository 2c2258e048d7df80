"""Norms whose arithmetic changes with the update, under fairseq's trainer: restarts, fine-tuning, dummy batches."""

import pytest
import torch

SETTINGS = {
    "unified": ["--norm-unified-window", "3", "--norm-unified-warmup-updates", "2"],
    "progressive-rep-batch": ["--norm-progressive-rep-batch-updates", "5"],
    "regularized-batch": [],
}


def flags(norm):
    return ["--norm-type", norm, "--decoder-norm-type", norm, *SETTINGS[norm]]


def train(trainer, trainers, first, last):
    for update in range(first, last):
        trainer.train_step([trainers.batch(2 * update), trainers.batch(2 * update + 1)])


def state(trainer):
    return {key: value.clone() for key, value in trainer.get_model().state_dict().items()}


def counts(trainer):
    return {int(value) for key, value in state(trainer).items() if key.endswith("num_updates")}


def save(trainer, path):
    trainer.consolidate_optimizer()
    trainer.save_checkpoint(str(path), {"train_iterator": {"epoch": 1}, "val_loss": None})


@pytest.mark.parametrize("norm", SETTINGS)
def test_a_restart_goes_on_bit_for_bit(trainers, norm, tmp_path):
    whole, first, second = (trainers.build(*flags(norm)) for _ in range(3))
    train(whole, trainers, 0, 7)
    train(first, trainers, 0, 3)
    save(first, tmp_path / "checkpoint.pt")
    second.load_checkpoint(str(tmp_path / "checkpoint.pt"))
    train(second, trainers, 3, 7)
    expected = state(whole)
    assert all(torch.equal(value, expected[key]) for key, value in state(second).items())
    assert counts(second) == (set() if norm == "regularized-batch" else {7})


@pytest.mark.parametrize("norm", ["unified", "progressive-rep-batch"])
def test_fine_tuning_starts_the_schedule_anew(trainers, norm, tmp_path):
    first, second = trainers.build(*flags(norm)), trainers.build(*flags(norm))
    train(first, trainers, 0, 3)
    save(first, tmp_path / "checkpoint.pt")
    second.load_checkpoint(str(tmp_path / "checkpoint.pt"), reset_optimizer=True)
    assert counts(second) == {3}
    train(second, trainers, 0, 2)
    assert counts(second) == {2}


@pytest.mark.parametrize("norm", ["unified", "progressive-rep-batch"])
def test_a_dummy_batch_does_not_count(trainers, norm):
    trainer = trainers.build(*flags(norm))
    trainer.train_step([trainers.batch(1), None])
    found = counts(trainer)
    before = state(trainer)
    assert found == {1}
    with_data = trainers.build(*flags(norm))
    with_data.train_step([trainers.batch(1)])
    windows = [key for key in before if "window" in key or "running" in key]
    assert windows and all(torch.equal(before[key], state(with_data)[key]) for key in windows)


@pytest.mark.parametrize("precision", [[], ["--ema-fp32"]])
@pytest.mark.parametrize("norm", ["unified", "progressive-rep-batch", "power-released"])
def test_the_average_of_the_model_has_the_newest_counters(trainers, norm, precision):
    """Of integers there is no moving average: stock fairseq's --store-ema ends with an error."""
    names = ["--norm-type", norm, "--decoder-norm-type", norm, *SETTINGS.get(norm, [])]
    trainer = trainers.build(*names, "--store-ema", "--ema-decay", "0.5", *precision)
    train(trainer, trainers, 0, 3)
    newest, average = state(trainer), trainer.ema.get_model().state_dict()
    counters = [key for key in average if not average[key].is_floating_point()]
    assert counters and all(torch.equal(average[key], newest[key]) and average[key] >= 0 for key in counters)
    assert any((average[key] != newest[key]).any() for key in average)
