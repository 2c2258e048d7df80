"""replace_norms on models of torch's own modules."""

import copy
import logging
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from fairseq_powernorm import (
    BatchNorm,
    LayerNorm,
    PowerNorm,
    RMSNorm,
    available_norms,
    gather_statistics,
    one_update,
    padding_mask,
    replace_norms,
)
from fairseq_powernorm.norms.registry import NORMS as REGISTRY
from fairseq_powernorm.norms.registry import norms_with
from fairseq_powernorm.norms.token_norm import TokenNorm

WITH_STATISTICS = [name for name in available_norms() if REGISTRY[name].statistics]
MASK = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] + [True] * 4])
SENTENCES = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1))


def encoder(layers=2, **options):
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, **options)
    return nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(8))


def images():
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)),
    )


def randomise(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def train(model, steps=3, **keywords):
    """A few updates in training mode, so that running statistics are others than at the start."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(steps):
        with one_update(model, num_updates=step) as update, padding_mask(MASK):
            output = model(SENTENCES, **keywords)
            update_loss = output.masked_fill(MASK.unsqueeze(-1), 0).square().sum()
            update_loss.backward()
        assert update.taken
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


# Which norms


def test_every_norm_has_the_path_of_the_one_before():
    model = encoder()
    before = dict(model.named_modules())
    assert replace_norms(model, "power", batch_first=True, alpha_fwd=0.8) is model
    for path, module in model.named_modules():
        if isinstance(before[path], nn.LayerNorm):
            assert isinstance(module, PowerNorm) and module.batch_first and module.alpha_fwd == 0.8
        else:
            assert module is before[path]
    assert "layers.0.norm1.weight" in model.state_dict()
    assert "layers.0.norm1.running_square_mean" in model.state_dict()


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"names": "layers.*"}, ["layers.0.norm1", "layers.0.norm2", "layers.1.norm1", "layers.1.norm2"]),
        ({"names": ["layers.0.*", "norm"]}, ["layers.0.norm1", "layers.0.norm2", "norm"]),
        ({"exclude": "*.norm?"}, ["norm"]),
        ({"names": "*norm1", "exclude": ["layers.1.*"]}, ["layers.0.norm1"]),
        ({"classes": nn.Linear, "names": "layers.?.linear1"}, None),
    ],
)
def test_names_and_classes_choose(choice, expected):
    model = encoder()
    if expected is None:
        with pytest.raises(
            ValueError, match=r"^layers.0.linear1 \(Linear\): say where it has its channels: channel_dim"
        ):
            replace_norms(model, "rms", batch_first=True, **choice)
        return
    replace_norms(model, "rms", batch_first=True, **choice)
    assert [path for path, module in model.named_modules() if isinstance(module, TokenNorm)] == expected


def test_no_match_lists_what_there_is():
    model = nn.Sequential(encoder(), nn.GroupNorm(2, 8))
    listed = (
        r"its norms are 5 torch.nn.modules.normalization.LayerNorm \(0.layers.0.norm1, 0.layers.0.norm2, "
        r"0.layers.1.norm1, …\); 1 torch.nn.modules.normalization.GroupNorm \(1\)$"
    )
    for choice, message in (
        ({"names": "decoder.*"}, r"no LayerNorm or RMSNorm or .* with a name like decoder.\* in the model; "),
        ({"names": ["0.*", "decoder.*"]}, r"with a name like decoder.\* in"),
        ({"classes": nn.BatchNorm1d}, "no BatchNorm1d in the model; "),
        ({"exclude": "*"}, r" and not like \* in the model; "),
    ):
        with pytest.raises(ValueError, match=message + "(.*)" + listed):
            replace_norms(model, "power", batch_first=True, **choice)
    with pytest.raises(ValueError, match="its norms are none: no class has norm in its name"):
        replace_norms(nn.Linear(2, 2), "power", batch_first=True)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("powr", {}, "unknown norm 'powr'; known norms: layer"),
        ("power", {"momentum": 0.1}, "norm 'power' takes eps, alpha_fwd.*got momentum"),
        (
            "power",
            {"group_scaling": 3},
            r"layers.0.norm1 \(LayerNorm\): expected group_scaling 0 or a number of groups",
        ),
    ],
)
def test_bad_settings_change_nothing(name, settings, message):
    model = encoder()
    before = list(model.modules())
    with pytest.raises(ValueError, match=message):
        replace_norms(model, name, batch_first=True, **settings)
    assert all(one is other for one, other in zip(model.modules(), before, strict=True))


def test_what_would_be_lost_without_a_word_is_refused():
    hooked = nn.LayerNorm(4)
    hooked.register_forward_hook(lambda module, inputs, output: 2 * output)
    for norm, message in (
        (hooked, "it has hooks, which would be lost with it: remove them first"),
        (nn.BatchNorm1d(4, track_running_stats=False), "it keeps no running statistics"),
        (nn.BatchNorm1d(4, momentum=None), "its momentum is None or 0, which is no decay of running statistics: say"),
        (nn.BatchNorm1d(4, momentum=0.0), "its momentum is None or 0"),
    ):
        with pytest.raises(ValueError, match=message):
            replace_norms(nn.Sequential(norm), "batch", batch_first=True)
    model = nn.Sequential(nn.BatchNorm1d(4, momentum=None))
    replace_norms(model, "batch", batch_first=True, alpha_fwd=0.5)
    replace_norms(model, "layer", batch_first=True, classes=type(model[0]))  # whose own hooks are no stranger's


def test_the_layout_is_never_guessed():
    with pytest.raises(TypeError, match="batch_first"):
        replace_norms(encoder(), "power")
    with pytest.raises(ValueError, match=r"expected one dimension of channels, got normalized_shape \(4, 8\)"):
        replace_norms(nn.Sequential(nn.LayerNorm((4, 8))), "power", batch_first=True)


class OwnNorm(nn.Module):
    """RMSNorm as many models define it."""

    def __init__(self, channels, offset=0.0):
        super().__init__()
        self.scale, self.offset, self.variance_epsilon = nn.Parameter(torch.randn(channels)), offset, 1e-3

    def forward(self, x):
        wide = x.float()
        return (
            x * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.variance_epsilon) * (self.scale + self.offset)
        )


class NormAndActivation(nn.BatchNorm2d):
    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.ReLU()


def test_a_subclass_is_replaced_where_it_is_named():
    model = nn.Sequential(NormAndActivation(6), nn.BatchNorm2d(6))
    replace_norms(model, "pn-v", batch_first=True)
    assert type(model[0]) is NormAndActivation
    with pytest.raises(
        ValueError, match=r"^0 \(NormAndActivation\): it holds act \(ReLU\), which would be lost with it"
    ):
        replace_norms(model, "pn-v", batch_first=True, classes=NormAndActivation, channel_dim=1)


def test_a_shared_norm_stays_shared():
    norm = nn.LayerNorm(8)
    model = nn.Sequential(norm, nn.Linear(8, 8), norm)
    replace_norms(model, "rms", batch_first=True)
    assert isinstance(model[0], RMSNorm) and model[0] is model[2]


def test_a_norm_alone_and_a_norm_of_ours():
    norm = replace_norms(nn.BatchNorm2d(6), "power", batch_first=True)
    assert isinstance(norm, PowerNorm) and norm.channel_dim == 1
    again = replace_norms(nn.Sequential(norm), "batch", batch_first=False, classes=PowerNorm)[0]
    assert isinstance(again, BatchNorm) and again.channel_dim == 1 and again.batch_first


@pytest.mark.parametrize("name", norms_with("sync"))
def test_synchronised_norms_stay_so(name):
    model = nn.SyncBatchNorm.convert_sync_batchnorm(images())
    replace_norms(model, name, batch_first=True, classes=nn.SyncBatchNorm)
    assert "sync=True" in repr(model[1]) and model[1].channel_dim == 1


# γ, β and statistics


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"elementwise_affine": False}])
def test_layer_for_layernorm_computes_the_same(options):
    model = randomise(nn.Sequential(nn.LayerNorm(8, eps=1e-3, **options), nn.Linear(8, 8)))
    other = replace_norms(copy.deepcopy(model), "layer", batch_first=True)
    assert isinstance(other[0], LayerNorm)
    assert torch.equal(other(SENTENCES), model(SENTENCES))
    assert other.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("eps", [None, 1e-3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rms_for_rmsnorm_computes_the_same(eps, dtype):
    model, x = randomise(nn.Sequential(nn.RMSNorm(8, eps=eps))).to(dtype), SENTENCES.to(dtype) * 1e-4
    other = replace_norms(copy.deepcopy(model), "rms", batch_first=True)
    assert torch.equal(other(x), model(x))


def test_batch_for_batchnorm_goes_on_from_its_statistics():
    model = randomise(images())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.3
    x = torch.randn(4, 3, 5, 5)
    for _ in range(3):
        model(x)
    other = replace_norms(copy.deepcopy(model), "batch", batch_first=True)
    torch.testing.assert_close(other.eval()(x), model.eval()(x))
    before = other[1].running_mean.clone()
    torch.testing.assert_close(other.train()(x), model.train()(x), rtol=1e-4, atol=1e-5)
    assert other[1].alpha_fwd == 0.7 and (other[1].running_mean != before).any()
    torch.testing.assert_close(other[1].running_mean, model[1].running_mean)


def test_the_very_parameters_are_kept_where_they_mean_the_same():
    model = nn.Sequential(nn.LayerNorm(8), OwnNorm(8), OwnNorm(8, offset=1.0), nn.BatchNorm1d(8))
    old = list(model)
    choice = {"batch_first": True, "classes": (nn.LayerNorm, OwnNorm, nn.BatchNorm1d), "channel_dim": -1}
    rms = replace_norms(copy.copy(model), "rms", **choice)
    old_parameters = [old[0].weight, old[1].scale]
    assert rms[0].weight is old_parameters[0] and rms[1].weight is old_parameters[1]
    assert rms[0].eps == 1e-5 and rms[1].eps == 1e-3
    assert torch.equal(rms[2].weight, old[2].scale + 1) and torch.equal(rms[3].weight, torch.ones(8))


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_an_own_norm_computes_the_same_as_rms(offset):
    model = nn.Sequential(OwnNorm(8, offset))
    other = replace_norms(copy.deepcopy(model), "rms", batch_first=True, classes=OwnNorm, channel_dim=-1)
    torch.testing.assert_close(other(SENTENCES), model(SENTENCES))


def test_elsewhere_they_start_anew_and_the_log_says_which(caplog):
    model = randomise(
        nn.Sequential(nn.LayerNorm(8), nn.LayerNorm(8), nn.BatchNorm1d(8), nn.BatchNorm1d(8, affine=False))
    )
    with caplog.at_level(logging.INFO, logger="fairseq_powernorm"):
        replace_norms(model, "batch", batch_first=True)
    assert [record.getMessage() for record in caplog.records] == [
        "batch instead of LayerNorm, γ and β start anew: 0, 1",
        "batch instead of BatchNorm1d, γ, β, running_mean, running_var kept: 2",
        "batch instead of BatchNorm1d, running_mean, running_var kept: 3",
    ]
    assert torch.equal(model[0].weight, torch.ones(8)) and not torch.equal(model[2].weight, torch.ones(8))
    assert model[3].weight is None


def test_dtype_device_and_mode_are_kept():
    model = replace_norms(encoder().double().eval(), "power", batch_first=True)
    norm = model.layers[0].norm1
    assert not norm.training and {tensor.dtype for tensor in norm.state_dict().values()} == {torch.float64}
    with torch.device("meta"):
        model = encoder()
    assert all(tensor.is_meta for tensor in replace_norms(model, "power", batch_first=True).state_dict().values())
    half = replace_norms(encoder().bfloat16(), "power", batch_first=True).layers[0].norm1
    assert half.weight.dtype is torch.bfloat16 and half.running_square_mean.dtype is torch.float32


def test_another_formula_starts_anew():
    new = replace_norms(nn.Sequential(OwnNorm(8, offset=0.5)), "rms", batch_first=True, classes=OwnNorm, channel_dim=-1)
    assert torch.equal(new[0].weight, torch.ones(8))


# The models compute what they should


def calls_of_norms(model, monkeypatch):
    """How often the layers' norms are called in evaluation, and what the model gives. (A hook would count, and by
    itself switch the fast path off.)"""
    cls = type(model.layers[0].norm1)
    forward, called = cls.forward, []
    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(cls, "forward", lambda norm, x: called.append(norm) or forward(norm, x))
        output = model(SENTENCES, src_key_padding_mask=MASK)
    return len([norm for norm in called if norm is not model.norm]), output


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_torchs_fast_path_is_off(name, norm_first, monkeypatch):
    """It would compute LayerNorm with this γ and β."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that norm_first uses no nested tensors
        stock = randomise(encoder(norm_first=norm_first)).eval()
    model = train(replace_norms(copy.deepcopy(stock), name, batch_first=True))
    assert calls_of_norms(stock, monkeypatch)[0] == 0  # what the model would do
    for copied in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        calls, without_grad = calls_of_norms(copied, monkeypatch)
        assert calls == 4
        torch.testing.assert_close(without_grad, copied(SENTENCES, src_key_padding_mask=MASK).detach())


