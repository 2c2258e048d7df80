"""Conversion: released checkpoints site by site against the formula, stock ones bit for bit against stock fairseq."""

import argparse
import functools
import logging
import os
import sys
import zipfile

import pytest
import torch
from fairseq import checkpoint_utils, options
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.tasks.translation import TranslationTask
from omegaconf import OmegaConf

import fairseq_powernorm.transformer  # noqa: F401 (registers the architectures)
from fairseq_powernorm.checkpoints.convert import command, convert_checkpoint
from fairseq_powernorm.checkpoints.io import load_checkpoint, save_checkpoint
from fairseq_powernorm.flags.norms import DEFAULTS
from fairseq_powernorm.norms.no_norm import NoNorm
from fairseq_powernorm.norms.power_norm_released import PowerNormReleased

WORDS = "abcdefghijklmnopqrstuvwxyz"
CHANNELS, FFN, LAYERS, ENCODER_HEADS, DECODER_HEADS = 16, 24, 2, 2, 4
TYPES = 4 + len(WORDS)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for language in ("de", "en"):
        (folder / f"dict.{language}.txt").write_text("".join(f"{word} 1\n" for word in WORDS), encoding="utf-8")
    return folder


def batch():
    """Sources padded on the left, targets on the right, as fairseq collates them."""
    pad, eos = 1, 2
    source, target = torch.full((3, 7), pad), torch.full((3, 6), pad)
    for row, length in enumerate((7, 4, 2)):
        source[row, 7 - length :] = torch.randint(4, TYPES, (length,))
        source[row, -1] = target[row, 0] = eos
        target[row, 1 : 2 + row] = torch.randint(4, TYPES, (1 + row,))
    return source, torch.tensor([7, 4, 2]), target


def load(path, data):
    """The model as fairseq loads it: strictly, with its own upgrades and torch's safety check."""
    (model,), cfg, task = checkpoint_utils.load_model_ensemble_and_task([str(path)], {"data": str(data)}, strict=True)
    return model.eval(), cfg, task


# ------------------------------------------------------------------------------------------------- the release


def released_norm(prefix):
    return {
        f"{prefix}.weight": torch.randn(CHANNELS),
        f"{prefix}.bias": torch.randn(CHANNELS),
        f"{prefix}.running_phi": torch.rand(1, CHANNELS, 1, 1) + 0.1,
        f"{prefix}.ema_gz": torch.randn(1, CHANNELS, 1, 1),
        f"{prefix}.iters": torch.randint(1, 99999, (1,)),
    }


def layer_norm(prefix):
    return {f"{prefix}.weight": torch.randn(CHANNELS), f"{prefix}.bias": torch.randn(CHANNELS)}


def linear(prefix, rows, columns):
    return {f"{prefix}.weight": torch.randn(rows, columns) / columns**0.5, f"{prefix}.bias": torch.randn(rows) / 9}


def attention(prefix, fused):
    if fused:
        names = {f"{prefix}.in_proj_weight": torch.randn(3 * CHANNELS, CHANNELS) / CHANNELS**0.5}
        names[f"{prefix}.in_proj_bias"] = torch.randn(3 * CHANNELS) / 9
    else:
        projections = (linear(f"{prefix}.{name}_proj", CHANNELS, CHANNELS) for name in "kvq")
        names = {name: tensor for projection in projections for name, tensor in projection.items()}
    return {**names, **linear(f"{prefix}.out_proj", CHANNELS, CHANNELS)}


def released_model(norms, fused=False, output_norm=True):
    """A state dict in the release's layout; ``norms``: what to make at encoder self, ffn, decoder self, ffn."""
    makers = [{"power": released_norm, "layer": layer_norm, "none": lambda prefix: {}}[name] for name in norms]
    embedding = torch.randn(TYPES, CHANNELS) / 4
    model = {}
    for stack, self_norm, ffn_norm in (("encoder", *makers[:2]), ("decoder", *makers[2:])):
        model[f"{stack}.version"] = torch.tensor([3.0])
        model[f"{stack}.embed_tokens.weight"] = embedding
        model[f"{stack}.embed_positions._float_tensor"] = torch.zeros(1)
        for number in range(LAYERS):
            prefix = f"{stack}.layers.{number}"
            model |= attention(f"{prefix}.self_attn", fused) | self_norm(f"{prefix}.self_attn_layer_norm")
            if stack == "decoder":
                model |= attention(f"{prefix}.encoder_attn", fused) | self_norm(f"{prefix}.encoder_attn_layer_norm")
            model |= linear(f"{prefix}.fc1", FFN, CHANNELS) | linear(f"{prefix}.fc2", CHANNELS, FFN)
            model |= ffn_norm(f"{prefix}.final_layer_norm")
        if output_norm:
            model |= ffn_norm(f"{stack}.layer_norm")
    return model


