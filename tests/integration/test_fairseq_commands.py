"""Stock ``fairseq-train`` and friends with ``--user-dir``, on a generated corpus."""

import math
import shutil
from pathlib import Path

import pytest
import torch

from fairseq_powernorm import available_norms
from fairseq_powernorm.checkpoints.average import average_checkpoints
from fairseq_powernorm.checkpoints.fold import fold_checkpoint
from fairseq_powernorm.checkpoints.io import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.slow

UPDATES = ["--max-update", "50", "--save-interval-updates", "25", "--no-epoch-checkpoints"]


def translations(output):
    return sorted(line for line in output.splitlines() if line.startswith(("H-", "D-")))


@pytest.fixture(scope="module")
def trained(corpus, commands, tmp_path_factory):
    """A model with power in the encoder and statistics in the decoder too, 50 updates."""
    folder = tmp_path_factory.mktemp("trained")
    done = commands.fairseq(
        *("train", corpus / "bin", "--user-dir", "fairseq_powernorm", "--arch", "powernorm_tiny"),
        *(*commands.train_flags, *UPDATES, "--decoder-norm-type", "pn-v", "--save-dir", folder),
        *("--norm-group-scaling", "0"),  # so that it folds
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_layer_is_stock_fairseq_bit_for_bit_for_50_updates(corpus, commands, tmp_path):
    variants = {
        "stock": ["--arch", "transformer_iwslt_de_en", "--encoder-normalize-before", "--decoder-normalize-before"],
        "ours": [
            *("--user-dir", "fairseq_powernorm", "--arch", "powernorm_iwslt_de_en"),
            *("--norm-type", "layer", "--decoder-norm-type", "layer"),
        ],
    }
    losses, outputs = {}, {}
    for name, flags in variants.items():
        folder = tmp_path / name
        done = commands.fairseq("train", corpus / "bin", *commands.train_flags, *UPDATES, *flags, "--save-dir", folder)
        assert done.returncode == 0, done.stdout + done.stderr
        losses[name] = commands.logged(done.stdout + done.stderr, "loss", "gnorm", "num_updates")
        # Stock fairseq's own generate cannot read stock checkpoints under torch >= 2.6; the plugin lets it.
        done = commands.fairseq(
            *("generate", corpus / "bin", "--user-dir", "fairseq_powernorm", *commands.generate_flags),
            *("--path", folder / "checkpoint_last.pt"),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        outputs[name] = translations(done.stdout)
    assert len(losses["stock"]) == 50 and losses["stock"] == losses["ours"]
    assert len(outputs["stock"]) == 80 and outputs["stock"] == outputs["ours"]
    # Logs round; weights do not: after 50 updates they are the same only if every loss and gradient was.
    stock, ours = (load_checkpoint(tmp_path / name / "checkpoint_last.pt")["model"] for name in variants)
    assert list(stock) == list(ours) and all(torch.equal(stock[key], ours[key]) for key in stock)


def test_a_restart_continues_bit_for_bit(corpus, commands, tmp_path):
    """30 updates in one go and as 15 and 15, with a warm-up that ends at update 20."""
    models = []
    for name, stops in (("whole", ["30"]), ("halves", ["15", "30"])):
        for stop in stops:
            done = commands.fairseq(
                *("train", corpus / "bin", "--user-dir", "fairseq_powernorm", "--arch", "powernorm_tiny"),
                *(*commands.train_flags, "--max-update", stop, "--norm-warmup-updates", "20"),
                *("--decoder-norm-type", "power", "--save-dir", tmp_path / name),
            )
            assert done.returncode == 0, done.stdout + done.stderr
        models.append(load_checkpoint(tmp_path / name / "checkpoint_last.pt")["model"])
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])


