"""The model: stock fairseq where the norms are LayerNorm, masks handed to norms, decoding step by step, all flags."""

import copy

import pytest
import torch

from fairseq_powernorm import available_norms
from fairseq_powernorm.norms.layer_norm import LayerNorm
from fairseq_powernorm.norms.power_norm import PowerNorm
from fairseq_powernorm.norms.registry import NORMS as REGISTRY
from fairseq_powernorm.norms.token_norm import TokenNorm
from fairseq_powernorm.transformer.export import ExportableEncoder

NORMS = available_norms()
EVERYWHERE = [(name, ["--norm-type", name, "--decoder-norm-type", name]) for name in NORMS]
ids = [name for name, _ in EVERYWHERE]
MASKED = [(name, flags) for name, flags in EVERYWHERE if REGISTRY[name].declaration.ignores_padding]
LENGTHS = [7, 3, 1, 5]
PRE_NORM = ["--encoder-normalize-before", "--decoder-normalize-before"]


def train(model, models, steps, lengths=LENGTHS):
    """A few steps of SGD; the losses as exact numbers."""
    optimizer, losses = torch.optim.SGD(model.parameters(), 1e-3), []
    model.train()
    for step in range(steps):
        torch.manual_seed(step)  # dropout
        model.set_num_updates(step)
        optimizer.zero_grad()
        loss = -models.log_probabilities(model, *models.sample(lengths, seed=step))[:, 5].mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("position", ["pre", "post"])
def test_layer_is_stock_fairseq_bit_for_bit(models, position):
    stock = models.build(*(PRE_NORM if position == "pre" else []), arch="transformer_iwslt_de_en")
    dropouts = ["--dropout", "0.1", "--attention-dropout", "0", "--activation-dropout", "0"]
    ours = models.build("--norm-type", "layer", "--norm-position", position, *dropouts)
    assert list(stock.state_dict()) == list(ours.state_dict())
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in stock.state_dict().items())
    assert train(stock, models, 10) == train(ours, models, 10)
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in stock.state_dict().items())


def test_where_norms_stand_by_default(models):
    model = models.build()
    encoder = [module for module in model.encoder.modules() if isinstance(module, TokenNorm)]
    decoder = [module for module in model.decoder.modules() if isinstance(module, TokenNorm)]
    assert [type(norm) for norm in encoder] == [PowerNorm] * 5  # two layers of two, and the output norm
    assert [type(norm) for norm in decoder] == [LayerNorm] * 7
    assert not any(isinstance(module, torch.nn.LayerNorm) for module in model.modules())


def test_one_site_at_a_time(models):
    model = models.build("--encoder-norm-ffn", "batch", "--decoder-norm-cross-attn", "pn-v", "--norm-type", "layer")
    kinds = {name: type(module).__name__ for name, module in model.named_modules() if isinstance(module, TokenNorm)}
    others = {name: kind for name, kind in kinds.items() if kind != "LayerNorm"}
    assert others == {
        "encoder.layers.0.final_layer_norm": "BatchNorm",
        "encoder.layers.1.final_layer_norm": "BatchNorm",
        "decoder.layers.0.encoder_attn_layer_norm": "PNV",
        "decoder.layers.1.encoder_attn_layer_norm": "PNV",
    }


def test_settings_reach_the_norms(models):
    model = models.build(
        *("--norm-eps", "1e-3", "--norm-alpha-fwd", "0.5", "--norm-alpha-bwd", "0.6"),
        *("--norm-warmup-updates", "9", "--norm-group-scaling", "heads"),
    )
    for norm in (model.encoder.layers[0].final_layer_norm, model.encoder.layer_norm):
        settings = norm.eps, norm.alpha_fwd, norm.alpha_bwd, norm.warmup_updates, norm.group_scaling
        assert settings == (1e-3, 0.5, 0.6, 9, 2)


def test_the_release_gives_its_output_norms_a_warmup_of_their_own(models):
    model = models.build("--norm-type", "power-released", "--norm-warmup-updates", "8000")
    assert model.encoder.layers[0].self_attn_layer_norm.warmup_updates == 8000
    assert model.encoder.layer_norm.warmup_updates == 1000


@pytest.mark.parametrize(("name", "flags"), EVERYWHERE, ids=ids)
def test_a_sentence_alone_and_in_a_batch_of_64(models, name, flags):
    model = models.build(*flags)
    train(model, models, 5)
    model.eval()
    lengths = [1 + (7 * row) % 13 for row in range(64)]
    source, source_lengths, target = models.sample(lengths)
    together = model(source, source_lengths, target)[0]
    for row in (0, 5, 31, 63):
        length = lengths[row]
        alone = model(source[row : row + 1, -length:], torch.tensor([length]), target[row : row + 1, : length + 1])[0]
        torch.testing.assert_close(alone[0], together[row, : length + 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "flags"), MASKED, ids=[name for name, _ in MASKED])
def test_wider_padding_changes_nothing(models, name, flags, training):
    """The same sentences with five more columns of padding: the same output, gradients and statistics."""
    first = models.build(*flags, "--dropout", "0", "--attention-dropout", "0", "--activation-dropout", "0")
    second = copy.deepcopy(first)
    source, lengths, target = models.sample(LENGTHS)
    pad = models.dictionary().pad()
    wide_source = torch.cat([source.new_full((len(LENGTHS), 5), pad), source], dim=1)
    wide_target = torch.cat([target, target.new_full((len(LENGTHS), 5), pad)], dim=1)
    found = []
    for model, batch in ((first, (source, lengths, target)), (second, (wide_source, lengths, wide_target))):
        model.double().train(training)
        output = models.log_probabilities(model, *batch)
        output[:, 4].sum().backward()
        gradients = {f"gradient of {key}": value.grad for key, value in model.named_parameters()}
        found.append({"output": output.detach(), **model.state_dict(), **gradients})
    for key, value in found[0].items():
        # fairseq's softmax is float32 whatever the model is
        torch.testing.assert_close(found[1][key], value, rtol=1e-5, atol=1e-6, msg=lambda text, key=key: key + text)


