"""fairseq's own trainer with a model of ours: what an update is to the norms."""

import pytest
import torch
from fairseq.data import LanguagePairDataset

from fairseq_powernorm.norms.registry import NORMS

JOINING_UPDATES = [name for name, norm in NORMS.items() if norm.statistics and norm.joins_updates]


def statistics(trainer):
    return {name: buffer.clone() for name, buffer in trainer.get_model().named_buffers() if buffer.is_floating_point()}


def same(one, other):
    assert one.keys() == other.keys() and len(one) > 10
    return all(torch.equal(one[name], other[name]) for name in one)


def test_an_update_is_told_to_the_norms(trainers):
    trainer = trainers.build()
    start = statistics(trainer)
    trainer.train_step([trainers.batch(0)])
    moved = statistics(trainer)
    assert not any(torch.equal(moved[name], start[name]) for name in moved if "running_square_mean" in name)
    norms = [module for module in trainer.get_model().modules() if hasattr(module, "joins_updates")]
    assert norms and all(norm.update is None for norm in norms)


def test_micro_batches_equal_their_union(trainers):
    """--update-freq: with power in both stacks losses, weights and statistics are those of the whole batch."""
    settings = ["--decoder-norm-type", "power", "--optimizer", "sgd", "--lr", "0.05"]  # Adam blows rounding up
    one, two = (trainers.build(*settings) for _ in range(2))
    for step in range(10):
        whole = trainers.batch(step, (5, 5, 5, 5))
        halves = [
            {
                "id": whole["id"][part],
                "nsentences": 2,
                "ntokens": int(whole["target"][part].ne(trainers.dictionary().pad()).sum()),
                "net_input": {name: value[part] for name, value in whole["net_input"].items()},
                "target": whole["target"][part],
            }
            for part in (slice(0, 2), slice(2, 4))
        ]
        one.train_step([whole])
        two.train_step(halves)
    for (name, found), expected in zip(
        two.get_model().state_dict().items(), one.get_model().state_dict().values(), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("norm", JOINING_UPDATES)
def test_recomputation_within_an_update(trainers, norm):
    """--checkpoint-activations with micro-batches, through a warm-up: bit for bit as without."""
    settings = ["--norm-type", norm, "--decoder-norm-type", norm, "--decoder-layers", "1"]
    settings += ["--norm-warmup-updates", "3", "--dropout", "0.2"]
    plain, recomputed = trainers.build(*settings), trainers.build(*settings, "--checkpoint-activations")
    for step in range(6):
        batches = [trainers.batch(2 * step), trainers.batch(2 * step + 1, (2, 6))]
        expected, found = plain.train_step(batches), recomputed.train_step(batches)
        assert expected["loss"] == found["loss"]
    for key, value in plain.get_model().state_dict().items():
        assert torch.equal(value, recomputed.get_model().state_dict()[key]), key


def test_a_dummy_batch_changes_nothing(trainers):
    with_data, without = trainers.build(), trainers.build()
    with_data.train_step([trainers.batch(0)])
    without.train_step([{}, trainers.batch(0)])  # what a rank gets whose share of the last update is empty
    assert same(statistics(with_data), statistics(without))
    before = statistics(without)
    without.train_step([{}])
    assert same(statistics(without), before)
    without.train_step([trainers.batch(1)])
    assert not same(statistics(without), before)


def test_an_overflow_leaves_the_statistics_as_they_were(trainers, monkeypatch):
    """As under --fp16: the loss scaler raises when it finds an inf."""
    trainer = trainers.build()
    trainer.train_step([trainers.batch(0)])
    before = statistics(trainer)

    def overflow(*_):
        raise OverflowError("setting loss scale to: 64")

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "clip_grad_norm", overflow)
        patch.setattr(torch.Tensor, "cuda", lambda self: self)  # fairseq looks for the device there
        trainer.train_step([trainers.batch(1)])
    assert trainer.get_num_updates() == 1 and same(statistics(trainer), before)
    trainer.train_step([trainers.batch(2)])
    assert trainer.get_num_updates() == 2 and not same(statistics(trainer), before)


def test_a_batch_repeated_under_amp_counts_once(trainers, monkeypatch):
    """fairseq's trainer calls itself with the same batch after an overflow under --amp."""
    plain, repeating = trainers.build(), trainers.build("--amp")
    plain.train_step([trainers.batch(0)])
    clip, step = repeating.clip_grad_norm, repeating.optimizer.step
    calls = []

    def first_is_infinite(norm):
        calls.append(norm)
        return torch.tensor(float("inf")) if len(calls) == 1 else clip(norm)

    monkeypatch.setattr(repeating, "clip_grad_norm", first_is_infinite)
    # A GradScaler without a CUDA device is switched off, and would make the step that it leaves out on one.
    monkeypatch.setattr(repeating.optimizer, "step", lambda *args, **kwargs: len(calls) > 1 and step())
    repeating.train_step([trainers.batch(0)])
    assert len(calls) == 2 and repeating.get_num_updates() == 1
    assert same(statistics(repeating), statistics(plain))


def test_no_memory_leaves_the_statistics_as_they_were(trainers, monkeypatch):
    trainer = trainers.build()
    before = statistics(trainer)
    backward = trainer.optimizer.backward

    def no_memory(loss):
        backward(loss)
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(trainer.optimizer, "backward", no_memory)
    monkeypatch.setattr(trainer, "_log_oom", lambda error: None)
    assert trainer.train_step([trainers.batch(0)]) is None
    assert same(statistics(trainer), before)


def test_the_loss_scale_of_the_optimizer_reaches_the_norms(trainers, monkeypatch):
    trainer = trainers.build()

    class Scaler:
        loss_scale = 256.0

    monkeypatch.setattr(trainer.optimizer, "scaler", Scaler(), raising=False)
    seen = []
    norm = trainer.get_model().encoder.layers[0].self_attn_layer_norm
    norm.register_forward_hook(lambda *_: seen.append(norm.loss_scale))
    trainer.train_step([trainers.batch(0)])
    assert seen == [256.0]


def test_the_average_of_the_model_has_the_statistics_of_its_weights(trainers):
    """--store-ema steps within the trainer's update; with a decay of 0 the average is the model."""
    trainer = trainers.build("--store-ema", "--ema-decay", "0.0", "--decoder-norm-type", "power")
    for step in range(3):
        trainer.train_step([trainers.batch(step)])
    average = trainer.ema.get_model().state_dict()
    # fairseq's average leaves out the models' version, and so loses the output norms when it is loaded.
    moved = {name: value for name, value in statistics(trainer).items() if "running" in name and name in average}
    assert len(moved) == 10 and not any((value == 1).all() for value in moved.values())
    for name, value in moved.items():
        assert torch.equal(average[name], value), name


def test_validation_reads_every_sentence_and_training_batches_stay(trainers):
    """11 sentences: fairseq drops a last batch that is no multiple of 8."""
    trainer, words = trainers.build("--max-tokens-valid", "999"), trainers.dictionary()
    lengths = [4] * 11
    sentences = [torch.tensor([4, 5, 6, words.eos()]) for _ in lengths]
    for split in ("train", "valid"):
        trainer.task.datasets[split] = LanguagePairDataset(sentences, lengths, words, sentences, lengths, words)

    def read(iterator):
        return sorted(int(number) for batch in iterator.next_epoch_itr(shuffle=False) for number in batch["id"])

    assert read(trainer.get_valid_iterator("valid")) == [*range(11)]
    assert len(read(trainer.get_train_iterator(epoch=1, load_dataset=False))) == 8
    assert trainer.cfg.dataset.required_batch_size_multiple == 8