def test_statistics_are_saved_and_move(trained):
    early, late = (
        load_checkpoint(trained / f"checkpoint_{epoch}_{updates}.pt")["model"]
        for epoch, updates in sorted(
            tuple(map(int, path.stem.split("_")[1:])) for path in trained.glob("checkpoint_*_*.pt")
        )
    )
    for key in early:
        if key.endswith(("running_square_mean", "gradient_projection")):
            assert late[key].isfinite().all() and not torch.equal(early[key], late[key])
    assert sum(key.endswith("gradient_projection") for key in late) == 5
    assert sum(key.endswith("running_square_mean") for key in late) == 5 + 7


def test_an_average_translates_and_validates(trained, corpus, commands, tmp_path):
    averaged = tmp_path / "averaged.pt"
    save_checkpoint(average_checkpoints(sorted(trained.glob("checkpoint_*_*.pt"))), averaged)
    plain = commands.fairseq(
        "generate", corpus / "bin", "--user-dir", "fairseq_powernorm", *commands.generate_flags, "--path", averaged
    )
    assert plain.returncode == 0 and len(translations(plain.stdout)) == 80, plain.stderr
    script = commands.console_script(
        "powernorm-generate", corpus / "bin", *commands.generate_flags, "--path", averaged, cwd=tmp_path
    )
    assert script.returncode == 0 and translations(script.stdout) == translations(plain.stdout)
    done = commands.console_script(
        "powernorm-validate",
        corpus / "bin",
        "--task",
        "translation",
        "--path",
        averaged,
        "--cpu",
        "--max-tokens",
        "600",
        cwd=tmp_path,
    )
    assert done.returncode == 0 and "valid on 'valid' subset" in done.stdout + done.stderr, done.stderr


def test_batches_and_single_sentences_translate_alike(trained, corpus, commands):
    model = trained / "checkpoint_last.pt"
    outputs = []
    for size in ("1", "64"):
        done = commands.fairseq(
            *("generate", corpus / "bin", "--user-dir", "fairseq_powernorm", *commands.generate_flags),
            *("--path", model, "--batch-size", size),
        )
        outputs.append([line.split("\t")[::2] for line in translations(done.stdout)])
    assert outputs[0] == outputs[1] and len(outputs[0]) == 80


def test_interactive(trained, corpus, commands):
    lines = (corpus / "bpe" / "test.de").read_text(encoding="utf-8").splitlines()[:2]
    done = commands.console_script(
        *("powernorm-interactive", corpus / "bin", "--path", trained / "checkpoint_last.pt"),
        *commands.generate_flags,
        input="\n".join(lines) + "\n",
    )
    assert done.returncode == 0 and len(translations(done.stdout)) == 4, done.stderr


def test_an_ensemble_is_the_mean_of_its_models(trained, corpus, commands, tmp_path):
    """Of a model with itself it is the model; of two, neither; and no file changes."""
    files = [trained / "checkpoint_1_25.pt", trained / "checkpoint_last.pt"]
    before = [path.read_bytes() for path in files]
    outputs = []
    for paths in ([files[1]], [files[1], files[1]], files):
        done = commands.fairseq(
            *("generate", corpus / "bin", "--user-dir", "fairseq_powernorm", *commands.generate_flags),
            *("--path", ":".join(str(path) for path in paths)),
        )
        assert done.returncode == 0, done.stderr
        outputs.append(translations(done.stdout))
    scores = [[float(line.split("\t")[1]) for line in output] for output in outputs]
    assert len(scores[0]) == 80 and scores[1] == pytest.approx(scores[0], abs=2e-4)
    assert scores[2] != pytest.approx(scores[0], abs=0.01)
    assert before == [path.read_bytes() for path in files]


