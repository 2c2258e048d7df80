"""RegularizedBN's penalty under fairseq's trainer: in the gradient of any criterion, apart from its loss in the log."""

import pytest
import torch
from fairseq.logging import metrics

PENALISED = ["--norm-type", "regularized-batch", "--norm-regularized-batch-mean-weight", "60"]


def train(trainer, trainers, micro_batches=1):
    """One update; the first layer's gradient direction as its weights after it, and what is logged."""
    with metrics.aggregate(new_root=True) as logged:
        trainer.train_step([trainers.batch(number) for number in range(micro_batches)])
    return trainer.get_model().encoder.layers[0].fc1.weight.detach().clone(), logged.get_smoothed_values()


@pytest.mark.parametrize("criterion", ["label_smoothed_cross_entropy", "cross_entropy"])
def test_the_penalty_is_in_the_gradient_and_apart_from_the_loss(trainers, criterion):
    settings = ["--criterion", criterion, "--optimizer", "sgd"]
    without = ["--norm-regularized-batch-variance-weight", "0", "--norm-regularized-batch-mean-weight", "0"]
    plain, plain_log = train(trainers.build(*PENALISED, *without, *settings), trainers)
    found, log = train(trainers.build(*PENALISED, *settings), trainers)
    assert not torch.equal(found, plain)
    assert log["loss"] == plain_log["loss"] and log["norm_penalty"] > 0 and "norm_penalty" not in plain_log


def test_micro_batches_add_their_penalties(trainers):
    """As the authors': each pass has a penalty of its own in the summed loss, and the update divides by its tokens."""
    trainer = trainers.build(*PENALISED)
    penalties = [module for module in trainer.get_model().modules() if hasattr(module, "kind")]
    found = []
    for norm in penalties:
        norm.register_forward_hook(lambda module, inputs, output: found.append(module.penalty.item()))
    _, log = train(trainer, trainers, micro_batches=3)
    tokens = sum(trainers.batch(number)["ntokens"] for number in range(3))
    assert len(found) == 3 * len(penalties) == 15
    assert log["norm_penalty"] == pytest.approx(sum(found) / tokens, rel=1e-3)


def test_activation_checkpointing_keeps_the_penalty(trainers):
    settings = [*PENALISED, "--optimizer", "sgd", "--decoder-layers", "1"]
    plain, _ = train(trainers.build(*settings), trainers, 2)
    found, _ = train(trainers.build(*settings, "--checkpoint-activations"), trainers, 2)
    torch.testing.assert_close(found, plain, rtol=1e-6, atol=1e-8)


def test_validation_has_none(trainers):
    trainer = trainers.build(*PENALISED)
    train(trainer, trainers)
    trainer.begin_valid_epoch(1)
    with metrics.aggregate(new_root=True) as logged:
        trainer.valid_step(trainers.batch(7))
    assert "norm_penalty" not in logged.get_smoothed_values()
