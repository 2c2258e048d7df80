"""Language models: flags, what every position may see, and what fairseq's flags do with them."""

import logging
import math

import pytest
import torch

from fairseq_powernorm.flags.norms import stack_spec
from fairseq_powernorm.flags.values import FlagError
from fairseq_powernorm.functional.multilinear_attention import causal_scores, third_order_scores
from fairseq_powernorm.norms.registry import NORMS, available_norms
from fairseq_powernorm.norms.token_norm import TokenNorm
from fairseq_powernorm.transformer import tensorized_language_model, tensorized_layer
from fairseq_powernorm.transformer.norm_flags_of_checkpoints import check_same_norms

PLAIN, TENSORIZED = "powernorm_lm_ptb", "powernorm_tensorized_lm_ptb"
BOTH = (PLAIN, TENSORIZED)
OF_TOKENS = tuple(name for name, norm in NORMS.items() if not norm.statistics)
HEADS = ("--decoder-attention-heads", "2")
BANDS = ("--adaptive-input", "--tie-adaptive-weights")
BARE = ("--norm-warmup-updates", "0")


def norms_of(model):
    return {name: type(module) for name, module in model.named_modules() if isinstance(module, TokenNorm)}


def set_statistics(model):
    """Gives running statistics other values than those of the start."""
    model.train()
    for number in range(3):
        model(torch.randint(4, 30, (4, 8), generator=torch.Generator().manual_seed(number)))
    return model


def test_every_site_has_the_norm_of_norm_type(language_models):
    model = language_models.build(PLAIN, *HEADS, "--norm-type", "pn-v", "--decoder-norm-ffn", "layer")
    names = {name: norm.declaration.name for name, norm in norms_of(model).items()}
    sites = ("self_attn_layer_norm", "final_layer_norm")
    expected = {f"decoder.layers.{n}.{site}": ("pn-v", "layer")[sites.index(site)] for n in (0, 1) for site in sites}
    assert names == {**expected, "decoder.layer_norm": "pn-v"}


@pytest.mark.parametrize(("position", "norms_of_a_layer"), [("pre", 2), ("peri", 4), ("post", 2)])
def test_only_post_norm_stands_behind_the_sum(language_models, position, norms_of_a_layer):
    model = language_models.build(PLAIN, *HEADS, "--norm-position", position)
    assert all(layer.normalize_before == (position != "post") for layer in model.decoder.layers)
    names = norms_of(model)
    assert sum(name.startswith("decoder.layers.0.") for name in names) == norms_of_a_layer
    assert ("decoder.layer_norm" in names) == (position != "post")


def test_layers_that_are_kept_keep_their_numbers(language_models):
    """fairseq builds those alone, and gives them the weights of the layers that they were."""
    flags = ("--norm-depth-scaling", "--decoder-layers", "3", "--decoder-layers-to-keep", "0,2")
    layers = language_models.build(PLAIN, *HEADS, *flags).decoder.layers
    factors = [[hook.args[0] for hook in layer.self_attn_layer_norm._forward_hooks.values()] for layer in layers]
    assert factors == [[], [pytest.approx(3**-0.5)]]


@pytest.mark.parametrize(
    "flags", [("--norm-position", "peri"), ("--norm-depth-scaling",), ("--decoder-norm-ffn-inner", "layer")]
)
def test_norms_that_a_tensorized_layer_has_no_place_for(language_models, flags):
    language_models.parse(PLAIN, *flags)
    with pytest.raises(FlagError, match=f"^{' '.join(flags[: 2 if 'position' in flags[0] else 1])}: the layers of a"):
        language_models.parse(TENSORIZED, *flags)


def test_auto_is_the_rule_of_the_translation_models(language_models):
    schedule = ("--lr-scheduler", "inverse_sqrt", "--warmup-updates", "9")
    spec = stack_spec(language_models.parse(PLAIN, *HEADS, *schedule), "decoder")
    assert spec.cross_attn is None
    assert (spec.ffn.name, spec.ffn.group_scaling, spec.ffn.warmup_updates) == ("power", 2, 9)
    assert stack_spec(language_models.parse(PLAIN, "--lr-scheduler", "cosine"), "decoder").ffn.warmup_updates == 0