def test_a_model_is_loaded_by_name_from_anywhere(trained, corpus, commands, tmp_path, monkeypatch):
    """As ``torch.hub`` does it, with nothing but the import to bring the plugin along."""
    from fairseq_powernorm.transformer import PowerNormTransformerModel

    monkeypatch.chdir(tmp_path)
    model = PowerNormTransformerModel.from_pretrained(
        str(trained), "checkpoint_last.pt", str(corpus / "bin"), source_lang="de", target_lang="en"
    )
    before = {key: value.clone() for key, value in model.models[0].state_dict().items()}
    source = (corpus / "bpe" / "test.de").read_text(encoding="utf-8").splitlines()[:3]
    hypotheses = [best[0] for best in model.generate([model.encode(line) for line in source], beam=3)]
    assert not model.models[0].training
    assert all(torch.equal(value, before[key]) for key, value in model.models[0].state_dict().items())
    done = commands.console_script(
        *("powernorm-interactive", corpus / "bin", "--path", trained / "checkpoint_last.pt", "--source-lang", "de"),
        *("--target-lang", "en", "--cpu", "--beam", "3"),
        input="\n".join(source) + "\n",
    )
    assert done.returncode == 0, done.stderr
    printed = [line.split("\t") for line in done.stdout.splitlines() if line.startswith("H-")]
    assert [text for _, _, text in printed] == [model.decode(best["tokens"]) for best in hypotheses]
    scores = [float(best["score"]) / math.log(2) for best in hypotheses]  # fairseq prints base 2
    assert [float(score) for _, score, _ in printed] == pytest.approx(scores, abs=1e-4)


def test_damaged_and_foreign_checkpoints_end_with_one_line(trained, corpus, commands, tmp_path):
    truncated, foreign = tmp_path / "truncated.pt", tmp_path / "foreign.pt"
    truncated.write_bytes((trained / "checkpoint_last.pt").read_bytes()[:-5000])
    torch.save({"epoch": 3}, foreign)
    for path, message in (
        (truncated, "truncated"),
        (foreign, "no 'model'"),
        (tmp_path / "no.pt", "no such checkpoint"),
    ):
        done = commands.console_script("powernorm-generate", corpus / "bin", *commands.generate_flags, "--path", path)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and message in done.stderr


def test_a_data_folder_without_dictionaries_ends_with_one_line(commands, corpus, tmp_path):
    shutil.copy(corpus / "bin" / "train.de-en.de.bin", tmp_path)
    for folder, message in ((tmp_path, "holds no dict.LANGUAGE.txt"), (tmp_path / "absent", "no such data folder")):
        done = commands.console_script("powernorm-train", folder, "--arch", "powernorm_tiny")
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and message in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--arch", "powernorm_tiny", "--norm-type", "instance"],
            f"(choose from {', '.join(available_norms())}",
        ),
        (["--arch", "powernorm_huge"], "powernorm_iwslt_de_en"),
        (
            ["--arch", "powernorm_tiny", "--norm-alpha-fwd", "1.5"],
            "--norm-alpha-fwd: expected a number in [0, 1), got 1.5",
        ),
        (["--arch", "powernorm_tiny", "--norm-eps", "0"], "--norm-eps: expected a number above 0, got 0"),
        (
            ["--arch", "powernorm_tiny", "--norm-group-scaling", "3"],
            "3 groups do not divide the encoder's 128 channels",
        ),
    ],
    ids=["norm", "arch", "alpha", "eps", "groups"],
)
def test_bad_flags_end_plain_fairseq_train_with_one_line(commands, corpus, arguments, message, tmp_path):
    done = commands.fairseq(
        *("train", corpus / "bin", "--user-dir", "fairseq_powernorm", "--save-dir", tmp_path / "none", *arguments)
    )
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0 and message in last.replace("'", "").replace("encoders", "encoder's")
    assert "Traceback" not in done.stderr and not (tmp_path / "none").exists()