@pytest.mark.parametrize("names", ["layers.0.*", "layers.1.norm2", "norm"])
def test_the_fast_path_of_some_layers(names):
    """Only the layers with new norms leave it, and none is handed nested tensors that it cannot take."""
    model = train(replace_norms(encoder(), "power", batch_first=True, names=names))
    with torch.no_grad():
        fast = model(SENTENCES, src_key_padding_mask=MASK)
    slow = model(SENTENCES, src_key_padding_mask=MASK).detach()
    torch.testing.assert_close(fast[~MASK], slow[~MASK])


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_a_padded_batch_equals_its_sentences_one_by_one(name):
    model = train(replace_norms(encoder(), name, batch_first=True), src_key_padding_mask=MASK)
    with torch.no_grad():
        together = model(SENTENCES, src_key_padding_mask=MASK)
        for row in range(3):
            alone = model(SENTENCES[row : row + 1, ~MASK[row]])
            torch.testing.assert_close(together[row : row + 1, ~MASK[row]], alone)


@pytest.mark.parametrize("name", [name for name in WITH_STATISTICS if REGISTRY[name].declaration.ignores_padding])
def test_padding_changes_no_training(name):
    """Batches with more padding, and other values there, train the same model."""
    first = replace_norms(encoder(), name, batch_first=True)
    second = copy.deepcopy(first)
    wider = torch.cat([SENTENCES, torch.full((3, 2, 8), 50.0)], dim=1)
    mask = torch.cat([MASK, torch.ones(3, 2, dtype=torch.bool)], dim=1)
    for model, x, padding in ((first, SENTENCES, MASK), (second, wider, mask)):
        optimizer = torch.optim.SGD(model.parameters(), 1e-2)
        for _ in range(3):
            with one_update(model), padding_mask(padding):
                model(x, src_key_padding_mask=padding)[~padding].square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    for key, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[key], value, rtol=1e-4, atol=1e-5)