def released_args(norms, **changes):
    """The flags as the release's train.py stores them for the recipe of its README."""
    stacks = {
        f"{stack}_{name}": value
        for stack, heads in (("encoder", ENCODER_HEADS), ("decoder", DECODER_HEADS))
        for name, value in {
            **{"embed_dim": CHANNELS, "ffn_embed_dim": FFN, "attention_heads": heads, "layers": LAYERS},
            **{"normalize_before": True, "learned_pos": False, "embed_path": None, "layerdrop": 0},
            "layers_to_keep": None,
        }.items()
    }
    general = argparse.Namespace(
        no_progress_bar=True, log_interval=50, log_format=None, tensorboard_logdir="", tbmf_wrapper=False, seed=1,
        cpu=False, fp16=False, memory_efficient_fp16=False, fp16_init_scale=128, fp16_scale_window=None,
        fp16_scale_tolerance=0.0, min_loss_scale=0.0001, threshold_loss_scale=None, user_dir=None, empty_cache_freq=0,
        criterion="label_smoothed_cross_entropy", optimizer="adam", lr_scheduler="inverse_sqrt", task="translation",
        tokenizer=None, bpe=None, num_workers=1, skip_invalid_size_inputs_valid_test=False, max_tokens=4096,
        max_sentences=None, required_batch_size_multiple=8, dataset_impl=None, train_subset="train",
        valid_subset="valid", validate_interval=1, fixed_validation_seed=None, disable_validation=False,
        max_tokens_valid=4096, max_sentences_valid=None, curriculum=0, distributed_world_size=1, distributed_rank=0,
        distributed_backend="nccl", distributed_init_method=None, distributed_port=-1, device_id=0,
        distributed_no_spawn=False, ddp_backend="no_c10d", bucket_cap_mb=25, fix_batches_to_gpus=False,
        find_unused_parameters=False, fast_stat_sync=False, arch="transformer_iwslt_de_en_v2", max_epoch=0,
        max_update=0, clip_norm=0.0, sentence_avg=False, update_freq=[1], lr=[0.0015], min_lr=1e-09, use_bmuf=False,
        save_dir="log", restore_file="checkpoint_last.pt", reset_dataloader=False, reset_lr_scheduler=False,
        reset_meters=False, reset_optimizer=False, optimizer_overrides="{}", save_interval=1,
        save_interval_updates=10000, keep_interval_updates=20, keep_last_epochs=5, no_save=False,
        no_epoch_checkpoints=False, no_last_checkpoints=False, no_save_optimizer_state=False,
        best_checkpoint_metric="loss", maximize_best_checkpoint_metric=False, early_stop=5, label_smoothing=0.1,
        adam_betas="(0.9, 0.98)", adam_eps=1e-08, weight_decay=0.0001, warmup_updates=8000, warmup_init_lr=1e-07,
        data="data-bin/iwslt14.tokenized.de-en.joined/", source_lang="de", target_lang="en", lazy_load=False,
        raw_text=False, load_alignments=False, left_pad_source="True", left_pad_target="False",
        max_source_positions=1024, max_target_positions=1024, upsample_primary=1, truncate_source=False,
        dropout=0.3, attention_dropout=0.1, activation_dropout=0.0, relu_dropout=0.1, activation_fn="relu",
        share_all_embeddings=True, share_decoder_input_output_embed=True, adaptive_softmax_cutoff=None,
        adaptive_softmax_dropout=0, no_token_positional_embeddings=False, adaptive_input=False,
        no_cross_attention=False, cross_self_attention=False, layer_wise_attention=False,
        decoder_output_dim=CHANNELS, decoder_input_dim=CHANNELS, encoder_spec_norm=False, dropout_type="none",
        dropout_gama=0.5,
    )  # fmt: skip
    flags = ("encoder_norm_self", "encoder_norm_ff", "decoder_norm_self", "decoder_norm_ff")
    return argparse.Namespace(**{**vars(general), **stacks, **dict(zip(flags, norms, strict=True)), **changes})


def released_checkpoint(norms="power power layer layer", fused=False, output_norm=True, **changes):
    norms = norms.split()
    return {
        "args": released_args(norms, **changes),
        "model": released_model(norms, fused, output_norm),
        "optimizer_history": [
            {
                "criterion_name": "LabelSmoothedCrossEntropyCriterion",
                "optimizer_name": "FairseqAdam",
                "lr_scheduler_state": {"best": 3.9},
                "num_updates": 30000,
            }
        ],
        "last_optimizer_state": {"state": {0: {"exp_avg": torch.zeros(500)}}, "param_groups": []},
        "extra_state": {"train_iterator": {"epoch": 5, "iterations_in_epoch": 0}, "val_loss": 3.9, "best": 3.9},
    }