def test_a_folded_model_translates_alike(corpus, commands, trained, tmp_path):
    """The same translations, scores to 1e-4; sites of both stacks are folded."""
    checkpoint, folded = trained / "checkpoint_last.pt", tmp_path / "folded.pt"
    done = commands.console_script("powernorm-fold", "--checkpoint", checkpoint, "--output", folded)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" folded\n") == 6 and "decoder output (pn-v) stays" in done.stderr
    outputs = []
    for path in (checkpoint, folded):
        done = commands.fairseq(
            *("generate", corpus / "bin", "--user-dir", "fairseq_powernorm", *commands.generate_flags, "--path", path)
        )
        assert done.returncode == 0, done.stdout + done.stderr
        outputs.append([line.split("\t") for line in translations(done.stdout)])
    assert len(outputs[0]) == 80
    for (label, score, text), (other_label, other_score, other_text) in zip(*outputs, strict=True):
        assert (label, text) == (other_label, other_text)
        assert abs(float(score) - float(other_score)) < 1e-4


def test_fairseq_hydra_train_trains_the_same_model(corpus, commands, tmp_path):
    """The architecture by its name, flags as keys of the model; the checkpoint translates, and folds."""
    overrides = {
        **{"common.user_dir": "fairseq_powernorm", "common.cpu": "true", "common.seed": "1", "task": "translation"},
        **{"task.data": f"'{corpus / 'bin'}'", "task.source_lang": "de", "task.target_lang": "en"},
        **{"+model._name": "powernorm_tiny", "+model.norm_type": "power", "+model.norm_group_scaling": "0"},
        **{"+model.encoder_layers": "1", "+model.decoder_norm_type": "pn-v", "+model.share_all_embeddings": "true"},
        **{"criterion": "label_smoothed_cross_entropy", "criterion.label_smoothing": "0.1", "optimizer": "adam"},
        **{"lr_scheduler": "inverse_sqrt", "optimization.lr": "[0.001]", "optimization.max_update": "4"},
        **{"dataset.max_tokens": "600", "dataset.disable_validation": "true", "dataset.num_workers": "0"},
        **{"checkpoint.save_dir": f"'{tmp_path / 'hydra'}'", "hydra.run.dir": f"'{tmp_path / 'run'}'"},
    }
    overrides["common.user_dir"] = f"'{Path('fairseq_powernorm').resolve()}'"
    done = commands.fairseq("hydra_train", *(f"{key}={value}" for key, value in overrides.items()))
    assert done.returncode == 0, done.stderr[-2000:]
    flags = [*("--user-dir", "fairseq_powernorm", "--arch", "powernorm_tiny", "--norm-type", "power", "--cpu")]
    flags += [*("--norm-group-scaling", "0", "--encoder-layers", "1", "--decoder-norm-type", "pn-v")]
    flags += [*("--share-all-embeddings", "--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1")]
    flags += [*("--optimizer", "adam", "--lr-scheduler", "inverse_sqrt", "--lr", "0.001", "--max-update", "4")]
    flags += [*("--max-tokens", "600", "--disable-validation", "--num-workers", "0", "--save-dir", tmp_path / "flags")]
    done = commands.fairseq("train", corpus / "bin", *flags)
    assert done.returncode == 0, done.stderr[-2000:]
    one, other = (load_checkpoint(tmp_path / name / "checkpoint_last.pt")["model"] for name in ("hydra", "flags"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    save_checkpoint(fold_checkpoint(tmp_path / "hydra" / "checkpoint_last.pt"), tmp_path / "folded.pt")
    for path in (tmp_path / "hydra" / "checkpoint_last.pt", tmp_path / "folded.pt"):
        done = commands.console_script("powernorm-generate", corpus / "bin", *commands.generate_flags, "--path", path)
        assert done.returncode == 0 and len(translations(done.stdout)) == 80, done.stderr[-2000:]
    wrong = {**overrides, "+model.norm_type": "instance"}
    done = commands.fairseq("hydra_train", *(f"{key}={value}" for key, value in wrong.items()))
    assert done.returncode != 0 and "--norm-type: invalid choice: 'instance'" in done.stderr
