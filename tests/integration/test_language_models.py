"""fairseq's commands with a language model: training, restarts, perplexity, and all that is done with checkpoints."""

import copy
import functools
import logging
import math

import pytest
import torch
from fairseq import checkpoint_utils, options
from fairseq.data import Dictionary, data_utils, indexed_dataset
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.trainer import Trainer

from fairseq_powernorm.checkpoints.average import average_checkpoints
from fairseq_powernorm.checkpoints.convert import convert_checkpoint
from fairseq_powernorm.checkpoints.fold import fold_checkpoint, folded_sites
from fairseq_powernorm.checkpoints.io import load_checkpoint, save_checkpoint
from fairseq_powernorm.transformer.recalibrate import recalibrate_checkpoint

pytestmark = pytest.mark.slow

LENGTH = 8
PLAIN, TENSORIZED = "powernorm_lm_ptb", "powernorm_tensorized_lm_ptb"
TRAIN = [
    *("--task", "language_modeling", "--tokens-per-sample", str(LENGTH), "--max-tokens", "64"),
    *("--decoder-embed-dim", "16", "--decoder-input-dim", "16", "--decoder-output-dim", "16"),
    *("--decoder-ffn-embed-dim", "24", "--decoder-layers", "2", "--share-decoder-input-output-embed"),
    *("--dropout", "0.3", "--attention-dropout", "0.1", "--activation-dropout", "0.1"),
    *("--optimizer", "adam", "--lr", "3e-3", "--lr-scheduler", "cosine", "--lr-period-updates", "25"),
    *("--criterion", "cross_entropy", "--cpu", "--num-workers", "0", "--seed", "1", "--no-progress-bar"),
]
BARE = ["--norm-group-scaling", "0", "--norm-warmup-updates", "5"]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A folder as `fairseq-preprocess --only-source` leaves it: sentences in which a letter says which come next."""
    folder, generator, words = tmp_path_factory.mktemp("text"), torch.Generator().manual_seed(0), Dictionary()
    for letter in "abcdefghijklmnop":
        words.add_symbol(letter)
    words.save(str(folder / "dict.txt"))
    for split, count in (("train", 300), ("valid", 30), ("test", 30)):
        builder = indexed_dataset.make_builder(str(folder / f"{split}.bin"), impl="mmap", vocab_size=len(words))
        for number in range(count):
            start = torch.randint(16, (1,), generator=generator)
            steps = torch.randint(1, 3, (1 + number % 9,), generator=generator)
            tokens = 4 + (start + steps.cumsum(0)) % 16
            builder.add_item(torch.cat([tokens, torch.tensor([words.eos()])]).int())
        builder.finalize(str(folder / f"{split}.idx"))
    return folder


@functools.cache
def configuration(*arguments):
    """fairseq's of a command line, which takes it a second."""
    return convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), list(arguments)))


@pytest.fixture
def training(text, trainings, tmp_path):
    """``training(ARCH, FLAG…)`` trains in a folder of its own and gives it."""

    def train(*flags, folder="run", updates=25):
        cfg = copy.deepcopy(configuration(str(text), *TRAIN, "--arch", *flags))
        cfg.optimization.max_update = updates
        trainings.train(cfg, tmp_path / folder)
        return tmp_path / folder

    return train


def evaluate(text, path, *flags, length=LENGTH):
    """The loss in nats of fairseq-eval-lm."""
    import fairseq_cli.eval_lm as program

    arguments = [text, "--task", "language_modeling", "--path", path, "--tokens-per-sample", length, "--cpu"]
    arguments += ["--num-workers", "0", "--gen-subset", "test", "--no-progress-bar", *flags]
    args = options.parse_args_and_arch(options.get_eval_lm_parser(), [str(word) for word in arguments])
    return float(program.main(convert_namespace_to_omegaconf(args))["loss"]) * math.log(2)


