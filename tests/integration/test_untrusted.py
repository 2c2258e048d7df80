"""Checkpoints from strangers run no code, whatever reads them; and names with spaces and quotes are names."""

import contextlib
import os
import pickle
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fairseq import checkpoint_utils

from fairseq_powernorm.checkpoints.average import command as average
from fairseq_powernorm.checkpoints.convert import command as convert
from fairseq_powernorm.checkpoints.fold import command as fold
from fairseq_powernorm.checkpoints.io import load_checkpoint
from fairseq_powernorm.transformer import PowerNormTransformerModel
from fairseq_powernorm.transformer.fairseq_patches.plain_settings import plain_value
from fairseq_powernorm.transformer.recalibrate import command as recalibrate

pytestmark = pytest.mark.slow

RAN = "it_ran"
REFUSED = re.compile("not safe to load|Weights only load failed|evaluates no code|no plain value")
EXPRESSIONS = {
    "call": f"__import__('pathlib').Path('{RAN}').touch() or [10]",
    "no call": f"[torch.nn.Module['touch {RAN}; echo 1'] for torch.nn.Module.__class_getitem__ in [os.system]]",
    "bytes": f"__import__('pathlib').Path('{RAN}').touch() or [(32, 3)]".encode(),
    "in two halves": "${model.one}${model.other}",
}


class RunsCode:
    """Unpickling one makes the file."""

    def __reduce__(self):
        return os.system, (f"touch {RAN}",)


@pytest.fixture(scope="module")
def harmless(corpus, commands, tmp_path_factory):
    """A trained model's checkpoint."""
    folder = tmp_path_factory.mktemp("harmless")
    done = commands.fairseq(
        *("train", corpus / "bin", "--user-dir", "fairseq_powernorm", "--arch", "powernorm_tiny"),
        *(*commands.train_flags, "--max-update", "3", "--disable-validation", "--save-dir", folder),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "checkpoint_last.pt"


@pytest.fixture
def evil(harmless, tmp_path, monkeypatch):
    """Checkpoints that would run code: when unpickled, and when fairseq builds the model, in four ways."""
    monkeypatch.chdir(tmp_path)
    torch.save({**load_checkpoint(harmless), "extra_state": RunsCode()}, tmp_path / "pickle.pt")
    paths = [tmp_path / "pickle.pt"]
    for name, expression in EXPRESSIONS.items():
        state = load_checkpoint(harmless)
        if name in ("call", "no call"):
            state["cfg"]["model"].adaptive_softmax_cutoff = expression
        else:  # a convolutional model, whose layers are an expression
            halves = {"one": f"__import__('pathlib').Path('{RAN}", "other": "').touch() or [(32, 3)]"}
            state["cfg"]["model"] = {
                **{"_name": "fconv", "encoder_layers": expression, "decoder_layers": expression},
                **{"encoder_embed_dim": 32, "decoder_embed_dim": 32, "decoder_out_embed_dim": 32, "dropout": 0.1},
                **{"decoder_attention": "True", "share_input_output_embed": False, "encoder_embed_path": None},
                **{"decoder_embed_path": None, "max_source_positions": 99, "max_target_positions": 99, **halves},
            }
        torch.save(state, tmp_path / f"{name}.pt")
        paths.append(tmp_path / f"{name}.pt")
    yield paths
    assert not list(tmp_path.rglob(RAN)) and not Path(RAN).exists()


def test_the_settings_would_run_in_fairseq(tmp_path, monkeypatch):
    """That the tests can fail."""
    monkeypatch.chdir(tmp_path)
    for name in ("call", "no call", "bytes"):
        eval(EXPRESSIONS[name], {"torch": SimpleNamespace(nn=SimpleNamespace(Module=type("M", (), {}))), "os": os})
        assert Path(RAN).exists(), name
        Path(RAN).unlink()


@pytest.fixture
def call(tmp_path, monkeypatch):
    """A function that calls one of our commands in this process."""

    def call(command, option, path, *arguments):
        words = ["command", option, str(path), "--output", str(tmp_path / "out.pt"), *arguments]
        monkeypatch.setattr("sys.argv", words)
        command()

    return call


def test_functions_that_build_the_model(evil, corpus, call):
    readers = {
        "fairseq": lambda path: checkpoint_utils.load_model_ensemble_and_task([str(path)]),
        "hub": lambda path: PowerNormTransformerModel.from_pretrained(
            str(path.parent), path.name, str(corpus / "bin"), source_lang="de", target_lang="en"
        ),
        "recalibrate": lambda path: call(recalibrate, "--checkpoint", path, "--batches", "1"),
    }
    for name, reader in readers.items():
        for path in evil:
            with pytest.raises((ValueError, pickle.UnpicklingError, SystemExit)) as caught:
                reader(path)
            assert REFUSED.search(str(caught.value)), (name, path.name, str(caught.value))


def test_functions_that_read_weights(evil, call, tmp_path):
    """They refuse what unpickling would run; settings they hand on, or give up on, but never run."""
    for command, option in ((average, "--inputs"), (fold, "--checkpoint"), (convert, "--input")):
        with pytest.raises(SystemExit, match="not safe to load"):
            call(command, option, evil[0], "--force")
        for path in evil[1:]:
            with contextlib.suppress(SystemExit):
                call(command, option, path, "--force")


@pytest.mark.parametrize("program", ["fairseq", "powernorm"])
def test_commands(evil, corpus, commands, root, tmp_path, program):
    def call(verb, *arguments):
        flags = [corpus / "bin", *arguments, "--user-dir", root / "fairseq_powernorm"]
        if program == "fairseq":
            return commands.fairseq(verb, *flags, cwd=tmp_path)
        return commands.console_script(f"powernorm-{verb}", *flags, cwd=tmp_path)

    for path in evil[:3]:
        done = call("generate", *commands.generate_flags, "--path", path)
        assert done.returncode != 0 and REFUSED.search(done.stderr), done.stderr[-2000:]
    save_dir = tmp_path / "run"
    save_dir.mkdir()
    shutil.copy(evil[0], save_dir / "checkpoint_last.pt")
    done = call("train", "--arch", "powernorm_tiny", *commands.train_flags, "--max-update", "1", "--save-dir", save_dir)
    # Whoever named the folder has to decide: nothing is put aside, nor does training begin anew over it.
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr[-2000:]
    assert "holds objects that are not safe to load: posix.system" in done.stderr.splitlines()[-1]
    assert [path.name for path in save_dir.iterdir()] == ["checkpoint_last.pt"]
    assert (save_dir / "checkpoint_last.pt").read_bytes() == evil[0].read_bytes()


def test_plain_settings_pass():
    """What settings really are."""
    for text, value in (
        ("10,20", (10, 20)),
        ("(0.9, 0.98)", (0.9, 0.98)),
        ("[(512, 3)] * 4 + [(1024, 3)]", [(512, 3)] * 4 + [(1024, 3)]),
        ("{'de': -1.5, 'en': None}", {"de": -1.5, "en": None}),
        ("True", True),
        (" [1 / 2, 2 - 1] ", [0.5, 1]),
        ([3], [3]),
    ):
        assert plain_value(text) == value
    for text in (
        "x",
        "f()",
        "[a for a in (1, 2)]",
        "(1).real",
        "lambda: 1",
        "[0] * 10**9",
        "'a' * 999999",
        b"[1]",
        "(",
    ):
        with pytest.raises(ValueError, match="is no plain value"):
            plain_value(text)
    with pytest.raises(ValueError, match="is no plain value"):
        plain_value(b"[1]")
