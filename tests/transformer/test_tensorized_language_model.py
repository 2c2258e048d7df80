"""The Tensorized Transformer: sizes, start, length; what it may see is in test_language_model.py."""

import pytest
import torch
from fairseq import options
from fairseq.data import Dictionary
from fairseq.tasks.language_modeling import LanguageModelingTask

from fairseq_powernorm.norms.token_norm import TokenNorm

TENSORIZED = "powernorm_tensorized_lm_ptb"


@pytest.mark.parametrize(
    ("arch", "length", "parameters", "bands"),
    [("ptb", 32, 4_145_252, []), ("wikitext103", 80, 16_547_960, ["20", "30", "40"])],
)
def test_it_has_the_published_sizes(arch, length, parameters, bands):
    """The layers and the two biases that they share, without embedding and softmax."""
    words = ["--tokens-per-sample", str(length), "--norm-type", "layer", "--task", "language_modeling"]
    for kind in ("input", "softmax") if bands else ():
        words += [f"--adaptive-{kind}-cutoff", ",".join(bands)]
    parsed = options.parse_args_and_arch(
        options.get_training_parser(), ["data", "--arch", f"powernorm_tensorized_lm_{arch}", *words]
    )
    dictionary = Dictionary()
    for number in range(50):
        dictionary.add_symbol(str(number))
    model = LanguageModelingTask(parsed, dictionary).build_model(parsed)
    counted = {name: weight.numel() for name, weight in model.decoder.layers.named_parameters()}
    assert sum(counted.values()) == parameters
    assert sum(name.endswith(("content_bias", "position_bias")) for name in counted) == 2
    assert model.max_positions() == length


def test_it_starts_as_published(language_models):
    sizes = ("--decoder-embed-dim", "64", "--decoder-input-dim", "64", "--decoder-output-dim", "64")
    model = language_models.build(TENSORIZED, *sizes, "--norm-type", "layer", "--attention-cores", "3")
    for name, weight in model.named_parameters():
        deviation, mean = weight.std().item(), weight.mean().item()
        if name.endswith("cores"):
            torch.testing.assert_close(weight.sum(-1), torch.ones(3))
            assert 0.005 < deviation * 40 < 0.05 and not torch.equal(weight[0], weight[1])
        elif "norm.weight" in name or "norm.bias" in name or name.endswith(("fc1.bias", "fc2.bias")):
            if name.endswith("bias"):
                assert not weight.any()
            else:
                assert abs(mean - 1) < 0.01 and 0.01 < deviation < 0.03
        else:
            assert abs(mean) < 0.01 and 0.01 < deviation < 0.03, name
    assert not model.decoder.embed_tokens.weight[1].any()


def test_the_output_norm_is_offered(language_models):
    assert language_models.build(TENSORIZED).decoder.layer_norm is None
    model = language_models.build(TENSORIZED, "--decoder-norm-output", "rms")
    assert model.decoder.layer_norm.declaration.name == "rms"


def test_norms_stand_where_the_public_code_has_them(language_models):
    """Attention's before or after it, the feed-forward block's after it in both."""
    calls = []
    for position in ("pre", "post"):
        model = language_models.build(TENSORIZED, "--norm-position", position, "--decoder-layers", "1").eval()
        layer = model.decoder.layers[0]
        for name in ("self_attn_layer_norm", "self_attn", "fc1", "fc2", "final_layer_norm"):
            getattr(layer, name).register_forward_hook(lambda *_, name=name: calls.append(name))
        model(language_models.segments())
    assert calls[:5] == ["self_attn_layer_norm", "self_attn", "fc1", "fc2", "final_layer_norm"]
    assert calls[5:] == ["self_attn", "self_attn_layer_norm", "fc1", "fc2", "final_layer_norm"]


def test_a_segment_that_is_too_long(language_models):
    model = language_models.build(TENSORIZED)
    with pytest.raises(ValueError, match="a segment of 9 tokens; multi-linear attention was built for 8"):
        model(language_models.segments(length=9))


@pytest.mark.parametrize("flag", ["--attention-cores", "--attention-channels"])
def test_sizes_that_are_none(language_models, flag, capsys):
    with pytest.raises(SystemExit):
        language_models.parse(TENSORIZED, flag, "0")
    assert capsys.readouterr().err.endswith(f"argument {flag}: expected a number above 0, got 0\n")


def test_layers_share_their_biases(language_models):
    model = language_models.build(TENSORIZED)
    first, second = (model.decoder.layers[number].self_attn for number in (0, 1))
    assert first.content_bias is second.content_bias and first.position_bias is second.position_bias
    model(language_models.segments())[0].square().mean().backward()
    assert first.content_bias.grad.any()


def test_activation_checkpointing_computes_the_same(language_models):
    found = []
    for flags in ([], ["--checkpoint-activations"]):
        model = language_models.build(TENSORIZED, "--norm-type", "power", *flags)
        model(language_models.segments())[0].square().mean().backward()
        norms = [module for module in model.modules() if isinstance(module, TokenNorm)]
        found.append([weight.grad for weight in model.parameters()] + [norm.running_square_mean for norm in norms])
    assert all(map(torch.equal, *found))