def test_encoder_and_decoder_have_their_own_masks():
    model = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0, batch_first=True)
    with pytest.warns(UserWarning, match=r"decoder.layers.0.norm1 is part of a causal model \(by decoder\)"):
        replace_norms(model, "power", batch_first=True)
    source, target = torch.randn(3, 5, 8), torch.randn(3, 4, 8)
    target_mask = torch.tensor([[False] * 4, [False] * 2 + [True] * 2, [False] * 4])
    losses = []
    for filling in (0.0, 3.0):  # what stands at padding
        twin = copy.deepcopy(model)
        s = source.masked_fill(MASK.unsqueeze(-1), filling)
        t = target.masked_fill(target_mask.unsqueeze(-1), filling)
        with padding_mask(MASK, twin.encoder), padding_mask(target_mask, twin.decoder):
            output = twin(
                s,
                t,
                src_key_padding_mask=MASK,
                memory_key_padding_mask=MASK,
                tgt_key_padding_mask=target_mask,
                tgt_mask=nn.Transformer.generate_square_subsequent_mask(4) < 0,
            )
        losses.append(output[~target_mask].square().sum())
        losses[-1].backward()
        losses[-1] = losses[-1].detach(), twin.decoder.layers[0].norm2.running_square_mean
    torch.testing.assert_close(losses[0], losses[1])