def formula(x, state, prefix, heads):
    """The released norm in evaluation, by hand: x/√(mean over the group of x² + ε), over √(φ + ε), γ, β."""
    groups = x.double().unflatten(-1, (heads, -1))
    scaled = (groups / (groups.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()).flatten(-2)
    phi = state[f"{prefix}.running_phi"].double()[0, :, 0, 0]
    return scaled / (phi + 1e-5).sqrt() * state[f"{prefix}.weight"].double() + state[f"{prefix}.bias"].double()


def check_every_power_site(model, state, heads):
    """Runs the model and compares each released site with the formula; returns the sites' names."""
    sites = {name: norm for name, norm in model.named_modules() if isinstance(norm, PowerNormReleased)}
    seen = {}
    for name, norm in sites.items():
        norm.register_forward_hook(lambda _, given, output, name=name: seen.__setitem__(name, (given[0], output)))
    with torch.no_grad():
        model(*batch())
    for name in sites:
        x, output = seen[name]
        expected = formula(x, state, name, heads[name.split(".")[0]])
        torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)
    return set(sites)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("fused", [False, True], ids=["separate", "fused"])
def test_a_released_checkpoint(tmp_path, data, legacy, fused, caplog):
    state = released_checkpoint(fused=fused)
    torch.save(state, tmp_path / "released.pt", _use_new_zipfile_serialization=not legacy)
    assert zipfile.is_zipfile(tmp_path / "released.pt") is not legacy
    with caplog.at_level(logging.INFO):
        converted = convert_checkpoint(tmp_path / "released.pt")
    assert "released.pt is a checkpoint of the authors' release (transformer_iwslt_de_en_v2)" in caplog.text
    assert "optimizer state is dropped" in caplog.text and "last_optimizer_state" not in converted
    save_checkpoint(converted, tmp_path / "ours.pt")
    assert load_checkpoint(tmp_path / "ours.pt")["extra_state"] == {
        **state["extra_state"],
        "converted_from": {"file": "released.pt", "kind": "the authors' release"},
    }
    model, _, _ = load(tmp_path / "ours.pt", data)
    assert set(model.state_dict()) == set(converted["model"])

    old, new = state["model"], model.state_dict()
    sites = check_every_power_site(model, old, {"encoder": ENCODER_HEADS})
    layers = [
        f"encoder.layers.{n}.{norm}" for n in range(LAYERS) for norm in ("self_attn_layer_norm", "final_layer_norm")
    ]
    assert sites == {*layers, "encoder.layer_norm"}
    for site in sites:
        assert torch.equal(new[f"{site}.running_square_mean"], old[f"{site}.running_phi"].flatten())
        assert torch.equal(new[f"{site}.accumulated_projection"], old[f"{site}.ema_gz"].flatten())
        assert new[f"{site}.num_forward_calls"].shape == () and new[f"{site}.num_forward_calls"] == old[f"{site}.iters"]
        norm = model.get_submodule(site)
        assert norm.warmup_updates == (1000 if site == "encoder.layer_norm" else 8000)
        assert (norm.group_scaling, norm.eps, norm.alpha_fwd, norm.alpha_bwd) == (ENCODER_HEADS, 1e-5, 0.9, 0.9)
    unchanged = set(old) & set(new)
    assert unchanged >= {"decoder.layer_norm.weight", "encoder.layers.0.fc1.weight", "decoder.embed_tokens.weight"}
    assert all(torch.equal(old[name], new[name]) for name in unchanged)
    assert torch.equal(new["decoder.output_projection.weight"], old["decoder.embed_tokens.weight"])
    if fused:
        query, key, value = old["decoder.layers.1.encoder_attn.in_proj_weight"].split(CHANNELS)
        for name, expected in (("q_proj", query), ("k_proj", key), ("v_proj", value)):
            assert torch.equal(new[f"decoder.layers.1.encoder_attn.{name}.weight"], expected)
        assert torch.equal(
            new["encoder.layers.0.self_attn.k_proj.bias"],
            old["encoder.layers.0.self_attn.in_proj_bias"][CHANNELS : 2 * CHANNELS],
        )


