"""fairseq's trainer in low precision, on the CPU: the same losses to its precision, statistics in float32, no NaN that
stays.

``--fp16`` asks for the number of the CUDA device and moves one zero there; everything else of it runs on the CPU.
"""

import pytest
import torch

from fairseq_powernorm.norms.registry import NORMS

JOINING_UPDATES = [name for name, norm in NORMS.items() if norm.statistics and norm.joins_updates]

MODES = {
    "fp16": ["--fp16"],
    "memory-efficient fp16": ["--fp16", "--memory-efficient-fp16"],
    "amp": ["--amp"],
    "bfloat16": [],
}
PLAIN = [
    *("--adam-betas", "(0.9, 0.98)", "--lr", "1e-3"),
    *("--norm-rep-batch-alpha", "0.1", "--norm-progressive-rep-batch-alpha", "0.1"),  # 1 blows activations up
]
UPDATES = 24


def finite(tensors):
    return all(bool(tensor.isfinite().all()) for tensor in tensors if tensor.is_floating_point())


def statistics(trainer):
    return {
        name: buffer.clone()
        for name, buffer in trainer.get_model().named_buffers()
        if "running" in name or "projection" in name
    }


def losses(trainer, trainers, updates=UPDATES):
    """Those of the updates that were made, the same 4 batches again and again; and how many were left out. The latter
    must leave no trace in the statistics."""
    found, skipped, until = [], 0, trainer.get_num_updates() + updates
    while trainer.get_num_updates() < until:
        before = statistics(trainer)
        output = trainer.train_step([trainers.batch(trainer.get_num_updates() % 4)])
        if output:
            found.append(float(output["loss"]))
        else:
            skipped += 1
            assert skipped < 30 and all(torch.equal(value, before[key]) for key, value in statistics(trainer).items())
    return found, skipped


@pytest.fixture
def cpu_as_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: None)  # the index of the CPU
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)


@pytest.fixture(scope="module")
def losses_in_float32():
    """Those of a norm, once for all modes."""
    found = {}

    def losses_of(norm, flags, trainers):
        if norm not in found:
            found[norm], _ = losses(trainers.build(*flags), trainers)
        return found[norm]

    return losses_of


@pytest.mark.parametrize("norm", JOINING_UPDATES)
@pytest.mark.parametrize("mode", MODES)
def test_training(trainers, cpu_as_device, losses_in_float32, mode, norm):
    """The first loss scale is so high that gradients overflow: such updates leave no trace in the statistics."""
    flags = [*PLAIN, "--norm-type", norm, "--decoder-norm-type", norm]
    expected = losses_in_float32(norm, flags, trainers)
    trainer = trainers.build(*flags, *MODES[mode], "--fp16-init-scale", str(2**22))
    if mode == "bfloat16":
        trainer.get_model().bfloat16()
    found, skipped = losses(trainer, trainers)
    assert skipped > 2 if "fp16" in mode else skipped == 0
    assert finite(trainer.get_model().state_dict().values())
    assert {buffer.dtype for buffer in statistics(trainer).values()} == {torch.float32}
    assert expected[-1] < expected[0] - 0.5
    # Weights of 8 bits lose a part of each update, with LayerNorm too.
    assert found == pytest.approx(expected, abs=0.4 if mode == "bfloat16" else 0.1)


@pytest.mark.parametrize("mode", ["fp16", "memory-efficient fp16"])
def test_nu_is_that_of_float32_whatever_the_loss_scale(trainers, cpu_as_device, mode):
    flags = [*PLAIN, "--lr", "0", "--norm-type", "power"]
    plain, scaled = trainers.build(*flags), trainers.build(*flags, *MODES[mode], "--fp16-init-scale", "512")
    for step in range(12):
        plain.train_step([trainers.batch(step)])
        scaled.optimizer.scaler.loss_scale = 2.0 ** (4 + step % 5)
        scaled.train_step([trainers.batch(step)])
    found, expected = statistics(scaled), statistics(plain)
    for name, value in expected.items():
        scale = value.abs().max()
        torch.testing.assert_close(found[name] / scale, value / scale, rtol=0, atol=0.02, msg=name)
    assert scaled.get_num_updates() == 12
    assert all(value.abs().max() > 1e-4 for name, value in expected.items() if "projection" in name)


@pytest.mark.parametrize("norm", JOINING_UPDATES)
def test_a_batch_that_overflows_in_the_forward_pass(trainers, cpu_as_device, norm):
    """An inf among the activations, as half precision gives one: the update is left out, training goes on."""
    flags = [*PLAIN, *MODES["memory-efficient fp16"], "--norm-type", norm, "--fp16-init-scale", "16"]
    trainer = trainers.build(*flags)
    losses(trainer, trainers, 4)
    before, updates = statistics(trainer), trainer.get_num_updates()
    embedding = trainer.get_model().encoder.embed_tokens
    handle = embedding.register_forward_hook(lambda module, inputs, output: output * 1e5)
    assert trainer.train_step([trainers.batch(0)]) is None
    handle.remove()
    assert trainer.get_num_updates() == updates
    assert all(torch.equal(value, before[name]) for name, value in statistics(trainer).items())
    assert losses(trainer, trainers, 4)[1] == 0
    assert finite(trainer.get_model().state_dict().values())