@pytest.mark.parametrize("arch", BOTH)
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--decoder-norm-type", "layer"], "--decoder-norm-type layer: a language model has one stack, .* --norm-type"),
        (["--norm-position", "post", "--decoder-norm-output", "layer"], "--decoder-norm-output needs"),
        (["--norm-group-scaling", "3"], "3 groups do not divide the decoder's 16 channels"),
    ],
)
def test_flags_that_contradict_each_other(language_models, arch, flags, message):
    with pytest.raises(FlagError, match=message):
        language_models.parse(arch, *flags)


@pytest.mark.parametrize("flag", ["--encoder-norm-ffn", "--decoder-norm-cross-attn"])
def test_sites_that_a_language_model_has_not(language_models, flag, capsys):
    with pytest.raises(SystemExit):
        language_models.parse(PLAIN, flag, "layer")
    assert capsys.readouterr().err.endswith(f"unrecognized arguments: {flag} layer\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--adaptive-softmax-cutoff", "10,40"], "--adaptive-softmax-cutoff 10,40: the dictionary has 30 types"),
        (["--adaptive-input", "--adaptive-input-cutoff", "99"], "--adaptive-input-cutoff 99: the dictionary has 30"),
        (["--tie-adaptive-weights"], "--tie-adaptive-weights needs --adaptive-input"),
        (
            [*BANDS, "--adaptive-input-cutoff", "9", "--adaptive-softmax-cutoff", "8"],
            "needs the same bands of words, got --adaptive-input-cutoff 9 and --adaptive-softmax-cutoff 8",
        ),
    ],
)
def test_a_dictionary_or_bands_that_do_not_fit(language_models, flags, message):
    with pytest.raises(FlagError, match=message):
        language_models.build(PLAIN, *flags)


def test_a_checkpoint_of_other_norms(language_models, tmp_path, caplog):
    path = tmp_path / "checkpoint_last.pt"
    torch.save({"cfg": {"model": language_models.parse(PLAIN, "--norm-type", "batch")}, "model": {}}, path)
    check_same_norms(language_models.parse(PLAIN, "--norm-type", "batch"), str(path), fine_tuning=False)
    with pytest.raises(ValueError, match=r"other norms .* to go on, add --norm-type batch; for a new training"):
        check_same_norms(language_models.parse(PLAIN), str(path), fine_tuning=False)
    fine_tuning = ("--finetune-from-model", str(path))
    assert language_models.parse(PLAIN, *fine_tuning).decoder_norm_type == "batch"
    args = language_models.parse(PLAIN, *fine_tuning, "--norm-type", "pn-v")
    assert (args.norm_type, args.decoder_norm_type) == ("pn-v", "pn-v")


def test_a_setting_that_is_code_is_refused(language_models):
    with pytest.raises(ValueError, match="evaluates no code"):
        language_models.build(PLAIN, "--character-embeddings", "--character-filters", "__import__('os').getpid()")


@pytest.mark.parametrize(
    "flags",
    [
        [*BANDS, "--adaptive-input-cutoff", "9", "--adaptive-softmax-cutoff", "9"],
        ["--adaptive-input", "--adaptive-input-cutoff", "9"],
        ["--decoder-learned-pos", "--layernorm-embedding", "--no-scale-embedding"],
        ["--scale-fc", "--scale-attn", "--scale-heads", "--scale-resids", "--activation-fn", "gelu"],
        ["--checkpoint-activations", "--decoder-layerdrop", "0.5", "--no-decoder-final-norm"],
        ["--decoder-layers-to-keep", "0,1", "--decoder-input-dim", "12", "--share-decoder-input-output-embed"],
    ],
)
@pytest.mark.parametrize("norm", ["layer", "power"])
def test_fairseq_s_flags_keep_working(language_models, flags, norm):
    """With `layer` they are stock fairseq's, bit for bit, forward and backward."""
    outputs, gradients = [], []
    for arch, chosen in ((PLAIN, ["--norm-type", norm]), ("transformer_lm", ["--decoder-normalize-before"])):
        if arch == "transformer_lm" and norm != "layer":
            continue
        base = ["--share-decoder-input-output-embed"] if "--adaptive-input" not in flags else []
        model = language_models.build(arch, *HEADS, *base, *flags, *chosen)
        features = model(language_models.segments(), features_only=True)[0]
        features.square().mean().backward()
        outputs.append(features.detach())
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert outputs[0].isfinite().all()
    if norm == "layer":
        assert torch.equal(*outputs) and gradients[0].keys() == gradients[1].keys()
        assert all(torch.equal(gradient, gradients[1][name]) for name, gradient in gradients[0].items())


