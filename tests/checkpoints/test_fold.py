"""Folding: the same numbers without norms, what stays and why, one line for bad input."""

import argparse
import logging
import sys

import pytest
import torch
from fairseq import options
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.tasks.translation import TranslationTask
from omegaconf import OmegaConf

import fairseq_powernorm.transformer  # noqa: F401 (registers the architectures)
from fairseq_powernorm.checkpoints import fold
from fairseq_powernorm.checkpoints.io import load_checkpoint, save_checkpoint
from fairseq_powernorm.norms.batch_statistics import BatchStatisticsNorm
from fairseq_powernorm.norms.folded import FoldedNorm
from fairseq_powernorm.norms.registry import NORMS

FOLDABLE = [name for name, norm in NORMS.items() if norm.statistics]
SIZES = [
    *("--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "24", "--encoder-layers", "2"),
    *("--encoder-attention-heads", "2", "--decoder-embed-dim", "16", "--decoder-ffn-embed-dim", "24"),
    *("--decoder-layers", "2", "--decoder-attention-heads", "2"),
    *("--max-update", "20"),
    *("--norm-group-scaling", "0"),  # what is scaled token by token does not fold
]


def dictionary():
    words = Dictionary()
    for word in "abcdefghijklmnopqrstuvwxyz":
        words.add_symbol(word)
    return words


def model_of(args):
    words = dictionary()
    return TranslationTask(args, words, words).build_model(args)


def trained(*flags, arch="powernorm_tiny"):
    """A model in evaluation mode whose norms have arbitrary weights and statistics, and its checkpoint."""
    args = options.parse_args_and_arch(options.get_training_parser(), ["data", "--arch", arch, *SIZES, *flags])
    torch.manual_seed(1)
    model = model_of(args).eval()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "layer_norm" in name and tensor.is_floating_point():
            torch.nn.init.uniform_(tensor.data, 0.3, 2.0)
        elif name.endswith("_proj.bias") or (".fc" in name and name.endswith("bias")):
            torch.nn.init.normal_(tensor.data)
        elif name.endswith("num_updates"):
            tensor.fill_(20)  # every schedule is over
    cfg = OmegaConf.to_container(convert_namespace_to_omegaconf(args), resolve=True, enum_to_str=True)
    state = {
        "args": None,
        "cfg": {**cfg, "model": args},
        "model": model.state_dict(),
        "optimizer_history": [{"num_updates": 7}],
        "last_optimizer_state": {"large": torch.zeros(9)},
        "extra_state": {"train_iterator": {"epoch": 3}},
    }
    return model, state


def loaded(state):
    """The model that a checkpoint's flags describe, loaded strictly."""
    model = model_of(state["cfg"]["model"]).eval()
    model.load_state_dict(state["model"], strict=True)
    return model


def outputs(model):
    """Log probabilities at once, and of the last position by incremental decoding."""
    words = dictionary()
    source = torch.tensor([[4, 5, 6, 7, 2], [words.pad(), words.pad(), 9, 8, 2]])
    target = torch.tensor([[2, 11, 12, 13], [2, 14, words.pad(), words.pad()]])
    with torch.no_grad():
        whole = model.get_normalized_probs(model(source, torch.tensor([5, 3]), target), log_probs=True)
        encoder_out, state = model.encoder(source, torch.tensor([5, 3])), {}
        for end in range(1, 5):
            step = model.decoder(target[:1, :end], narrow(encoder_out), incremental_state=state)
    return whole[target.ne(words.pad())], model.get_normalized_probs(step, log_probs=True)


def narrow(encoder_out):
    """The encoder's output for the first sentence alone."""
    first = dict(encoder_out)
    first["encoder_out"] = [encoder_out["encoder_out"][0][:, :1]]
    first["encoder_padding_mask"] = [encoder_out["encoder_padding_mask"][0][:1]]
    return first


@pytest.mark.parametrize("name", FOLDABLE)
@pytest.mark.parametrize("decoder", [False, True])
def test_a_folded_model_gives_the_same_scores_without_its_norms(name, decoder, caplog):
    caplog.set_level(logging.INFO)
    model, state = trained("--norm-type", name, *(["--decoder-norm-type", name] if decoder else []))
    before = {key: tensor.clone() for key, tensor in state["model"].items()}
    folded = fold.fold_state(state)
    small = loaded(folded)
    for expected, found in zip(outputs(model), outputs(small), strict=True):
        size = max(1.0, expected.abs().max().item() / 10)  # α x of rep-batch makes them large
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * size)
    kept = [site for site, module in small.named_modules() if isinstance(module, BatchStatisticsNorm)]
    assert kept == (["decoder.layer_norm"] if decoder else [])
    assert sum(isinstance(module, FoldedNorm) for module in small.modules()) == (5 + 6 * decoder)
    assert not any(key.startswith("encoder.layers.0.final_layer_norm") for key in folded["model"])
    assert "last_optimizer_state" not in folded and folded["extra_state"] == state["extra_state"]
    for key, tensor in state["model"].items():  # the original is not touched
        assert torch.equal(tensor, before[key])
    output = "stays: the output projection behind it has no bias" if decoder else "stays: layer looks at each token"
    assert f"decoder output ({name if decoder else 'layer'}) {output}" in caplog.text
    assert f"encoder self-attn ({name}) folded" in caplog.text


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        ("encoder", "encoder output (batch) stays: with --cross-self"),
        ("decoder", "decoder self-attn (batch) stays: with"),
    ],
)
def test_linear_layers_that_read_both_stacks_take_no_norm_in(stack, said, caplog):
    """The sites of one stack alone fold, so that the other could not hide a difference."""
    caplog.set_level(logging.INFO)
    flags = ["--norm-type", "layer", "--norm-type", "batch"] if stack == "encoder" else ["--norm-type", "layer"]
    flags += ["--decoder-norm-type", "batch"] if stack == "decoder" else []
    model, state = trained(*flags, "--cross-self-attention")
    for expected, found in zip(outputs(model), outputs(loaded(fold.fold_state(state))), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert said in caplog.text


def test_a_case_by_hand():
    """γ = 2, ψ² + ε = 4, β = 3: W (x + 3) + c."""
    model = {
        "encoder.layers.0.final_layer_norm.weight": torch.tensor([2.0, 2.0]),
        "encoder.layers.0.final_layer_norm.bias": torch.tensor([3.0, 3.0]),
        "encoder.layers.0.final_layer_norm.running_square_mean": torch.tensor([3.0, 3.0]),
        "encoder.layers.0.fc1.weight": torch.tensor([[1.0, 10.0]]),
        "encoder.layers.0.fc1.bias": torch.tensor([5.0]),
    }
    scale, shift = fold.constants_of("encoder.layers.0.final_layer_norm", fold.NormSpec("pn-v", eps=1.0), model)
    fold.fold_into("encoder.layers.0.fc1", scale, shift, model)
    assert list(model) == ["encoder.layers.0.fc1.weight", "encoder.layers.0.fc1.bias"]
    assert model["encoder.layers.0.fc1.weight"].tolist() == [[1.0, 10.0]]
    assert model["encoder.layers.0.fc1.bias"].tolist() == [5.0 + 3 + 30]


def test_sites_that_differ_are_folded_one_by_one():
    flags = ["--norm-type", "layer", "--encoder-norm-ffn", "power", "--decoder-norm-cross-attn", "batch"]
    model, state = trained(*flags)
    folded = fold.fold_state(state)
    chosen = folded["cfg"]["model"]
    assert (chosen.encoder_norm_ffn, chosen.decoder_norm_cross_attn) == ("folded", "folded")
    assert chosen.norm_type == "layer" and chosen.encoder_norm_self_attn is None
    for expected, found in zip(outputs(model), outputs(loaded(folded)), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_a_norm_whose_schedule_is_under_way_stays(caplog):
    caplog.set_level(logging.INFO)
    _, state = trained("--norm-type", "progressive-rep-batch", "--encoder-norm-output", "rep-batch")
    for name, tensor in state["model"].items():
        if name.endswith("num_updates"):
            tensor.fill_(15)
    folded = fold.fold_state(state)["cfg"]["model"]
    assert folded.encoder_norm_output == "folded" and folded.encoder_norm_ffn is None
    assert "encoder ffn (progressive-rep-batch) stays: it is LayerNorm in part until update 16, and" in caplog.text


def test_half_precision_is_rounded_once():
    _, state = trained("--norm-type", "power")
    expected = fold.fold_state(state)["model"]["encoder.layers.0.fc1.weight"]
    state["model"] = {
        k: t.half() if t.is_floating_point() and "running" not in k else t for k, t in state["model"].items()
    }
    found = fold.fold_state(state)["model"]["encoder.layers.0.fc1.weight"]
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), expected, rtol=2e-3, atol=1e-4)


