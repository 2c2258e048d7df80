"""Where norms stand: inside the feed-forward block, around the blocks (Peri-LN), scaled by depth; folded again."""

import copy
import logging
import math

import pytest
import torch
import torch.nn.functional as F
from fairseq.tasks.translation import TranslationTask
from torch import nn

from fairseq_powernorm.checkpoints import fold
from fairseq_powernorm.norms.folded import FoldedNorm
from fairseq_powernorm.transformer.export import ExportableEncoder

OFF = ["--dropout", "0", "--attention-dropout", "0", "--activation-dropout", "0"]
BARE = ["--norm-group-scaling", "0", "--norm-warmup-updates", "0"]
PLACEMENTS = {
    "ffn inner": ["--encoder-norm-ffn-inner", "batch", "--decoder-norm-ffn-inner", "power"],
    "ffn inner, post": ["--encoder-norm-ffn-inner", "batch", "--norm-type", "layer", "--norm-position", "post"],
    "peri": ["--norm-position", "peri", "--decoder-norm-type", "batch"],
    "depth scaling": ["--norm-depth-scaling", "--decoder-norm-type", "pn-v"],
    "all": ["--norm-position", "peri", "--norm-depth-scaling", "--encoder-norm-ffn-inner", "pn-v"],
}
placements = pytest.mark.parametrize("flags", PLACEMENTS.values(), ids=PLACEMENTS)


def by_hand(layer, x, mask, peri=False, scale=1.0, inner=None):
    """An encoder layer of LayerNorms, pre-norm, from the equations."""
    attended = layer.self_attn_layer_norm(x) * scale
    attended, _ = layer.self_attn(attended, attended, attended, key_padding_mask=mask, need_weights=False)
    x = x + (layer.self_attn_output_layer_norm(attended) if peri else attended)
    hidden = layer.fc1(layer.final_layer_norm(x) * scale)
    hidden = F.linear(F.relu(hidden if inner is None else inner(hidden)), layer.fc2.weight, layer.fc2.bias)
    return x + (layer.final_output_layer_norm(hidden) if peri else hidden)


def randomized(model):
    """The model with arbitrary weights, biases and statistics in its norms and linear layers, in evaluation mode."""
    torch.manual_seed(2)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "layer_norm" in name and tensor.is_floating_point():
            nn.init.uniform_(tensor.data, 0.3, 2.0)
        elif name.endswith("bias"):
            nn.init.normal_(tensor.data)
    return model.eval()


def output(model, models):
    source, lengths, target = models.sample([5, 3, 4])
    return models.log_probabilities(model, source, lengths, target)


@pytest.mark.parametrize(
    ("flags", "peri", "scaled"),
    [(["--norm-position", "peri"], True, False), (["--norm-depth-scaling"], False, True)],
)
def test_a_layer_by_hand(models, flags, peri, scaled):
    model = randomized(models.build("--norm-type", "layer", "--encoder-norm-ffn-inner", "rms", *flags, *OFF))
    x, mask = torch.randn(4, 2, 16), torch.tensor([[False] * 4, [False] * 3 + [True]])
    for number, layer in enumerate(model.encoder.layers, start=1):
        # A hook that scales a norm is seen by the layer, and not by its forward function.
        plain, scale = copy_without_hooks(layer), 1 / math.sqrt(number) if scaled else 1.0
        expected = by_hand(plain, x, mask, peri, scale, plain.ffn_inner_layer_norm)
        torch.testing.assert_close(layer(x, mask), expected)


def copy_without_hooks(layer):
    copied = copy.deepcopy(layer)
    for module in copied.modules():
        module._forward_hooks.clear()
    return copied


def test_where_they_stand(models):
    model = models.build("--encoder-norm-ffn-inner", "batch", "--norm-position", "peri", "--norm-type", "rms")
    names = [name for name, _ in model.encoder.layers[1].named_children() if "norm" in name]
    inputs, outputs = ("self_attn", "final"), ("self_attn_output", "final_output")
    assert set(names) == {f"{name}_layer_norm" for name in (*inputs, *outputs, "ffn_inner")}
    layer = model.encoder.layers[1]
    assert layer.ffn_inner_layer_norm.channels == 24 and model.encoder.layer_norm.channels == 16
    decoder = model.decoder.layers[0]
    assert type(decoder.encoder_attn_output_layer_norm).__name__ == "LayerNorm"
    assert not hasattr(decoder, "ffn_inner_layer_norm")


