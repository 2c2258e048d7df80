"""Recalibrating checkpoints: fairseq's batches, the whole model by hand, the command, and one line for bad input."""

import argparse
import copy
import functools
import logging
import shutil
import socket
import subprocess
import sys
import textwrap

import numpy
import pytest
import torch
from fairseq import options
from fairseq.data import Dictionary, data_utils, indexed_dataset
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.tasks.translation import TranslationTask
from omegaconf import OmegaConf

import fairseq_powernorm.transformer  # noqa: F401 (registers the architectures)
from fairseq_powernorm.checkpoints.fold import fold_checkpoint
from fairseq_powernorm.checkpoints.io import load_checkpoint, save_checkpoint
from fairseq_powernorm.norms.recalibration import norms_with_statistics
from fairseq_powernorm.norms.registry import NORMS
from fairseq_powernorm.transformer import recalibrate
from fairseq_powernorm.transformer.statistics_changes import change

recalibrate_checkpoint = functools.partial(recalibrate.recalibrate_checkpoint, cpu=True)

WITH_STATISTICS = [name for name, norm in NORMS.items() if norm.statistics]
STATISTICS = {"running_square_mean", "running_mean", "running_var"}
SENTENCES = 120
MODEL = [
    *("--source-lang", "de", "--target-lang", "en", "--max-tokens", "300", "--required-batch-size-multiple", "1"),
    *("--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "24", "--encoder-layers", "2"),
    *("--encoder-attention-heads", "2", "--decoder-embed-dim", "16", "--decoder-ffn-embed-dim", "24"),
    *("--decoder-layers", "2", "--decoder-attention-heads", "2"),
    *("--norm-progressive-rep-batch-updates", "0", "--norm-unified-warmup-updates", "0"),
]


def dictionary(extra=""):
    words = Dictionary()
    for word in "abcdefghijklmnopqrstuvwxyz" + extra:
        words.add_symbol(word)
    return words


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder as fairseq-preprocess leaves it: sentences of 1 to 20 words, so that batches hold padding."""
    folder, generator, words = tmp_path_factory.mktemp("data"), torch.Generator().manual_seed(0), dictionary()
    for language in ("de", "en"):
        words.save(str(folder / f"dict.{language}.txt"))
        for split in ("train", "test"):
            prefix = folder / f"{split}.de-en.{language}"
            builder = indexed_dataset.make_builder(f"{prefix}.bin", impl="mmap", vocab_size=len(words))
            for number in range(SENTENCES if split == "train" else 4):
                tokens = torch.randint(4, len(words), (1 + number % 20,), generator=generator)
                builder.add_item(torch.cat([tokens, torch.tensor([words.eos()])]).int())
            builder.finalize(f"{prefix}.idx")
    return folder


@pytest.fixture
def write(data, tmp_path):
    """Writes the checkpoint of a small model that has run a few steps of training; returns its path."""

    def write_checkpoint(*flags, name="averaged.pt", model_seed=1):
        arguments = [str(data), "--arch", "powernorm_tiny", *MODEL, *flags]
        args = options.parse_args_and_arch(options.get_training_parser(), arguments)
        words = dictionary()
        torch.manual_seed(model_seed)
        model = TranslationTask(args, words, words).build_model(args).train()
        for norm in norms_with_statistics(model).values():
            norm(torch.randn(50, 16, requires_grad=True)).square().sum().backward()
        cfg = convert_namespace_to_omegaconf(args)
        state = {
            "args": None,
            "cfg": OmegaConf.to_container(cfg, resolve=True, enum_to_str=True),
            "model": model.state_dict(),
            "optimizer_history": [{"optimizer_name": "FairseqAdam", "lr_scheduler_state": {}, "num_updates": 7}],
            "extra_state": {"train_iterator": {"epoch": 3}, "val_loss": 2.5, "averaged_from": ["checkpoint1.pt"]},
        }
        save_checkpoint(state, tmp_path / name)
        return tmp_path / name

    return write_checkpoint


def everywhere(norm, *flags):
    return ["--norm-type", norm, "--decoder-norm-type", norm, *flags]


def statistics(state):
    return {key: value for key, value in state["model"].items() if key.rsplit(".", 1)[-1] in STATISTICS}


def assert_same_statistics(found, expected, rtol=0.0, atol=0.0):
    assert statistics(found).keys() == statistics(expected).keys() and statistics(expected)
    for key, value in statistics(expected).items():
        torch.testing.assert_close(statistics(found)[key], value, rtol=rtol, atol=atol)


def first_batches(path, count, max_tokens=300, seed=1):
    """fairseq's trainer by hand: sentences by length, cut into batches, the batches shuffled by seed + epoch."""
    _, task, _ = recalibrate.load_model(path, None)
    task.load_dataset("train", combine=True)
    dataset = task.dataset("train")
    with data_utils.numpy_seed(seed + 1):
        order = dataset.ordered_indices()
    batches = list(dataset.batch_by_size(order, max_tokens=max_tokens, required_batch_size_multiple=1))
    with data_utils.numpy_seed(seed + 1):
        numpy.random.shuffle(batches)
    return [dataset.collater([dataset[index] for index in batch]) for batch in batches[:count]], len(batches)


class ByHand(torch.nn.Module):
    """Stands in for one norm: the equations in float64 on real tokens, with the sums kept."""

    def __init__(self, norm, groups):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.centred, self.groups = hasattr(norm, "running_mean"), groups
        self.alpha = getattr(norm, "alpha", 0)  # RepBN's, which keeps the population's variance as torch does
        self.correction = 1 if hasattr(norm, "alpha") else 0
        self.sums, self.tokens, self.real = {}, 0, None

    def forward(self, x):
        if self.groups:
            wide = x.view(*x.shape[:2], self.groups, -1)
            x = (wide / (wide.square().mean(dim=-1, keepdim=True) + self.eps).sqrt()).flatten(2)
        tokens = x[self.real]
        assert tokens.dtype == torch.float64
        mean = tokens.mean(dim=0) if self.centred else torch.zeros(x.size(-1), dtype=x.dtype)
        square = (tokens - mean).square().mean(dim=0)
        names = {"running_square_mean": square}
        if self.centred:
            names = {"running_mean": mean, "running_var": tokens.var(dim=0, correction=self.correction)}
        for name, value in names.items():
            self.sums[name] = self.sums.get(name, 0) + value * len(tokens)
        self.tokens += len(tokens)
        return self.weight * (x - mean) / (square + self.eps).sqrt() + self.bias + self.alpha * x


def model_by_hand(path, samples, groups):
    """Every site's statistics by the equations, and the real tokens: norms replaced one by one, batch after batch."""
    model, task, _ = recalibrate.load_model(path, None)
    model.double()
    sites = {}
    for name, norm in norms_with_statistics(model).items():
        parent, _, attribute = name.rpartition(".")
        sites[name] = ByHand(norm, groups)
        setattr(model.get_submodule(parent), attribute, sites[name])
    pad, tokens = task.source_dictionary.pad(), 0
    for sample in samples:
        source, target = sample["net_input"]["src_tokens"], sample["net_input"]["prev_output_tokens"]
        for name, site in sites.items():
            site.real = (source if name.startswith("encoder") else target).ne(pad).t()
        with torch.no_grad():
            model(**sample["net_input"])
        tokens += int(source.ne(pad).sum() + target.ne(pad).sum())
    estimates = {
        f"{name}.{key}": total / site.tokens for name, site in sites.items() for key, total in site.sums.items()
    }
    return estimates, tokens


@pytest.mark.parametrize("groups", [0, 2])
@pytest.mark.parametrize("norm", WITH_STATISTICS)
def test_against_the_model_by_hand(write, norm, groups):
    path = write(*everywhere(norm, "--norm-group-scaling", str(groups)))
    before = load_checkpoint(path)
    samples, _ = first_batches(path, 5)
    assert any(sample["net_input"]["src_tokens"].eq(dictionary().pad()).any() for sample in samples)
    expected, tokens = model_by_hand(path, samples, groups)
    found = recalibrate_checkpoint(path, batches=5, max_tokens=300)
    assert statistics(found).keys() == expected.keys() and len(expected) == 12 * len(NORMS[norm].running_statistics)
    for key, value in expected.items():
        # fairseq's softmax is float32 whatever the model is
        torch.testing.assert_close(found["model"][key].double(), value, rtol=1e-4, atol=1e-5)
        assert found["model"][key].dtype == torch.float32
        assert not torch.allclose(found["model"][key], before["model"][key], rtol=1e-2)
    origin = found["extra_state"].pop("recalibrated_on")
    assert origin == {"batches": 5, "tokens": tokens, "max_tokens": 300, "seed": 1, "data": str(path_of_data(before))}
    # Weights, ν, E, counters and all the rest, bit for bit and in the same order.
    assert list(found) == list(before) and list(found["model"]) == list(before["model"])
    for key, value in before["model"].items():
        assert key in expected or torch.equal(found["model"][key], value), key
    for key in before.keys() - {"model"}:
        assert found[key] == before[key]


def path_of_data(state):
    return state["cfg"]["task"]["data"]


def test_the_same_again_and_from_its_own_result(write, tmp_path):
    path = write(*everywhere("power"))
    once = recalibrate_checkpoint(path, batches=4, max_tokens=300)
    assert_same_statistics(recalibrate_checkpoint(path, batches=4, max_tokens=300), once)
    save_checkpoint(once, tmp_path / "once.pt")
    assert_same_statistics(recalibrate_checkpoint(tmp_path / "once.pt", batches=4, max_tokens=300), once)
    other = recalibrate_checkpoint(path, batches=4, max_tokens=300, seed=2)
    assert all(not torch.equal(value, statistics(once)[key]) for key, value in statistics(other).items())


@pytest.mark.parametrize("norm", ["batch", "power"])
def test_dropout_and_sync_and_recomputation_have_no_effect(write, norm):
    plain = write(*everywhere(norm, "--dropout", "0", "--attention-dropout", "0", "--activation-dropout", "0"))
    expected = recalibrate_checkpoint(plain, batches=4, max_tokens=300)
    flags = ["--dropout", "0.5", "--attention-dropout", "0.5", "--norm-sync", "--checkpoint-activations"]
    other = write(*everywhere(norm, *flags, "--encoder-layerdrop", "0.5"), name="other.pt")
    assert_same_statistics(recalibrate_checkpoint(other, batches=4, max_tokens=300), expected, rtol=1e-6, atol=1e-6)


def test_half_precision_weights_stay_as_they_are(write, tmp_path):
    path = write(*everywhere("pn-v"))
    state = load_checkpoint(path)
    halves = {key: value if key in statistics(state) else value.half() for key, value in state["model"].items()}
    save_checkpoint({**state, "model": halves}, tmp_path / "half.pt")
    found = recalibrate_checkpoint(tmp_path / "half.pt", batches=4, max_tokens=300)
    assert all(value.dtype == halves[key].dtype for key, value in found["model"].items())
    expected = recalibrate_checkpoint(path, batches=4, max_tokens=300)
    assert_same_statistics(found, expected, rtol=1e-2, atol=1e-2)


def test_fewer_batches_than_asked_for(write, caplog):
    path = write(*everywhere("power"))
    samples, there = first_batches(path, 1000)
    caplog.set_level(logging.INFO)
    found = recalibrate_checkpoint(path, batches=1000, max_tokens=300)
    assert found["extra_state"]["recalibrated_on"]["batches"] == there == len(samples)
    assert found["extra_state"]["recalibrated_on"]["tokens"] == 2 * sum(2 + number % 20 for number in range(SENTENCES))
    assert f"1000 batches were asked for; {path_of_data(found)} has {there}, all are used" in caplog.messages


def test_a_model_without_statistics_is_written_through(write, caplog):
    path = write("--norm-type", "layer")
    caplog.set_level(logging.INFO)
    found, before = recalibrate_checkpoint(path), load_checkpoint(path)
    assert f"{path} has no norm with running statistics: nothing to recalibrate" in caplog.messages
    assert found["extra_state"] == before["extra_state"]
    assert all(torch.equal(value, before["model"][key]) for key, value in found["model"].items())


def test_the_table_shows_how_far_each_site_moved(write, caplog):
    path = write("--norm-type", "batch")
    state = load_checkpoint(path)
    caplog.set_level(logging.INFO)
    recalibrate_checkpoint(path, batches=4, max_tokens=300)
    start = next(number for number, line in enumerate(caplog.messages) if line.startswith("new/old of ψ² or σ²"))
    sites = [line.split()[0] for line in caplog.messages[start + 1 :]]
    assert sites == [key.removesuffix(".running_var") for key in state["model"] if key.endswith("running_var")]
    assert change({"running_square_mean": torch.ones(5)}, {"running_square_mean": torch.full((5,), 2.0)}) == (
        "ψ² 2.000 (2.000 … 2.000)"
    )
    old = {"running_mean": torch.ones(3), "running_var": torch.full((3,), 4.0)}
    new = {"running_mean": torch.tensor([0.0, 2.0, 4.0]), "running_var": torch.tensor([2.0, 4.0, 8.0])}
    assert change(old, new) == "μ 0.500 (0.500 … 1.400)   σ² 1.000 (0.550 … 1.900)"


@pytest.mark.parametrize(("name", "value"), [("batches", 0), ("batches", -3), ("max_tokens", 0)])
def test_numbers_outside_their_range(write, name, value):
    with pytest.raises(ValueError, match=f"expected {name} >= 1, got {value}"):
        recalibrate_checkpoint(write("--norm-type", "power"), **{name: value})


def test_data_that_do_not_fit_are_named(write, data, tmp_path):
    path = write("--norm-type", "power")
    with pytest.raises(ValueError, match=r"absent: no such data folder; name the one that .*averaged.pt was trained"):
        recalibrate_checkpoint(path, data=tmp_path / "absent")
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    (folder / "dict.en.txt").unlink()
    with pytest.raises(ValueError, match=r"data holds no dict.en.txt; is it the output of fairseq-preprocess"):
        recalibrate_checkpoint(path, data=folder)
    dictionary(extra="äöü").save(str(folder / "dict.en.txt"))
    with pytest.raises(ValueError, match=r"the decoder's dictionary has 33 types, the model of .* was trained with 30"):
        recalibrate_checkpoint(path, data=folder)
    shutil.copy(data / "dict.en.txt", folder)
    with pytest.raises(ValueError, match="no batch of the subset 'train' within 1 tokens"):
        recalibrate_checkpoint(path, data=folder, max_tokens=1)
    for file in folder.glob("train.*"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match="Dataset not found: train"):
        recalibrate_checkpoint(path, data=folder)


def test_bad_checkpoints_are_named(write, tmp_path):
    path = write("--norm-type", "power")
    (tmp_path / "truncated.pt").write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ValueError, match="truncated"):
        recalibrate_checkpoint(tmp_path / "truncated.pt")
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        recalibrate_checkpoint(tmp_path / "absent.pt")
    state = load_checkpoint(path)
    save_checkpoint({**state, "cfg": {"model": argparse.Namespace()}}, tmp_path / "bare.pt")
    save_checkpoint({"model": state["model"]}, tmp_path / "weights.pt")
    for name in ("bare.pt", "weights.pt"):
        with pytest.raises(ValueError, match=f"{name}: holds no configuration of a task and a model"):
            recalibrate_checkpoint(tmp_path / name)
    broken = copy.copy(state["model"])
    broken["encoder.layers.0.fc1.weight"] = torch.full((24, 16), float("nan"))
    save_checkpoint({**state, "model": broken}, tmp_path / "broken.pt")
    with pytest.raises(ValueError, match=r"the norm encoder\.layers\.1\.self_attn_layer_norm are not finite"):
        recalibrate_checkpoint(tmp_path / "broken.pt", batches=2, max_tokens=300)