def test_layer_is_stock_fairseq_bit_for_bit_for_25_updates(training, monkeypatch):
    losses, stock_step = {}, Trainer.train_step
    for name, arch in (("stock", ["transformer_lm", "--decoder-normalize-before"]), ("ours", [PLAIN])):
        found = losses[name] = []

        def step(self, *args, found=found, **options):
            output = stock_step(self, *args, **options)
            found.append(float(output["loss"]))
            return output

        monkeypatch.setattr(Trainer, "train_step", step)
        flags = ["--decoder-attention-heads", "2", *(["--norm-type", "layer"] if name == "ours" else [])]
        folder = training(*arch, *flags, folder=name)
    assert len(losses["stock"]) == 25 and losses["stock"] == losses["ours"]
    stock, ours = (load_checkpoint(folder.with_name(name) / "checkpoint_last.pt")["model"] for name in losses)
    assert list(stock) == list(ours) and all(torch.equal(stock[key], ours[key]) for key in stock)


@pytest.mark.parametrize("arch", [PLAIN, TENSORIZED])
def test_a_restart_continues_bit_for_bit(training, arch):
    whole = training(arch, folder="whole", updates=60)  # of 24 an epoch
    for updates in (20, 40, 60):
        parts = training(arch, folder="parts", updates=updates)
    one, other = (load_checkpoint(folder / "checkpoint_last.pt") for folder in (whole, parts))
    assert all(torch.equal(value, other["model"][name]) for name, value in one["model"].items())
    assert any(name.endswith("gradient_projection") for name in one["model"])


def by_hand(text, path, context):
    """The mean of −log p over the test text: tokens in segments, each with so many tokens in front of it."""
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(path)], {"data": str(text)})
    sentences = data_utils.load_indexed_dataset(str(text / "test"), task.source_dictionary)
    tokens = torch.cat([sentences[number].long() for number in range(len(sentences))])
    before = torch.cat([torch.tensor([task.source_dictionary.eos()]), tokens[:-1]])
    loss, step = 0.0, LENGTH - context
    model.eval()
    for begin in range(0, len(tokens), step):
        first, end = max(0, begin - context), min(begin + step, len(tokens))
        with torch.no_grad():
            found = model.get_normalized_probs(model(before[first:end].unsqueeze(0)), log_probs=True)[0]
        loss -= found[begin - first :].gather(1, tokens[begin:end].unsqueeze(1)).sum().item()
    return loss / len(tokens), len(tokens)


ADAPTIVE = ["--adaptive-input-cutoff", "7,12", "--adaptive-softmax-cutoff", "7,12", "--criterion", "adaptive_loss"]
ADAPTIVE += ["--ddp-backend", "legacy_ddp"]


@pytest.mark.parametrize(
    "flags",
    [
        [PLAIN],
        [TENSORIZED],
        ["powernorm_lm_wikitext103", *ADAPTIVE],
        ["powernorm_tensorized_lm_wikitext103", *ADAPTIVE],
    ],
)
def test_perplexity_by_both_protocols(training, text, flags):
    """In segments, the last one included, and with a window of context."""
    path = training(*flags) / "checkpoint_last.pt"
    losses = {}
    for context in (0, 6):
        expected, tokens = by_hand(text, path, context)
        assert tokens % LENGTH  # so that a last partial segment there is
        losses[context] = evaluate(text, path, "--context-window", context)
        assert losses[context] == pytest.approx(expected, rel=1e-5)
    assert losses[6] != losses[0]


@pytest.mark.parametrize("arch", [PLAIN, TENSORIZED])
def test_segments_that_are_too_long_are_an_error(training, text, arch):
    """fairseq leaves them out, and calls that a perplexity of 1."""
    path = training(arch, updates=2) / "checkpoint_last.pt"
    with pytest.raises(ValueError, match="a segment has 9 tokens, the model was built for 8"):
        evaluate(text, path, length=9)
    assert evaluate(text, path, length=7) > 1