def test_the_flags_of_a_released_checkpoint(tmp_path, data):
    torch.save(released_checkpoint(), tmp_path / "released.pt")
    converted = convert_checkpoint(tmp_path / "released.pt")
    flags = vars(converted["args"])
    assert {name: flags[name] for name in DEFAULTS} == {
        **DEFAULTS,
        "norm_type": "power-released",
        "norm_warmup_updates": 8000,
        "norm_group_scaling": "heads",
    }
    assert "encoder_norm_ff" not in flags and flags["activation_dropout"] == 0.1
    save_checkpoint(converted, tmp_path / "ours.pt")
    model, cfg, task = load(tmp_path / "ours.pt", data)
    assert cfg.model.arch == "powernorm_iwslt_de_en" and model.encoder.layers[0].activation_dropout_module.p == 0.1
    assert (cfg.task.source_lang, cfg.task.left_pad_source, cfg.task.left_pad_target) == ("de", True, False)
    assert (cfg.lr_scheduler.warmup_updates, cfg.optimization.stop_min_lr) == (8000, 1e-9)
    assert len(task.source_dictionary) == TYPES


def test_released_norms_may_differ_by_site(tmp_path, data):
    """Power at the encoder's ffn and output and the decoder's attentions: each with its own stack's heads."""
    state = released_checkpoint("layer power power layer")
    torch.save(state, tmp_path / "released.pt")
    save_checkpoint(convert_checkpoint(tmp_path / "released.pt"), tmp_path / "ours.pt")
    model, _, _ = load(tmp_path / "ours.pt", data)
    sites = check_every_power_site(model, state["model"], {"encoder": ENCODER_HEADS, "decoder": DECODER_HEADS})
    assert sites == {
        "encoder.layer_norm",
        *(f"encoder.layers.{n}.final_layer_norm" for n in range(LAYERS)),
        *(f"decoder.layers.{n}.{a}_layer_norm" for n in range(LAYERS) for a in ("self_attn", "encoder_attn")),
    }


def test_released_sites_without_a_norm(tmp_path, data):
    torch.save(released_checkpoint("none power none layer"), tmp_path / "released.pt")
    save_checkpoint(convert_checkpoint(tmp_path / "released.pt"), tmp_path / "ours.pt")
    model, _, _ = load(tmp_path / "ours.pt", data)
    without = {name for name, module in model.named_modules() if isinstance(module, NoNorm)}
    assert without == {
        *(f"encoder.layers.{n}.self_attn_layer_norm" for n in range(LAYERS)),
        *(f"decoder.layers.{n}.{a}_layer_norm" for n in range(LAYERS) for a in ("self_attn", "encoder_attn")),
    }


def test_a_released_post_norm_model(tmp_path, data):
    state = released_checkpoint(output_norm=False, encoder_normalize_before=False, decoder_normalize_before=False)
    torch.save(state, tmp_path / "released.pt")
    save_checkpoint(convert_checkpoint(tmp_path / "released.pt"), tmp_path / "ours.pt")
    model, _, _ = load(tmp_path / "ours.pt", data)
    assert len(check_every_power_site(model, state["model"], {"encoder": ENCODER_HEADS})) == 2 * LAYERS
    assert model.encoder.layer_norm is None and not model.encoder.layers[0].normalize_before


def test_half_precision_and_a_lost_projection(tmp_path, data, caplog):
    """--fp16 leaves buffers in half; an inf in a gradient makes E NaN, and evaluation has no use for it."""
    state = released_checkpoint()
    state["model"] = {
        name: value.half() if value.is_floating_point() else value for name, value in state["model"].items()
    }
    lost = "encoder.layers.1.final_layer_norm"
    state["model"][f"{lost}.ema_gz"].fill_(float("nan"))
    torch.save(state, tmp_path / "released.pt", _use_new_zipfile_serialization=False)
    converted = convert_checkpoint(tmp_path / "released.pt")
    assert f"{lost}.ema_gz holds values that are not finite" in caplog.text
    model = converted["model"]
    assert (
        model[f"{lost}.running_square_mean"].dtype == torch.float32 and model[f"{lost}.weight"].dtype == torch.float16
    )
    assert torch.equal(model[f"{lost}.running_square_mean"].half(), state["model"][f"{lost}.running_phi"].flatten())
    save_checkpoint(converted, tmp_path / "ours.pt")
    with torch.no_grad():
        assert load(tmp_path / "ours.pt", data)[0](*batch())[0].isfinite().all()


def test_meters_of_fairseq_0_8(tmp_path, monkeypatch):
    """fairseq 0.8 pickled objects of its own into extra_state; they are read without its code and left out."""
    meter = type("AverageMeter", (), {"__module__": "fairseq.meters"})
    monkeypatch.setattr(sys.modules["fairseq.meters"], "AverageMeter", meter)
    state = released_checkpoint()
    state["extra_state"]["train_meters"] = {"train_loss": meter()}
    state["extra_state"]["train_meters"]["train_loss"].avg = 4.0
    for legacy in (False, True):
        torch.save(state, tmp_path / "released.pt", _use_new_zipfile_serialization=not legacy)
        converted = convert_checkpoint(tmp_path / "released.pt")
        assert set(converted["extra_state"]) == {"train_iterator", "val_loss", "best", "converted_from"}
        save_checkpoint(converted, tmp_path / f"ours{legacy}.pt")
        load_checkpoint(tmp_path / f"ours{legacy}.pt")