@pytest.mark.parametrize("flags", [("--norm-type", "power"), everywhere("power")])
def test_a_folded_checkpoint_is_refused(flags, write, tmp_path):
    """With both stacks folded the decoder's output norm still has statistics; the others have none to go with them."""
    save_checkpoint(fold_checkpoint(write(*flags, "--norm-group-scaling", "0")), tmp_path / "folded.pt")
    with pytest.raises(
        ValueError, match=r"folded\.pt is folded: it has no running statistics left at encoder_norm"
    ) as e:
        recalibrate_checkpoint(tmp_path / "folded.pt")
    assert "\n" not in str(e.value)


def test_folders_are_named_before_the_work(tmp_path, monkeypatch):
    with pytest.raises(IsADirectoryError, match=f"{tmp_path} is a folder; expected a file"):
        recalibrate_checkpoint(tmp_path)
    words = ["powernorm-recalibrate", "--checkpoint", "absent.pt", "--output", str(tmp_path), "--force", "--cpu"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match=f"powernorm-recalibrate: error: {tmp_path} is a folder; expected a file"):
        recalibrate.command()


@pytest.mark.slow
def test_the_command(write, data, tmp_path, run_python):
    run_command = functools.partial(run_python, "-m", "fairseq_powernorm.transformer.recalibrate")
    path, output = write(*everywhere("power")), tmp_path / "out" / "recalibrated.pt"
    settings = ["--batches", 4, "--max-tokens", 300, "--cpu"]
    done = run_command("--checkpoint", path, *settings, "--output", output)
    assert done.returncode == 0, done.stderr
    assert "gathered over 4 batches" in done.stderr and "encoder.layers.1.final_layer_norm" in done.stderr
    assert "Warning" not in done.stderr
    assert_same_statistics(load_checkpoint(output), recalibrate_checkpoint(path, batches=4, max_tokens=300))
    before = output.read_bytes()
    other = tmp_path / "other.pt"
    for arguments, message in (
        (["--checkpoint", path, "--output", output], "--force"),
        (["--checkpoint", path, "--output", other, "--data", tmp_path / "absent"], "no such data folder"),
    ):
        done = run_command(*arguments)
        assert done.returncode == 1 and message in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
        assert output.read_bytes() == before and not other.exists()
    done = run_command("--checkpoint", output, *settings, "--output", output, "--force")
    assert done.returncode == 0 and load_checkpoint(output)["extra_state"]["averaged_from"] == ["checkpoint1.pt"]
    # fairseq's own command reads the result.
    done = run_python(
        *("-m", "fairseq_cli.generate", data, "--path", output, "--user-dir", "fairseq_powernorm", "--cpu"),
        *("--source-lang", "de", "--target-lang", "en", "--beam", 1, "--max-len-b", 5, "--num-workers", 0),
        *("--required-batch-size-multiple", 1),
    )
    assert done.returncode == 0 and done.stdout.count("\nH-") == 4, done.stderr