@pytest.mark.parametrize("arch", [PLAIN, TENSORIZED])
@pytest.mark.parametrize("norm", ["batch", "pn-v", "power"])
def test_averages_are_recalibrated_folded_and_evaluated(training, text, tmp_path, caplog, arch, norm):
    caplog.set_level(logging.INFO)
    folder = training(arch, "--norm-type", norm, *BARE, "--save-interval-updates", "5", "--no-epoch-checkpoints")
    averaged, recalibrated, folded = (tmp_path / f"{name}.pt" for name in ("averaged", "recalibrated", "folded"))
    save_checkpoint(average_checkpoints(sorted(folder.glob("checkpoint_*_*.pt"))), averaged)
    save_checkpoint(recalibrate_checkpoint(averaged, text, batches=10, max_tokens=64, cpu=True), recalibrated)
    before, after = (load_checkpoint(path) for path in (averaged, recalibrated))
    changed = {name for name, value in before["model"].items() if not torch.equal(value, after["model"][name])}
    assert changed and all(".running_" in name for name in changed)
    assert after["extra_state"]["recalibrated_on"]["tokens"] in range(10 * 64 - LENGTH, 10 * 64 + 1)
    losses = [evaluate(text, path) for path in (averaged, recalibrated)]
    assert losses[0] != losses[1] and all(0 < loss < 4 for loss in losses)
    if arch == TENSORIZED:
        with pytest.raises(ValueError, match="no norm that can be folded"):
            fold_checkpoint(recalibrated)
        assert "stays: a tensorized layer has no bias" in caplog.text
        return
    save_checkpoint(fold_checkpoint(recalibrated), folded)
    state = load_checkpoint(folded)
    assert folded_sites(state) == ["decoder_norm_self_attn", "decoder_norm_ffn"]
    assert not any("layers.0.final_layer_norm" in name for name in state["model"])
    assert evaluate(text, folded) == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(
    "flags",
    [
        [],
        [
            *("--adaptive-input", "--adaptive-input-cutoff", "9", "--tie-adaptive-weights", "--adaptive-input-factor"),
            *("1", "--adaptive-softmax-cutoff", "9", "--adaptive-softmax-factor", "1", "--criterion", "adaptive_loss"),
            *("--ddp-backend", "legacy_ddp"),
        ],
    ],
)
def test_stock_language_models_are_converted(training, text, tmp_path, flags):
    path = training("transformer_lm", "--decoder-normalize-before", *flags) / "checkpoint_last.pt"
    converted = tmp_path / "converted.pt"
    save_checkpoint(convert_checkpoint(path), converted)
    state = load_checkpoint(converted)
    assert state["cfg"]["model"].arch == PLAIN
    assert evaluate(text, converted) == evaluate(text, path)
    with pytest.raises(ValueError, match="no norm that can be folded"):
        fold_checkpoint(converted)


@pytest.mark.parametrize("arch", [PLAIN, TENSORIZED])
@pytest.mark.parametrize("file", ["valid", "test"])
def test_sentences_as_segments(training, text, arch, file):
    folder = training(arch, "--sample-break-mode", "eos", "--tokens-per-sample", "12", updates=5)
    flags = ("--sample-break-mode", "eos", "--gen-subset", file)
    assert math.isfinite(evaluate(text, folder / "checkpoint_last.pt", *flags, length=12))