# ----------------------------------------------------------------------------------------------- stock fairseq

SIZES = [
    *("--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "24", "--encoder-attention-heads", "2"),
    *("--decoder-embed-dim", "16", "--decoder-ffn-embed-dim", "24", "--decoder-attention-heads", "2"),
    *("--encoder-layers", "2", "--decoder-layers", "2"),
]
PRE = ["--encoder-normalize-before", "--decoder-normalize-before"]


def stock_model(data, *flags):
    """A stock model with weights of all norms off their start, and its flags."""
    parser = options.get_training_parser()
    given = [str(data), "--arch", "transformer", "-s", "de", "-t", "en", "--cpu", *SIZES, *flags]
    args = options.parse_args_and_arch(parser, given)
    words = Dictionary()
    for word in WORDS:
        words.add_symbol(word)
    model = TranslationTask(args, words, words).build_model(args)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 8)
    return model, args


def stock_checkpoint(data, *flags):
    """What fairseq 0.12's trainer saves."""
    model, args = stock_model(data, *flags)
    return {
        "args": None,
        "cfg": OmegaConf.to_container(convert_namespace_to_omegaconf(args), resolve=True, enum_to_str=True),
        "model": model.state_dict(),
        "criterion": {},
        "optimizer_history": released_checkpoint()["optimizer_history"],
        "task_state": {},
        "last_optimizer_state": {"state": {}},
        "extra_state": {"train_iterator": {"epoch": 1}, "val_loss": 1.0},
    }


def check_equal(stock_path, our_path, data):
    """Encoder output, logits and the scores and tokens of beam search are bit-equal; returns our model."""
    outputs = []
    source, lengths, target = batch()
    for path in (stock_path, our_path):
        model, cfg, task = load(path, data)
        with torch.no_grad():
            encoded = model.encoder(source, lengths)["encoder_out"][0]
            logits = model(source, lengths, target)[0]
        sample = {"net_input": {"src_tokens": source, "src_lengths": lengths}}
        beams = task.inference_step(task.build_generator([model], cfg.generation), [model], sample)
        found = [
            value for beam in beams for hypothesis in beam for value in (hypothesis["tokens"], hypothesis["score"])
        ]
        outputs.append([encoded, logits, *found])
    assert len(outputs[0]) == len(outputs[1]) > 10
    assert all(torch.equal(stock, ours) for stock, ours in zip(*outputs, strict=True))
    return model


@pytest.mark.parametrize(
    "flags",
    [
        PRE,
        [],
        [*PRE, "--no-decoder-final-norm"],
        [*PRE, "--share-all-embeddings", "--activation-fn", "gelu", "--no-scale-embedding"],
        ["--share-decoder-input-output-embed", "--layernorm-embedding"],
        [*PRE, "--merge-src-tgt-embed"],
        [*PRE, "--encoder-learned-pos", "--decoder-learned-pos"],
        [*PRE, "--no-token-positional-embeddings"],
        [*PRE, "--cross-self-attention", "--no-cross-attention"],
        ["--cross-self-attention"],
        [*PRE, "--decoder-embed-dim", "8", "--decoder-output-dim", "12"],
        [*PRE, "--adaptive-softmax-cutoff", "10,20"],
        [*PRE, "--quant-noise-pq", "0.1", "--encoder-layerdrop", "0.1", "--decoder-layerdrop", "0.2"],
        [*PRE, "--checkpoint-activations"],
    ],
    ids=lambda flags: " ".join(flag for flag in flags if flag.startswith("--")) or "post-norm",
)
def test_stock_models_bit_for_bit(tmp_path, data, flags):
    state = stock_checkpoint(data, *flags)
    torch.save(state, tmp_path / "stock.pt")
    converted = convert_checkpoint(tmp_path / "stock.pt")
    save_checkpoint(converted, tmp_path / "ours.pt")
    model = check_equal(tmp_path / "stock.pt", tmp_path / "ours.pt", data)
    assert type(model).__name__ == "PowerNormTransformerModel"
    assert converted["extra_state"]["converted_from"] == {"file": "stock.pt", "kind": "stock fairseq"}
    assert "last_optimizer_state" not in converted and converted["cfg"]["task"] == state["cfg"]["task"]
    chosen = vars(converted["cfg"]["model"])
    position = "pre" if PRE[0] in flags else "post"
    assert {name: chosen[name] for name in DEFAULTS} == {**DEFAULTS, "norm_type": "layer", "norm_position": position}