def changed(tokens, position):
    """The same segments with other tokens at one position."""
    other = tokens.clone()
    other[:, position] = 4 + (tokens[:, position] - 3) % 26
    assert (other != tokens).sum() == tokens.size(0)
    return other


@pytest.mark.parametrize("arch", BOTH)
@pytest.mark.parametrize("norm", available_norms())
def test_evaluation_sees_no_later_token(language_models, arch, norm):
    model = set_statistics(language_models.build(arch, "--norm-type", norm, "--decoder-norm-output", norm)).eval()
    tokens = language_models.segments()
    with torch.no_grad():
        output = model(tokens)[0]
        for position in range(1, 8):
            found = model(changed(tokens, position))[0]
            assert torch.equal(found[:, :position], output[:, :position])
            assert not torch.equal(found[:, position:], output[:, position:])
        shorter = model(tokens[:, :5])[0]
    torch.testing.assert_close(shorter, output[:, :5], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("arch", BOTH)
@pytest.mark.parametrize("norm", [*OF_TOKENS, "power"])
def test_training_sees_no_later_token_where_the_norm_uses_no_statistic_of_the_batch(language_models, arch, norm):
    """`power` after its warm-up normalises by the statistics of the updates before."""
    model = set_statistics(language_models.build(arch, "--norm-type", norm, *BARE))
    state, tokens = {name: value.clone() for name, value in model.state_dict().items()}, language_models.segments()
    output = model(tokens)[0]
    for position in range(1, 8):
        model.load_state_dict(state)
        found = model(changed(tokens, position))[0]
        assert torch.equal(found[:, :position], output[:, :position])


def trained_on_random_tokens(model, updates):
    """Cross-entropy on fresh random tokens over ln V, the best that a causal model can have."""
    optimizer, types = torch.optim.Adam(model.parameters(), lr=1e-2), 4

    def loss(seed, rows):
        shape, generator = (rows, model.max_positions() + 1), torch.Generator().manual_seed(seed)
        tokens = 4 + torch.randint(types, shape, generator=generator)
        return torch.nn.functional.cross_entropy(model(tokens[:, :-1])[0].flatten(0, 1), tokens[:, 1:].flatten())

    model.train()
    for update in range(updates):
        optimizer.zero_grad()
        loss(update, rows=64).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        return loss(-1, rows=4000).item() / math.log(types)


@pytest.mark.parametrize("arch", BOTH)
@pytest.mark.parametrize("norm", available_norms())
def test_random_tokens_teach_nothing(language_models, arch, norm):
    model = language_models.build(arch, "--norm-type", norm, *BARE, "--tokens-per-sample", "3")
    assert trained_on_random_tokens(model, updates=60) > 0.999


@pytest.mark.parametrize(("scores", "expected"), [(third_order_scores, (0, 0.75)), (causal_scores, (0.999, 1.05))])
def test_attention_that_sees_all_is_better_than_any_causal_model(language_models, monkeypatch, scores, expected):
    """So the test before this one can fail. The public code behind Table 2 is such a model."""
    monkeypatch.setattr(tensorized_layer, "causal_scores", scores)
    monkeypatch.setattr(tensorized_language_model, "STANDARD_DEVIATION", 0.1)  # so that it takes seconds
    model = language_models.build(TENSORIZED, "--norm-type", "layer", "--tokens-per-sample", "2")
    least, most = expected
    assert least < trained_on_random_tokens(model, updates=250) < most


def gradient_at_later_tokens(model, tokens, position):
    """The largest derivative of what comes out at one position by the embedding of a later token."""
    embedded = []
    handle = model.decoder.embed_tokens.register_forward_hook(lambda module, _, output: embedded.append(output))
    output = model(tokens)[0][:, position]
    handle.remove()
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(3))
    (gradient,) = torch.autograd.grad((output * weights).sum(), embedded)
    return gradient[:, position + 1 :].abs().max().item()