@pytest.mark.parametrize("arch", [PLAIN, TENSORIZED])
def test_interactive_goes_on_with_a_text(training, text, tmp_path, capsys, arch):
    import fairseq_cli.interactive as program

    path = training(arch, updates=60) / "checkpoint_last.pt"
    (tmp_path / "starts.txt").write_text("a b c\nd f\n", encoding="utf-8")
    arguments = [text, "--task", "language_modeling", "--path", path, "--beam", "2", "--cpu", "--tokens-per-sample"]
    arguments += [LENGTH, "--input", tmp_path / "starts.txt"]
    args = options.parse_args_and_arch(options.get_interactive_generation_parser(), [str(word) for word in arguments])
    program.main(copy.deepcopy(convert_namespace_to_omegaconf(args)))
    found = [line.split("\t")[2].split() for line in capsys.readouterr().out.splitlines() if line.startswith("D-")]
    assert [words[: len(start)] for words, start in zip(found, (["a", "b", "c"], ["d", "f"]), strict=True)] == [
        ["a", "b", "c"],
        ["d", "f"],
    ]
    assert all(len(words) <= LENGTH for words in found)


def test_what_a_run_is_asked_before_it_trains(text):
    """The updates of an epoch; and segments that are too long, or all context."""
    from fairseq_powernorm.pipeline.fairseq_data import answer

    def question(length, window):
        evaluation = [text, "--task", "language_modeling", "--path", "x.pt", "--gen-subset", "valid"]
        evaluation += ["--tokens-per-sample", length, "--context-window", window]
        train = [str(text), *TRAIN, "--arch", PLAIN, "--max-update", "9"]
        return {"train": train, "ranks": 1, "texts": [[str(word) for word in evaluation]]}

    tokens = sum(2 + number % 9 for number in range(300))
    assert answer(question(LENGTH, 4)) == math.ceil(math.ceil(tokens / LENGTH) / 8)
    for length, window in ((LENGTH + 1, 0), (LENGTH, LENGTH)):
        message = f"text valid: segments of {length} tokens, {window} of them context, for a model of {LENGTH}"
        with pytest.raises(ValueError, match=message):
            answer(question(length, window))


def test_fairseq_hydra_train_trains_the_same_model(text, training, commands, root, tmp_path):
    """Flags of the task reach the model too; defaults are the architecture's."""
    overrides = {
        **{"common.user_dir": f"'{root / 'fairseq_powernorm'}'", "common.cpu": "true", "common.seed": "1"},
        **{"task": "language_modeling", "task.data": f"'{text}'", "task.tokens_per_sample": str(LENGTH)},
        **{"+model._name": PLAIN, "+model.norm_type": "power", "+model.decoder_layers": "1"},
        **{"criterion": "cross_entropy", "optimizer": "adam", "lr_scheduler": "cosine", "optimization.lr": "[0.001]"},
        **{"optimization.max_update": "4", "lr_scheduler.lr_period_updates": "25", "dataset.max_tokens": "64"},
        **{"dataset.disable_validation": "true", "dataset.num_workers": "0"},
        **{"checkpoint.save_dir": f"'{tmp_path / 'hydra'}'", "hydra.run.dir": f"'{tmp_path / 'outputs'}'"},
    }
    done = commands.fairseq("hydra_train", *(f"{key}={value}" for key, value in overrides.items()))
    assert done.returncode == 0, done.stderr[-2000:]
    flags = [*("--task", "language_modeling", "--tokens-per-sample", LENGTH, "--max-tokens", "64", "--seed", "1")]
    flags += [*("--criterion", "cross_entropy", "--optimizer", "adam", "--lr-scheduler", "cosine", "--lr", "0.001")]
    flags += [*("--lr-period-updates", "25", "--disable-validation", "--num-workers", "0", "--cpu")]
    flags += ["--arch", PLAIN, "--norm-type", "power", "--decoder-layers", "1", "--max-update", "4"]
    args = [str(word) for word in (text, *flags, "--save-dir", tmp_path / "flags", "--user-dir", "fairseq_powernorm")]
    done = commands.fairseq("train", *args)
    assert done.returncode == 0, done.stderr[-2000:]
    one, other = (load_checkpoint(tmp_path / name / "checkpoint_last.pt")["model"] for name in ("hydra", "flags"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert math.isfinite(evaluate(text, tmp_path / "hydra" / "checkpoint_last.pt"))
