"""``--norm-record`` in fairseq's trainer."""

import math

import numpy as np
import pytest
import torch

from fairseq_powernorm.flags.values import FlagError
from fairseq_powernorm.recording.record import read_description, read_record
from fairseq_powernorm.transformer.norm_flags_of_checkpoints import INHERITED

FIRST = "encoder.layers.0.self_attn_layer_norm"


def recorded(trainers, folder, *arguments, interval=2):
    save_dir = folder.parent / "checkpoints"
    words = ["--norm-record", str(folder), "--norm-record-interval", str(interval), "--save-dir", str(save_dir)]
    return trainers.build(*words, *arguments)


def test_a_training_with_the_flag_is_bit_equal_to_one_without(trainers, tmp_path):
    flags = ["--dropout", "0.2", "--norm-type", "batch", "--norm-group-scaling", "1"]
    plain, other = trainers.build(*flags), recorded(trainers, tmp_path / "record", *flags)
    for step in range(5):
        batches = [trainers.batch(2 * step), trainers.batch(2 * step + 1, (2, 6))]
        torch.manual_seed(step)
        expected = plain.train_step(batches)
        torch.manual_seed(step)
        assert other.train_step(batches) == expected
    for key, value in plain.get_model().state_dict().items():
        assert torch.equal(value, other.get_model().state_dict()[key]), key
    rows = read_record(tmp_path / "record")
    assert [*dict.fromkeys(row["update"] for row in rows)] == [2, 4]
    norms = [*dict.fromkeys(row["norm"] for row in rows)]
    assert len(norms) == 5 + 7 and norms[0] == FIRST
    assert {row["pass"] for row in rows} == {0, 1}
    assert {row["place"] for row in rows if row["norm"] == FIRST} == {"input", "scaled"}
    assert read_description(tmp_path / "record")["run"] == {"checkpoints": "../checkpoints", "seed": 1}


@pytest.mark.parametrize("scale", [None, 256.0])
def test_gradients_are_those_of_a_mean_over_target_tokens(trainers, tmp_path, scale, monkeypatch):
    """An account in float64 of the first encoder norm, padding left out, under a loss scale too."""
    trainer = recorded(trainers, tmp_path / "record", "--norm-type", "batch", "--norm-group-scaling", "0", interval=1)
    if scale:

        class Scaler:
            loss_scale = scale

        backward = trainer.optimizer.backward
        monkeypatch.setattr(trainer.optimizer, "scaler", Scaler(), raising=False)
        monkeypatch.setattr(trainer.optimizer, "backward", lambda loss: backward(loss * scale))
    seen = {}

    def look(norm, given, output):
        seen.update(x=given[0].detach().double().numpy(), real=~norm._handed_masks[-1].t().numpy())
        output.register_hook(lambda grad: seen.update(grad=grad.double().numpy()))

    norm = trainer.get_model().encoder.layers[0].self_attn_layer_norm
    norm.register_forward_hook(look)
    sample = trainers.batch(0)
    trainer.train_step([sample])
    row = next(row for row in read_record(tmp_path / "record") if row["norm"] == FIRST)
    x, gradient = seen["x"][seen["real"]], seen["grad"][seen["real"]] / (sample["ntokens"] * (scale or 1))
    assert row["tokens"] == len(x) == 12
    normalized = (x - x.mean(0)) / np.sqrt(x.var(0) + norm.eps)
    assert row["gradient_mean"] == pytest.approx(np.linalg.norm(gradient.mean(0)), rel=1e-6)
    assert row["gradient_variance"] == pytest.approx(np.linalg.norm((gradient * normalized).mean(0)), rel=1e-6)
    assert row["variance_distance"] == pytest.approx(np.linalg.norm(x.var(0) - 1) / 16, rel=1e-6)


def test_dummy_batches_and_updates_that_are_left_out(trainers, tmp_path, monkeypatch):
    trainer = recorded(trainers, tmp_path / "record", interval=1)
    trainer.train_step([{}, trainers.batch(0)])
    rows = read_record(tmp_path / "record")
    assert {(row["update"], row["pass"]) for row in rows} == {(1, 1)}

    def overflow(*_):
        raise OverflowError("setting loss scale to: 64")

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "clip_grad_norm", overflow)
        patch.setattr(torch.Tensor, "cuda", lambda self: self)
        trainer.train_step([trainers.batch(1)])
    assert read_record(tmp_path / "record") == rows
    trainer.train_step([trainers.batch(2)])
    assert {row["update"] for row in read_record(tmp_path / "record")} == {1, 2}


def test_recomputation_is_recorded_once(trainers, tmp_path):
    found = []
    for name, flags in (("plain", []), ("recomputed", ["--checkpoint-activations"])):
        one_layer = "--decoder-layers", "1"  # of more the gradients are summed in another order
        trainer = recorded(trainers, tmp_path / name / "record", *one_layer, *flags, interval=1)
        for step in range(2):
            trainer.train_step([trainers.batch(step)])
        found.append(read_record(tmp_path / name / "record"))
    assert found[0] == found[1] and not any(math.isnan(row["gradient_mean"]) for row in found[0])


def test_without_the_flag_there_is_no_recorder(trainers, tmp_path, monkeypatch):
    monkeypatch.setattr("fairseq_powernorm.transformer.fairseq_patches.recording.NormRecorder", None)
    trainer = trainers.build()
    trainer.train_step([trainers.batch(0)])
    assert all(not module._forward_pre_hooks and not module._forward_hooks for module in trainer.get_model().modules())


def test_a_folder_of_another_training_is_one_line(trainers, tmp_path):
    recorded(trainers, tmp_path / "record", interval=1).train_step([trainers.batch(0)])
    before = (tmp_path / "record" / "record.csv").read_bytes()
    other = recorded(trainers, tmp_path / "record", "--seed", "2", interval=1)
    with pytest.raises(
        FlagError, match=r"^--norm-record: .* has the record of another training \(seed is 1 there and 2"
    ):
        other.train_step([trainers.batch(0)])
    assert other.get_num_updates() == 0 and (tmp_path / "record" / "record.csv").read_bytes() == before


def test_the_flag_is_no_setting_of_the_norms(models, trainers, tmp_path):
    """A model that is built by a checkpoint's flags has no recorder, and fine-tuning does not take the flag over."""
    model = models.build("--norm-record", str(tmp_path / "record"))
    model.train()
    source, lengths, target = models.sample([3, 4])
    models.log_probabilities(model, source, lengths, target).sum().backward()
    assert not (tmp_path / "record").exists()
    assert not {"norm_record", "norm_record_interval"} & set(INHERITED)


def test_bad_intervals(models, capsys):
    with pytest.raises(SystemExit):
        models.parse("--norm-record-interval", "0")
    assert "--norm-record-interval: expected a number of updates, 1 or more, got 0" in capsys.readouterr().err