@pytest.mark.parametrize("position", ["pre", "post"])
@pytest.mark.parametrize(("name", "flags"), EVERYWHERE, ids=ids)
def test_incremental_decoding_equals_full_decoding(models, name, flags, position):
    model = models.build(*flags, "--norm-position", position)
    train(model, models, 5)
    model.double().eval()
    source, lengths, target = models.sample([6, 6, 6])  # decoders step through sentences without padding
    encoded = model.encoder(source, lengths)
    full = model.decoder(target, encoder_out=encoded)[0]
    state = {}
    for position in range(target.size(1)):
        step = model.decoder(target[:, : position + 1], encoder_out=encoded, incremental_state=state)[0]
        torch.testing.assert_close(step[:, 0], full[:, position], rtol=1e-4, atol=1e-5)  # its softmax is float32


@pytest.mark.parametrize(("name", "flags"), EVERYWHERE, ids=ids)
def test_recomputation_gives_the_same_losses_weights_and_statistics(models, name, flags):
    """Bit for bit with one decoder layer; with more, the encoder's gradient is a sum in another order, in stock
    fairseq too."""
    flags = [*flags, "--decoder-layers", "1"]
    plain, recomputed = models.build(*flags), models.build(*flags, "--checkpoint-activations")
    assert train(plain, models, 6) == train(recomputed, models, 6)
    for key, value in plain.state_dict().items():
        assert torch.equal(value, recomputed.state_dict()[key]), key


@pytest.mark.parametrize(
    "flags",
    [
        ["--encoder-layerdrop", "0.5", "--decoder-layerdrop", "0.5"],
        ["--quant-noise-pq", "0.3", "--quant-noise-pq-block-size", "4"],
        ["--share-all-embeddings"],
        ["--share-decoder-input-output-embed"],
        ["--encoder-learned-pos", "--decoder-learned-pos"],
        ["--no-token-positional-embeddings"],
        ["--layernorm-embedding"],
        ["--no-cross-attention"],
        ["--no-decoder-final-norm"],
        ["--cross-self-attention", "--no-cross-attention"],
        ["--norm-position", "post"],
        ["--decoder-output-dim", "8"],
        ["--adaptive-softmax-cutoff", "10,20"],
        ["--norm-group-scaling", "4"],
        ["--norm-warmup-updates", "2"],
    ],
    ids=lambda flags: flags[0],
)
def test_fairseqs_own_flags_still_work(models, flags):
    model = models.build("--decoder-norm-type", "power", *flags)
    if "--adaptive-softmax-cutoff" in flags:  # its output is features
        model.train()
        model(*models.sample(LENGTHS))[0].sum().backward()
        return
    losses = train(model, models, 4)
    assert all(loss == loss for loss in losses) and len(set(losses)) == 4


def test_post_norm_has_no_output_norms(models):
    model = models.build("--norm-position", "post")
    assert model.encoder.layer_norm is None and model.decoder.layer_norm is None


def test_updates_reach_every_norm(models):
    model = models.build("--norm-warmup-updates", "5")
    model.set_num_updates(3)
    assert model.encoder.layers[1].final_layer_norm.warming_up
    model.set_num_updates(5)
    assert not any(norm.warming_up for norm in model.modules() if isinstance(norm, PowerNorm))


def test_half_precision_models_keep_float32_statistics(models):
    model = models.build("--decoder-norm-type", "power").bfloat16()
    statistics = [buffer for name, buffer in model.named_buffers() if "running" in name or "projection" in name]
    assert len(statistics) == 2 * 12 and {buffer.dtype for buffer in statistics} == {torch.float32}


@pytest.mark.parametrize(
    ("name", "flags"), [*EVERYWHERE, ("groups", ["--norm-group-scaling", "2"])], ids=[*ids, "groups"]
)
def test_an_exported_encoder_computes_the_same(models, name, flags, tmp_path):
    model = models.build(*flags)
    train(model, models, 2)
    source, *_ = models.sample([7, 3, 5])
    batch, length = torch.export.Dim("batch", max=64), torch.export.Dim("length", min=2, max=100)
    encoder = ExportableEncoder(model.encoder)
    program = torch.export.export(encoder, (source,), dynamic_shapes=({0: batch, 1: length},), strict=True)
    assert not any("fairseq_powernorm" in str(node.target) for node in program.graph.nodes)  # torch's own operators
    torch.export.save(program, tmp_path / "encoder.pt2")
    exported = torch.export.load(tmp_path / "encoder.pt2").module()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for lengths in ([7, 3, 5], [4, 4], [9]):  # other sizes, and no padding
        source, lengths, _ = models.sample(lengths, seed=3)
        states, padding = exported(source)
        expected = model.encoder(source, lengths)
        real = ~expected["encoder_padding_mask"][0]
        assert torch.equal(~padding, real)
        torch.testing.assert_close(states.transpose(0, 1)[real], expected["encoder_out"][0].transpose(0, 1)[real])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