def old_names(model, numbered_norms):
    """A state dict as fairseq before 0.8 wrote it, from one of today; written apart from what converts it."""
    old = {}
    for name, tensor in model.items():
        if ".q_proj." in name:
            parts = [model[name.replace("q_proj", projection)] for projection in ("q_proj", "k_proj", "v_proj")]
            old[name.replace("q_proj.", "in_proj_")] = torch.cat(parts)
        elif ".k_proj." not in name and ".v_proj." not in name:
            old[name] = tensor
    old["decoder.embed_out"] = old.pop("decoder.output_projection.weight")
    old["encoder.embed_positions.weights"] = torch.zeros(5, 5)
    for stack, norms in (("encoder", ["self_attn", "final"]), ("decoder", ["self_attn", "encoder_attn", "final"])):
        old[f"{stack}.embed_positions._float_tensor"] = torch.zeros(1)
        for position, norm in enumerate(norms):
            for name in [name for name in old if name.startswith(stack) and f".{norm}_layer_norm." in name]:
                if numbered_norms:
                    old[name.replace(f"{norm}_layer_norm", f"layer_norms.{position}")] = old.pop(name)
    return old


@pytest.mark.parametrize(
    ("flags", "version"),
    [(PRE, None), (PRE, 1), (PRE, 2), (PRE, 3), ([], 2)],
    ids=["pre-none", "pre-1", "pre-2", "pre-3", "post-2"],
)
def test_old_stock_checkpoints_bit_for_bit(tmp_path, data, flags, version):
    """Versions 1 and 2 had no norm behind the decoder's layers, version 1 none behind the encoder's."""
    model, args = stock_model(data, *flags)
    state = {"args": args, "model": old_names(model.state_dict(), numbered_norms=version != 3)}
    for stack, first in (("encoder", 2), ("decoder", 3)):
        if version is None:
            del state["model"][f"{stack}.version"]
        else:
            state["model"][f"{stack}.version"] = torch.tensor([float(version)])
        if (version or 1) < first:
            for name in [name for name in state["model"] if name.startswith(f"{stack}.layer_norm.")]:
                del state["model"][name]
    for newer in ("layernorm_embedding", "quant_noise_pq", "no_scale_embedding", "attention_dropout"):
        delattr(args, newer)
    args.data, args.activation_dropout, args.relu_dropout = [str(data)], 0.0, 0.2
    state |= {"best_loss": 2.0, "optimizer": {"state": {}}, "epoch": 3, "batch_offset": 0, "val_loss": 2.0}
    torch.save(state, tmp_path / "stock.pt", _use_new_zipfile_serialization=False)
    save_checkpoint(convert_checkpoint(tmp_path / "stock.pt"), tmp_path / "ours.pt")
    ours = check_equal(tmp_path / "stock.pt", tmp_path / "ours.pt", data)
    assert (ours.decoder.layer_norm is None) == (flags == [] or version != 3)
    assert (ours.encoder.layer_norm is None) == (flags == [] or version in (None, 1))
    layer = ours.encoder.layers[0]
    assert (layer.activation_dropout_module.p, layer.self_attn.dropout_module.p) == (0.2, 0.0)


def test_projections_of_other_sizes_than_the_query(tmp_path, data):
    """fairseq 0.8's cross-attention with a narrower decoder: flat weights, fused biases."""
    model, args = stock_model(data, *PRE, "--decoder-embed-dim", "8")
    state = {"args": args, "model": dict(model.state_dict()), "extra_state": {}}
    for number in range(2):
        prefix = f"decoder.layers.{number}.encoder_attn."
        biases = [state["model"].pop(f"{prefix}{name}_proj.bias") for name in "qkv"]
        state["model"][f"{prefix}in_proj_bias"] = torch.cat(biases)
        for name in "qkv":
            state["model"][f"{prefix}{name}_proj_weight"] = state["model"].pop(f"{prefix}{name}_proj.weight")
    torch.save(state, tmp_path / "old.pt")
    converted = convert_checkpoint(tmp_path / "old.pt")["model"]
    expected = model.state_dict()
    assert set(converted) == set(expected) and all(torch.equal(converted[name], expected[name]) for name in expected)