def test_images_train():
    model = replace_norms(images(), "power", batch_first=True)
    x, labels = torch.randn(16, 3, 6, 6), torch.arange(16) % 4
    optimizer = torch.optim.Adam(model.parameters(), 3e-2)
    losses = []
    for step in range(60):
        with one_update(model, num_updates=step):
            loss = nn.functional.cross_entropy(model(x), labels)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    model.eval()
    one_by_one = torch.cat([model(image[None]) for image in x])
    torch.testing.assert_close(model(x), one_by_one)
    assert nn.functional.cross_entropy(one_by_one, labels) < losses[0]


def test_warm_up_recalibration_and_checkpoints():
    model = replace_norms(encoder(), "power", batch_first=True, warmup_updates=2)
    norm = model.norm
    for done, warming_up in ((0, True), (1, True), (2, False)):
        with one_update(model, num_updates=done):
            assert norm.warming_up is warming_up
    train(model)
    before = norm.running_square_mean.clone()
    with torch.no_grad(), gather_statistics(model), padding_mask(MASK):
        model(SENTENCES, src_key_padding_mask=MASK)
    assert (norm.running_square_mean != before).any()
    fresh = replace_norms(encoder(), "power", batch_first=True)
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh.eval()(SENTENCES), model(SENTENCES))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["batch", "power"])
def test_checkpointing_and_compilation_change_nothing(name):
    class Stack(nn.Module):
        def __init__(self, recompute):
            super().__init__()
            self.layers, self.recompute = encoder().layers, recompute

        def forward(self, x):
            for layer in self.layers:
                x = checkpoint(layer, x, use_reentrant=False) if self.recompute else layer(x)
            return x

    plain = replace_norms(Stack(False), name, batch_first=True)
    others = [Stack(True), Stack(False)]
    for other in others:
        replace_norms(other, name, batch_first=True)
        other.load_state_dict(plain.state_dict())
    calls = [plain, others[0], torch.compile(others[1], backend="aot_eager", fullgraph=True)]
    for _ in range(2):
        for call in calls:
            with padding_mask(MASK):
                output = call(SENTENCES)
            output[~MASK].square().sum().backward()
    for other in others:
        for key, value in plain.state_dict().items():
            torch.testing.assert_close(other.state_dict()[key], value)
        for key, parameter in plain.named_parameters():
            torch.testing.assert_close(other.get_parameter(key).grad, parameter.grad)


# Causal models


def test_causal_models_warn_and_others_do_not():
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 1, nn.LayerNorm(8))
    with pytest.warns(UserWarning, match="uses running statistics and has no such leak"):
        replace_norms(copy.deepcopy(decoder), "batch", batch_first=False)
    both = nn.ModuleDict({"encoder": encoder(), "decoder": decoder})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replace_norms(copy.deepcopy(both), "batch", batch_first=False, names="encoder.*")
        replace_norms(copy.deepcopy(decoder), "rms", batch_first=False)  # no statistics of a batch
    both["encoder"].is_decoder = False
    both["decoder"].is_decoder = True
    with pytest.warns(UserWarning, match=r"^decoder.norm is part of a causal model"):
        replace_norms(both, "batch", batch_first=False, names="*der.norm")


def test_classes_come_by_name():
    import fairseq_powernorm

    for norm in REGISTRY.values():
        assert getattr(fairseq_powernorm, norm.__name__) is norm
    with pytest.raises(ImportError):
        from fairseq_powernorm import NoSuchNorm  # noqa: F401
    assert all(hasattr(fairseq_powernorm, name) for name in fairseq_powernorm.__all__)