def test_a_folded_model_cannot_be_trained():
    model = loaded(fold.fold_state(trained("--norm-type", "power")[1])).train()
    with pytest.raises(ValueError, match="a folded model cannot be trained"):
        outputs(model)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--norm-type", "layer"], "stays: layer looks at each token"),
        (
            ["--norm-type", "power", "--norm-group-scaling", "auto"],
            "stays: group scaling (--norm-group-scaling auto) looks",
        ),
        (["--norm-type", "power", "--norm-position", "post"], "stays: in post-norm it feeds the residual path too"),
    ],
)
def test_what_has_nothing_to_fold_is_refused_with_the_reasons(flags, said, caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(ValueError, match="it has no norm that can be folded"):
        fold.fold_state(trained(*flags)[1])
    assert said in caplog.text


def test_bad_checkpoints_are_named(tmp_path):
    _, state = trained("--norm-type", "power")
    lacking = {key: tensor for key, tensor in state["model"].items() if key != "encoder.layers.1.fc1.bias"}
    with pytest.raises(ValueError, match=r"the model has no encoder\.layers\.1\.fc1\.bias to fold a norm into"):
        fold.fold_state({**state, "model": lacking})
    name = "encoder.layers.0.self_attn_layer_norm.running_square_mean"
    with pytest.raises(ValueError, match=r"encoder\.layers\.0\.self_attn_layer_norm: its statistics are not finite"):
        fold.fold_state({**state, "model": {**state["model"], name: torch.full((16,), float("nan"))}})
    stock = argparse.Namespace(**{k: v for k, v in vars(state["cfg"]["model"]).items() if "norm" not in k})
    with pytest.raises(ValueError, match="expected a checkpoint of this package, found one without --norm-type"):
        fold.fold_state({**state, "cfg": {**state["cfg"], "model": stock}})
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"cut.pt: truncated \(the directory"):
        fold.fold_checkpoint(tmp_path / "cut.pt")