@pytest.mark.parametrize("arch", BOTH)
@pytest.mark.parametrize(
    ("norm", "flags", "leaks"),
    [
        ("layer", BARE, False),
        ("power", BARE, False),  # of its first update, before ν: after that its gradient is approximate by definition
        ("power", ("--norm-warmup-updates", "9"), True),
        ("batch", BARE, True),
        ("pn-v", BARE, True),
    ],
)
def test_statistics_of_the_batch_let_training_see_later_tokens(language_models, arch, norm, flags, leaks):
    model = language_models.build(arch, "--norm-type", norm, *flags).train()
    found = gradient_at_later_tokens(model, language_models.segments(), 3)
    assert found > 1e-6 if leaks else found == 0
    assert gradient_at_later_tokens(model.eval(), language_models.segments(), 3) == 0


@pytest.mark.parametrize("arch", BOTH)
@pytest.mark.parametrize("norm", available_norms())
def test_what_stands_at_padding_changes_nothing(language_models, arch, norm):
    """Segments are padded at their end, where they have fewer tokens than others."""
    model, tokens, pad = language_models.build(arch, "--norm-type", norm, *BARE), language_models.segments(), 1
    tokens[1, 5:] = pad
    state = {name: value.clone() for name, value in model.state_dict().items()}
    found = []
    for value in (0.0, 7.0):
        model.load_state_dict(state)
        with torch.no_grad():
            model.decoder.embed_tokens.weight[pad] = value
            features = model(tokens, features_only=True)[0][tokens.ne(pad)]
        found.append([features, *(value for name, value in model.state_dict().items() if "running" in name)])
    assert len(found[0]) == len(found[1]) and all(map(torch.equal, *found))


@pytest.mark.parametrize("norm", available_norms())
def test_incremental_decoding_computes_the_same(language_models, norm):
    model = set_statistics(language_models.build(PLAIN, *HEADS, "--norm-type", norm)).eval()
    tokens, state = language_models.segments(), {}
    with torch.no_grad():
        whole = model(tokens)[0]
        steps = [model.decoder(tokens[:, : n + 1], incremental_state=state)[0] for n in range(8)]
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, rtol=1e-4, atol=1e-5)


def test_updates_reach_every_norm(language_models):
    for arch in BOTH:
        model = language_models.build(arch, "--norm-type", "power", "--norm-warmup-updates", "2")
        model.set_num_updates(1)
        norms = [module for module in model.modules() if isinstance(module, TokenNorm)]
        assert norms and all(norm.warming_up for norm in norms)
        model.set_num_updates(2)
        assert not any(norm.warming_up for norm in norms)


def test_the_log_leaves_out_an_output_norm_that_there_is_not(language_models, caplog):
    caplog.set_level(logging.INFO)
    language_models.build(TENSORIZED, "--norm-type", "layer")
    assert "norms of the language model: layer (self-attn, ffn)\n" in caplog.text


def test_the_log_says_which_norms_there_are(language_models, caplog):
    caplog.set_level(logging.INFO)
    language_models.build(PLAIN, *HEADS, "--norm-type", "pn-v")
    assert "language model: pn-v after scaling each token in 2 groups (self-attn, ffn, output)" in caplog.text
    assert "ignored" not in caplog.text
    language_models.build(PLAIN, *HEADS, "--norm-type", "layer", "--norm-alpha-fwd", "0.99")
    assert "ignored, as no norm of this model uses them: --norm-alpha-fwd" in caplog.text