@pytest.mark.slow
def test_real_commands(tmp_path, root, run_python):
    """fairseq-train of stock fairseq, powernorm-convert, and fairseq-generate of both."""
    run = functools.partial(run_python, "-m")
    for split, size in (("train", 60), ("valid", 10), ("test", 10)):
        for language in ("de", "en"):
            lengths = torch.randint(2, 9, (size,)).tolist()
            lines = (" ".join(WORDS[index] for index in torch.randint(26, (length,))) for length in lengths)
            (tmp_path / f"{split}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    prefixes = [word for split in ("train", "valid", "test") for word in (f"--{split}pref", tmp_path / split)]
    languages = ("--source-lang", "de", "--target-lang", "en")
    done = run(*("fairseq_cli.preprocess", *languages, "--joined-dictionary", *prefixes, "--destdir", tmp_path / "bin"))
    assert done.returncode == 0, done.stderr
    done = run(
        *("fairseq_cli.train", tmp_path / "bin", *languages, "--arch", "transformer_iwslt_de_en", *SIZES, *PRE),
        *("--share-all-embeddings", "--optimizer", "adam", "--lr", "0.01", "--max-tokens", "200", "--max-update", "2"),
        *("--cpu", "--num-workers", "0", "--save-dir", tmp_path / "stock", "--warmup-updates", "4000"),
        *("--lr-scheduler", "inverse_sqrt", "--criterion", "label_smoothed_cross_entropy"),
    )
    assert done.returncode == 0, done.stderr
    stock, ours = tmp_path / "stock" / "checkpoint_last.pt", tmp_path / "ours.pt"
    done = run("fairseq_powernorm.checkpoints.convert", "--input", stock, "--output", ours)
    assert done.returncode == 0 and "is a checkpoint of stock fairseq (transformer_iwslt_de_en)" in done.stderr
    translations = []
    for path in (stock, ours):
        done = run(
            *("fairseq_cli.generate", tmp_path / "bin", *languages, "--path", path, "--cpu", "--beam", "3"),
            *("--max-len-b", "10", "--num-workers", "0", "--user-dir", root / "fairseq_powernorm"),
            *("--required-batch-size-multiple", "1"),
        )
        assert done.returncode == 0, done.stderr
        translations.append(sorted(line for line in done.stdout.splitlines() if line.startswith(("H-", "D-", "P-"))))
    assert len(translations[0]) == 30 and translations[0] == translations[1]


# ------------------------------------------------------------------------------------------------------ errors


def changed(state, **changes):
    """The same checkpoint with other flags."""
    flags = state["args"] or state["cfg"]["model"]
    for name, value in changes.items():
        setattr(flags, name, value)
    return state


def without(state, *names):
    state["model"] = {name: tensor for name, tensor in state["model"].items() if not name.startswith(names)}
    return state


def replaced(state, name, tensor):
    state["model"][name] = tensor
    return state


SITE = "encoder.layer_norm"
BAD_RELEASES = {
    "batch": (lambda: changed(released_checkpoint(), encoder_norm_ff="batch"), "--encoder-norm-ff batch cannot be .*"),
    "group": (lambda: changed(released_checkpoint(), decoder_norm_self="group"), "--decoder-norm-self group cannot be"),
    "unknown norm": (
        lambda: changed(released_checkpoint(), encoder_norm_self="x"),
        r"x cannot .* \(unknown\).*power, layer",
    ),
    "spectral": (lambda: changed(released_checkpoint(), encoder_spec_norm=True), "--encoder-spec-norm True"),
    "layer-wise": (lambda: changed(released_checkpoint(), layer_wise_attention=True), "--layer-wise-attention True"),
    "warm-up": (lambda: changed(released_checkpoint(), warmup_updates=None), "do not say warmup_updates"),
    "other norm": (
        lambda: changed(released_checkpoint(), encoder_norm_self="layer"),
        r"encoder\.layers\.0\.self_attn_layer_norm\.accumulated_projection has no place there \(and 5 more\)",
    ),
    "no statistic": (lambda: without(released_checkpoint(), f"{SITE}.running_phi"), "square_mean is missing"),
    "φ below 0": (
        lambda: replaced(released_checkpoint(), f"{SITE}.running_phi", -torch.ones(1, CHANNELS, 1, 1)),
        "running_phi holds values that are not finite, or below 0",
    ),
    "shape": (
        lambda: replaced(released_checkpoint(), f"{SITE}.ema_gz", torch.ones(CHANNELS, CHANNELS)),
        r"ema_gz of shape \(1, C, 1, 1\), got \(16, 16\)",
    ),
    "channels": (
        lambda: replaced(released_checkpoint(), f"{SITE}.running_phi", torch.ones(1, 3, 1, 1)),
        r"layer_norm\.weight is \(16,\), its running statistic \(3,\)",
    ),
    "counter": (lambda: replaced(released_checkpoint(), f"{SITE}.iters", torch.ones(3)), "iters to be one integer"),
    "twice": (
        lambda: replaced(released_checkpoint(), f"{SITE}.running_square_mean", torch.ones(CHANNELS)),
        "and another tensor stand for",
    ),
    "fused": (
        lambda: replaced(
            released_checkpoint(fused=True), "decoder.layers.0.self_attn.in_proj_weight", torch.ones(4, 4)
        ),
        r"rows of q, k and v, got shape \(4, 4\)",
    ),
}


@pytest.mark.parametrize("case", BAD_RELEASES)
def test_released_checkpoints_that_are_refused(tmp_path, case):
    make, message = BAD_RELEASES[case]
    torch.save(make(), tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=rf"bad\.pt: .*{message}") as error:
        convert_checkpoint(tmp_path / "bad.pt")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: changed(state, arch="bart_large"), "'transformer…' of stock fairseq, found bart_large"),
        (
            lambda state: changed(state, arch="powernorm_tiny", norm_type="power"),
            "already a checkpoint of this package",
        ),
        (lambda state: without(state, "encoder."), "found transformer without encoder.layers.… .*decoder.version"),
        (lambda state: {**state, "cfg": None}, r"expected the model's flags in 'args' or cfg\.model, found none"),
        (lambda state: {**state, "cfg": {"model": {}}}, r"in 'args' or cfg\.model, found none"),
        (lambda state: changed(state, decoder_normalize_before=False), "--decoder-normalize-before False"),
        (lambda state: changed(state, encoder_layers=None), "do not say encoder_layers"),
        (lambda state: changed(state, encoder_layers=1), r"encoder\.layers\.1\.\S+ has no place there"),
        (lambda state: changed(state, encoder_layers=3), r"encoder\.layers\.2\.\S+ is missing"),
        (lambda state: changed(state, base_layers=1), "--base-layers 1"),
        (
            lambda state: changed(state, decoder_layers_to_keep="0"),
            "--decoder-layers-to-keep 0 .a pruned model. cannot",
        ),
        (lambda state: changed(state, alignment_heads=1), "--alignment-heads 1"),
        (
            lambda state: replaced(state, "decoder.extra.weight", torch.ones(1)),
            "decoder.extra.weight has no place there",
        ),
    ],
)
def test_stock_checkpoints_that_are_refused(tmp_path, data, change, message):
    torch.save(change(stock_checkpoint(data, *PRE)), tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=rf"bad\.pt: .*{message}") as error:
        convert_checkpoint(tmp_path / "bad.pt")
    assert "\n" not in str(error.value)


