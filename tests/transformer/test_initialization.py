"""Initializations in fairseq's models: what is computed, the first updates, decoding, recomputation, export."""

import copy
import math

import pytest
import torch
from fairseq.optim import build_optimizer
from fairseq.optim.lr_scheduler import build_lr_scheduler
from omegaconf import OmegaConf

from fairseq_powernorm.initialization.schemes import SCHEMES
from fairseq_powernorm.transformer.export import ExportableEncoder
from fairseq_powernorm.transformer.norm_flags_of_checkpoints import check_same_norms

NONE = ["--norm-type", "none", "--decoder-norm-type", "none"]
POST = ["--norm-position", "post", "--norm-type", "layer"]
FLAGS = {
    name: ["--init-scheme", name, *{"any": [], "post": POST, "none": NONE}[scheme.norms]]
    for name, scheme in SCHEMES.items()
}
FLAGS["admin, trained"] = [*FLAGS["admin"], "--init-omega", "trainable"]
OF_ITS_OWN = [name for name in FLAGS if name not in ("fairseq", "xavier", "he", "orthogonal", "truncated-normal")]
NO_DROPOUT = ["--dropout", "0", "--attention-dropout", "0", "--activation-dropout", "0"]
LENGTHS = [7, 3, 1, 5]


def loss_of(model, models, seed=0):
    return -models.log_probabilities(model, *models.sample(LENGTHS, seed=seed))[:, 5].mean()