@placements
def test_training_changes_everything_and_copies_are_of_their_own(models, flags):
    model = models.build(*flags, *BARE, *OFF)
    copied = copy.deepcopy(model)
    before = {key: value.clone() for key, value in copied.state_dict().items()}
    model.train()
    output(model, models)[:, 5].sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in copied.state_dict().items())
    for name, buffer in model.named_buffers():
        assert "running" not in name or not torch.equal(buffer, before[name]), name


@placements
def test_padding_and_recomputation_change_nothing(models, flags):
    flags = [*flags, *BARE, *OFF, "--decoder-layers", "1"]
    plain, recomputed = models.build(*flags), models.build(*flags, "--checkpoint-activations")
    wide = copy.deepcopy(plain)
    source, lengths, target = models.sample([5, 3, 4])
    padding = source.new_full((3, 3), models.dictionary().pad())
    for model in (plain, recomputed):
        models.log_probabilities(model.train(), source, lengths, target)[:, 4].sum().backward()
    wider = models.log_probabilities(wide.train(), torch.cat([padding, source], 1), lengths, target)
    wider[:, 4].sum().backward()
    for (name, expected), *found in zip(
        plain.named_parameters(), recomputed.parameters(), wide.parameters(), strict=True
    ):
        for other in found:
            torch.testing.assert_close(other.grad, expected.grad, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: n + m)
    for name, expected in plain.named_buffers():
        torch.testing.assert_close(dict(wide.named_buffers())[name], expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(dict(recomputed.named_buffers())[name], expected)


@placements
def test_they_fold(models, flags, caplog):
    caplog.set_level(logging.INFO)
    args = models.parse(*flags, *BARE)
    model = randomized(models.build(*flags, *BARE))
    state = {"args": None, "cfg": {"model": args}, "model": model.state_dict()}
    folded = fold.fold_state(state)
    words = models.dictionary()
    small = TranslationTask(args, words, words).build_model(folded["cfg"]["model"]).eval()
    small.load_state_dict(folded["model"], strict=True)
    torch.testing.assert_close(output(small, models), output(model, models), rtol=1e-4, atol=1e-4)
    assert any(isinstance(module, FoldedNorm) for module in small.modules())
    if "--encoder-norm-ffn-inner" in flags:
        assert f"encoder ffn-inner ({flags[flags.index('--encoder-norm-ffn-inner') + 1]}) folded" in caplog.text
    if "post" in flags:
        assert "encoder self-attn (layer) stays" in caplog.text


def test_incremental_decoding_goes_through_all_norms(models):
    flags = ["--norm-position", "peri", "--norm-depth-scaling", "--decoder-norm-ffn-inner", "batch"]
    model = randomized(models.build(*flags, "--decoder-norm-type", "power")).double()
    source, lengths, target = models.sample([6, 6])
    encoded = model.encoder(source, lengths)
    full, state = model.decoder(target, encoder_out=encoded)[0], {}
    for position in range(target.size(1)):
        step = model.decoder(target[:, : position + 1], encoder_out=encoded, incremental_state=state)[0]
        torch.testing.assert_close(step[:, 0], full[:, position], rtol=1e-5, atol=1e-6)


def test_an_exported_encoder_has_its_norms_in_place(models):
    flags = ["--norm-position", "peri", "--norm-depth-scaling", "--encoder-norm-ffn-inner", "pn-v"]
    model = randomized(models.build(*flags, *BARE))
    source, lengths, _ = models.sample([7, 3, 5])
    program = torch.export.export(ExportableEncoder(model.encoder), (source,), strict=True)
    states, padding = program.module()(source)
    expected = model.encoder(source, lengths)["encoder_out"][0]
    torch.testing.assert_close(states.transpose(0, 1)[~padding], expected.transpose(0, 1)[~padding])