class RunsCode:
    def __reduce__(self):
        return os.system, ("touch should_not_exist",)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_damaged_files_and_files_that_run_code(tmp_path, legacy, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole, bad = tmp_path / "whole.pt", tmp_path / "bad.pt"
    torch.save(released_checkpoint(), whole, _use_new_zipfile_serialization=not legacy)
    content = whole.read_bytes()
    for size in (0, 5, 40, len(content) // 2, len(content) - 300, len(content) - 1):
        bad.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"bad\.pt: (truncated|damaged)") as error:
            convert_checkpoint(bad)
        assert "\n" not in str(error.value)
    torch.save({"args": RunsCode(), "model": {}}, bad, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r"bad\.pt: holds objects that are not safe to load: .*system"):
        convert_checkpoint(bad)
    assert not (tmp_path / "should_not_exist").exists()
    torch.save({"weights": torch.ones(1)}, bad, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r"bad\.pt: not a fairseq checkpoint, it holds no 'model'"):
        convert_checkpoint(bad)
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        convert_checkpoint(tmp_path / "absent.pt")


def test_the_command_writes_all_or_nothing(tmp_path, monkeypatch, caplog):
    torch.save(released_checkpoint(), tmp_path / "power.pt")
    torch.save(changed(released_checkpoint(), encoder_norm_self="batch"), tmp_path / "batch.pt")
    output = tmp_path / "ours.pt"

    def convert(name, *force):
        arguments = ["powernorm-convert", "--input", tmp_path / name, "--output", output, *force]
        monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
        command()

    with pytest.raises(SystemExit, match=r"powernorm-convert: error: .*batch\.pt: --encoder-norm-self batch cannot"):
        convert("batch.pt")
    assert not output.exists()
    with caplog.at_level(logging.INFO):
        convert("power.pt")
    assert "--norm-type power-released --decoder-norm-type layer --norm-position pre" in caplog.text
    assert load_checkpoint(output)["extra_state"]["converted_from"]["file"] == "power.pt"
    written = output.read_bytes()
    for name, force, message in (("power.pt", (), "--force"), ("batch.pt", ("--force",), "batch cannot")):
        with pytest.raises(SystemExit, match=message):
            convert(name, *force)
        assert output.read_bytes() == written
    convert("power.pt", "--force")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch.pt", "ours.pt", "power.pt"]