WORKER = textwrap.dedent(
    """
    import os
    import sys
    os.environ["RANK"] = sys.argv.pop(1)
    from fairseq_powernorm.transformer.recalibrate import main
    main()  # its process group ends with a barrier
    os._exit(0)  # see tests/test_distributed.py
    """
)


@pytest.mark.distributed
@pytest.mark.slow
def test_ranks_share_the_batches(write, tmp_path, run_programs, monkeypatch):
    path, output = write(*everywhere("batch", "--norm-sync")), tmp_path / "ranks.pt"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}.items():
        monkeypatch.setenv(name, value)
    arguments = ["--checkpoint", path, "--batches", "3", "--max-tokens", "300", "--cpu", "--output", output]
    done = run_programs([("-c", WORKER, rank, *arguments) for rank in range(2)])
    assert [each.returncode for each in done] == [0, 0], done[0].stderr
    monkeypatch.delenv("WORLD_SIZE")
    expected, found = recalibrate_checkpoint(path, batches=3, max_tokens=300), load_checkpoint(output)
    assert_same_statistics(found, expected, rtol=1e-6, atol=1e-6)
    assert found["extra_state"] == expected["extra_state"]


def test_averaging_needs_no_fairseq(root):
    program = "import sys, fairseq_powernorm.checkpoints.average; sys.exit('fairseq' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