def train(model, models, steps, lr=0.1):
    """A few steps of SGD; the losses as exact numbers."""
    optimizer, losses = torch.optim.SGD(model.parameters(), lr), []
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss = loss_of(model.train(), models, step)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def stir(model, by=0.3):
    """Moves every parameter off its start."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return model


def test_no_flag_is_fairseqs_start(models):
    one, other = models.build("--norm-type", "layer"), models.build("--norm-type", "layer", "--init-scheme", "fairseq")
    stock = models.build("--encoder-normalize-before", "--decoder-normalize-before", arch="transformer_iwslt_de_en")
    for key, value in stock.state_dict().items():
        assert torch.equal(value, one.state_dict()[key]) and torch.equal(value, other.state_dict()[key])


@pytest.mark.parametrize("scheme", ["fixup", "rezero"])
def test_at_the_start_every_layer_is_the_identity(models, scheme):
    model = models.build(*FLAGS[scheme], *NO_DROPOUT, "--share-all-embeddings")
    loss = loss_of(model, models)
    identity = copy.deepcopy(model)
    for stack in (identity.encoder, identity.decoder):
        stack.layers = torch.nn.ModuleList()
    assert torch.equal(loss, loss_of(identity, models))
    # By hand: the logits of a position are its embedding, scaled, and its sinusoid, times the embeddings.
    _, _, target = models.sample(LENGTHS)
    table = model.decoder.embed_tokens.weight
    states = math.sqrt(16) * table[target] + model.decoder.embed_positions(target)
    expected = torch.log_softmax(states @ table.T, dim=-1)[target.ne(models.dictionary().pad())][:, 5]
    torch.testing.assert_close(loss, -expected.mean())


def test_the_first_update_of_fixup_moves_the_last_matrices_of_all_branches(models):
    model = models.build(*FLAGS["fixup"], *NO_DROPOUT, "--share-all-embeddings")
    before = loss_of(model, models)
    before.backward()
    layers = {key: value.grad for key, value in model.named_parameters() if ".layers." in key}
    last = {key for key in layers if key.endswith((".out_proj.weight", ".fc2.weight"))}
    assert len(last) == 2 * 2 + 2 * 3
    # The encoder's reach the loss through the values of cross-attention, whose last matrices are 0 as yet.
    reached = {key for key in last if key.startswith("decoder.")}
    assert {key for key, gradient in layers.items() if gradient.any()} == reached
    losses = train(model, models, 3)
    assert losses[0] == before.item() and len(set(losses)) == 3
    assert all(dict(model.named_parameters())[key].any() for key in last)


@pytest.mark.parametrize("name", OF_ITS_OWN)
def test_every_parameter_is_trained_soon(models, name):
    model = models.build(*FLAGS[name], "--share-all-embeddings")
    start = {key: value.clone() for key, value in model.named_parameters()}
    losses = train(model, models, 6)
    assert all(math.isfinite(loss) for loss in losses)
    assert not [
        key for key, value in model.named_parameters() if torch.equal(value, start[key]) and "k_proj.b" not in key
    ]


def attend(attention, query, key):
    """Attention without masks and biases or with, in plain torch: (T, B, C)."""
    heads = [
        linear(x).unflatten(-1, (attention.num_heads, -1)).permute(1, 2, 0, 3)
        for linear, x in ((attention.q_proj, query), (attention.k_proj, key), (attention.v_proj, key))
    ]
    mixed = torch.nn.functional.scaled_dot_product_attention(*heads)
    return attention.out_proj(mixed.permute(2, 0, 1, 3).flatten(-2))


def feed_forward(layer, x):
    return torch.relu(x @ layer.fc1.weight.T + layer.fc1.bias) @ layer.fc2.weight.T + layer.fc2.bias


def by_hand(layer, x, encoded, name):
    """A layer's result from its parameters and the scheme's formula."""
    branches = [("self_attn", layer.self_attn_layer_norm), ("ffn", layer.final_layer_norm)]
    if encoded is not None:
        branches.insert(1, ("encoder_attn", layer.encoder_attn_layer_norm))
    for branch, norm in branches:

        def f(x, branch=branch):
            if branch == "ffn":
                return feed_forward(layer, x)
            return attend(getattr(layer, branch), x, x if branch == "self_attn" else encoded)

        if name == "fixup" and branch == "ffn":
            activated = torch.relu((x - norm.bias) @ layer.fc1.weight.T - layer.activation_fn.shift.bias)
            result = (activated - layer.activation_dropout_module.shift.bias) @ layer.fc2.weight.T
            x = x + layer.residual["ffn"].scale * result
        elif name == "fixup":
            shifted = x - norm.bias
            key = shifted if branch == "self_attn" else encoded
            x = x + layer.residual[branch].scale * attend(getattr(layer, branch), shifted, key)
        elif name == "rezero":
            x = x + layer.residual.alpha * f(x)
        elif name == "t-fixup":
            x = x + f(x)
        else:
            weight = {
                "admin": 1.45140 if encoded is None else 1.61160,
                "deepnet": 1.00591 if encoded is None else 6**0.25,
            }
            weight = layer.residual[branch].omega if name == "admin, trained" else weight.get(name, 1)
            x = norm(weight * x + f(x))
    return x


@pytest.mark.parametrize("name", OF_ITS_OWN)
def test_layers_compute_the_formulas(models, name):
    model = stir(models.build(*FLAGS[name], *NO_DROPOUT)).double().eval()
    x, encoded = torch.randn(5, 2, 16, dtype=torch.float64), torch.randn(4, 2, 16, dtype=torch.float64)
    encoder, decoder = model.encoder.layers[1], model.decoder.layers[1]
    close = {"rtol": 1e-4, "atol": 1e-4}  # the weights of residuals have five digits here
    torch.testing.assert_close(encoder(x, None), by_hand(encoder, x, None, name), **close)
    torch.testing.assert_close(decoder(x, encoded)[0], by_hand(decoder, x, encoded, name), **close)


@pytest.mark.parametrize("name", OF_ITS_OWN)
def test_decoding_recomputation_and_export(models, name, tmp_path):
    model = stir(models.build(*FLAGS[name], "--decoder-layers", "1"), by=0.05)
    recomputed = models.build(*FLAGS[name], "--decoder-layers", "1", "--checkpoint-activations")
    recomputed.load_state_dict(model.state_dict())
    assert train(model, models, 3, lr=1e-3) == train(recomputed, models, 3, lr=1e-3)
    assert all(torch.equal(value, recomputed.state_dict()[key]) for key, value in model.state_dict().items())

    model.eval()
    source, *_ = models.sample([7, 3, 5])
    sizes = ({0: torch.export.Dim("batch", max=64), 1: torch.export.Dim("length", min=2, max=100)},)
    exported = torch.export.export(ExportableEncoder(model.encoder), (source,), dynamic_shapes=sizes, strict=True)
    source, lengths, _ = models.sample([4, 9], seed=3)
    expected = model.encoder(source, lengths)
    real = ~expected["encoder_padding_mask"][0]
    states = exported.module()(source)[0].transpose(0, 1)
    torch.testing.assert_close(states[real], expected["encoder_out"][0].transpose(0, 1)[real])

    model.double()
    source, lengths, target = models.sample([6, 6, 6])
    encoded, state = model.encoder(source, lengths), {}
    full = model.decoder(target, encoder_out=encoded)[0]
    for position in range(target.size(1)):
        step = model.decoder(target[:, : position + 1], encoder_out=encoded, incremental_state=state)[0]
        torch.testing.assert_close(step[:, 0], full[:, position], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["fixup", "admin, trained", "t-fixup", "ds", "rezero"])
@pytest.mark.parametrize(
    "flags",
    [
        ["--encoder-layerdrop", "0.5", "--decoder-layerdrop", "0.5"],
        ["--quant-noise-pq", "0.3", "--quant-noise-pq-block-size", "4"],
        ["--no-cross-attention"],
        ["--no-decoder-final-norm"],
        ["--adaptive-softmax-cutoff", "10,20"],
        ["--decoder-embed-dim", "12"],
    ],
    ids=lambda flags: flags[0],
)
def test_fairseqs_own_flags_still_work(models, name, flags):
    model = models.build(*FLAGS[name], *flags).train()
    output = model(*models.sample(LENGTHS))[0]
    output.square().sum().backward()
    assert output.isfinite().all()


def saved(models, path, *flags, without=()):
    args = models.parse(*flags)
    for name in without:
        delattr(args, name)
    torch.save({"cfg": {"model": args}, "model": {}}, path)
    return str(path)


@pytest.mark.parametrize(
    ("stored", "asked", "advice"),
    [
        (FLAGS["rezero"], NONE, "add --init-scheme rezero"),
        (NONE, FLAGS["t-fixup"], "add --init-scheme fairseq"),
        (FLAGS["admin, trained"], FLAGS["admin"], "add --init-omega trainable"),
        (POST, [*POST, "--init-omega", "trainable"], None),
        (FLAGS["ds"], FLAGS["ds"], None),
    ],
)
def test_a_training_goes_on_with_its_checkpoints_scheme(models, tmp_path, stored, asked, advice):
    path = saved(models, tmp_path / "checkpoint_last.pt", *stored)
    if advice is None:
        check_same_norms(models.parse(*asked), path, fine_tuning=False)
        return
    with pytest.raises(ValueError, match=f"to go on, {advice}; for a new training, give another --save-dir"):
        check_same_norms(models.parse(*asked), path, fine_tuning=False)


def test_a_checkpoint_older_than_the_flag_starts_as_fairseq_does(models, tmp_path):
    path = saved(models, tmp_path / "checkpoint_last.pt", *POST, without=["init_scheme", "init_omega"])
    check_same_norms(models.parse(*POST), path, fine_tuning=False)
    with pytest.raises(ValueError, match="add --init-scheme fairseq"):
        check_same_norms(models.parse(*FLAGS["ds"]), path, fine_tuning=False)
    assert models.parse("--finetune-from-model", path).init_scheme == "fairseq"


def test_fine_tuning_takes_the_scheme_from_the_checkpoint(models, tmp_path):
    path = saved(models, tmp_path / "trained.pt", *FLAGS["fixup"])
    args = models.parse("--finetune-from-model", path)
    assert (args.init_scheme, args.norm_type, args.decoder_norm_type) == ("fixup", "none", "none")


def test_t_fixups_learning_rate():
    """lr·√(4000/(4000 + t)) from the first update."""
    optimizer = build_optimizer(
        OmegaConf.create({"_name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "lr": [5e-4]}),
        [torch.nn.Parameter(torch.zeros(1))],
    )
    schedule = build_lr_scheduler(
        OmegaConf.create({"_name": "t_fixup", "lr": [5e-4], "decay_updates": 4000}), optimizer
    )
    assert optimizer.get_lr() == 5e-4
    assert schedule.step_update(4000) == optimizer.get_lr() == pytest.approx(5e-4 / math.sqrt(2))
    assert schedule.step_update(12000) == pytest.approx(2.5e-4) == schedule.step(3)
    for cfg, message in (({"lr": [1e-3, 1e-4]}, "one learning rate"), ({"decay_updates": 0}, "1 or more, got 0")):
        with pytest.raises(ValueError, match=message):
            build_lr_scheduler(
                OmegaConf.create({"_name": "t_fixup", "lr": [5e-4], "decay_updates": 4000, **cfg}), optimizer
            )


LM = "powernorm_lm_ptb"


@pytest.mark.parametrize("name", OF_ITS_OWN)
def test_language_models(language_models, name):
    """One stack of two branches a layer, which goes by --norm-type."""
    flags = [*FLAGS[name][:2], "--norm-type", "none"] if "none" in FLAGS[name] else FLAGS[name]
    model = language_models.build(LM, *flags).train()
    tokens = language_models.segments()
    output = model(tokens)[0]
    output.square().mean().backward()
    assert output.isfinite().all()
    layers = model.decoder.layers
    if name == "deepnet":
        assert layers[0].residual["ffn"].constant == pytest.approx((2 * len(layers)) ** 0.25)
    if name == "fixup":
        bound = math.sqrt(6 / (2 * model.decoder.layers[0].embed_dim)) / math.sqrt(2) * (2 * len(layers)) ** (-1 / 6)
        assert 0.9 * bound < layers[0].self_attn.q_proj.weight.abs().max() <= bound * 1.0001
        assert not any(key.endswith("fc1.bias") for key in model.state_dict())
    model.eval()
    full, state = model(tokens)[0], {}
    for position in range(tokens.size(1)):
        step = model(tokens[:, : position + 1], incremental_state=state)[0]
        torch.testing.assert_close(step[:, 0], full[:, position], rtol=1e-4, atol=1e-5)


def test_what_language_models_refuse(language_models, capsys):
    with pytest.raises(ValueError, match=r"fixup is for a model without norms: give --norm-type none$"):
        language_models.parse(LM, *FLAGS["fixup"][:2])
    with pytest.raises(SystemExit):
        language_models.parse("powernorm_tensorized_lm_ptb", "--init-scheme", "xavier")
    assert "unrecognized arguments: --init-scheme xavier" in capsys.readouterr().err


def test_t_fixup_scales_every_band_of_an_adaptive_embedding(language_models):
    bands = ["--adaptive-input-cutoff", "10,20", "--adaptive-softmax-cutoff", "10,20", "--norm-type", "none"]
    plain = language_models.build("powernorm_lm_wikitext103", *bands)
    scaled = language_models.build("powernorm_lm_wikitext103", *bands, "--init-scheme", "t-fixup").state_dict()
    tables = [key for key in scaled if "embed_tokens" in key and key.endswith(".0.weight")]
    assert len(tables) == 3
    for key in tables:
        gain = (9 * len(plain.decoder.layers)) ** -0.25
        torch.testing.assert_close(scaled[key], gain * plain.state_dict()[key])