def test_the_command_writes_what_loads(tmp_path, monkeypatch):
    model, state = trained("--norm-type", "pn-v")
    save_checkpoint(state, tmp_path / "averaged.pt")
    command = ["powernorm-fold", "--checkpoint", str(tmp_path / "averaged.pt"), "--output", str(tmp_path / "folded.pt")]
    monkeypatch.setattr(sys, "argv", command)
    fold.command()
    for expected, found in zip(outputs(model), outputs(loaded(load_checkpoint(tmp_path / "folded.pt"))), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    with pytest.raises(SystemExit, match="exists; give --force"):
        fold.command()


def test_what_is_folded_already_is_refused_by_that_name(tmp_path):
    _, state = trained("--norm-type", "power")
    folded = fold.fold_state(state)
    assert fold.folded_sites(state) == []
    assert fold.folded_sites(folded) == ["encoder_norm_self_attn", "encoder_norm_ffn", "encoder_norm_output"]
    save_checkpoint(folded, tmp_path / "folded.pt")
    with pytest.raises(ValueError, match=r"folded\.pt: is folded already"):
        fold.fold_checkpoint(tmp_path / "folded.pt")


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_folders_are_refused_before_the_work(force, tmp_path, monkeypatch):
    folder, absent = tmp_path / "folder", tmp_path / "absent.pt"
    folder.mkdir()
    for checkpoint, output in ((absent, folder), (folder, tmp_path / "folded.pt")):
        command = ["powernorm-fold", "--checkpoint", str(checkpoint), "--output", str(output), *force]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit, match=f"powernorm-fold: error: {folder} is a folder; expected a file"):
            fold.command()
    assert list(tmp_path.iterdir()) == [folder] and not list(folder.iterdir())
