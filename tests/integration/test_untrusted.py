"""Checkpoints from strangers run no code, whatever reads them; and names with spaces and quotes are names."""

import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from fairseq import checkpoint_utils

from fairseq_powernorm.checkpoints.average import average_checkpoints
from fairseq_powernorm.checkpoints.convert import command as convert
from fairseq_powernorm.checkpoints.fold import command as fold
from fairseq_powernorm.checkpoints.io import load_checkpoint, save_checkpoint
from fairseq_powernorm.checkpoints.recalibrate import command as recalibrate
from fairseq_powernorm.transformer import PowerNormTransformerModel

pytestmark = pytest.mark.slow

RAN = "it_ran"
REFUSED = re.compile("not safe to load|Weights only load failed|holds code")
EXPRESSION = f"__import__('pathlib').Path('{RAN}').touch() or [10]"


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
    """Two checkpoints that would run code: when unpickled, and when fairseq builds the model."""
    monkeypatch.chdir(tmp_path)
    torch.save({**load_checkpoint(harmless), "extra_state": RunsCode()}, tmp_path / "pickle.pt")
    state = load_checkpoint(harmless)
    state["cfg"]["model"].adaptive_softmax_cutoff = EXPRESSION
    torch.save(state, tmp_path / "setting.pt")
    yield [tmp_path / "pickle.pt", tmp_path / "setting.pt"]
    assert not list(tmp_path.rglob(RAN)) and not Path(RAN).exists()


def test_the_setting_would_run_in_fairseq(harmless, tmp_path, monkeypatch):
    """That the test can fail."""
    monkeypatch.chdir(tmp_path)
    eval(EXPRESSION)
    assert Path(RAN).exists()


def test_functions_that_read_checkpoints(evil, corpus, tmp_path, monkeypatch):
    readers = {
        "average": lambda path: average_checkpoints([path]),
        "fairseq": lambda path: checkpoint_utils.load_model_ensemble_and_task([str(path)]),
        "hub": lambda path: PowerNormTransformerModel.from_pretrained(
            str(path.parent), path.name, str(corpus / "bin"), source_lang="de", target_lang="en"
        ),
    }
    for name, command in (("fold", fold), ("convert", convert), ("recalibrate", recalibrate)):

        def call(path, name=name, command=command):
            source = "--input" if name == "convert" else "--checkpoint"
            arguments = [f"powernorm-{name}", source, str(path), "--output", str(tmp_path / f"{name}.pt")]
            arguments += ["--batches", "1"] if name == "recalibrate" else []
            monkeypatch.setattr("sys.argv", arguments)
            command()

        readers[name] = call
    for name, reader in readers.items():
        for path in evil:
            with pytest.raises((Exception, SystemExit)) as caught:
                reader(path)
            assert (
                "safe" in str(caught.value) or "Weights only" in str(caught.value) or "holds code" in str(caught.value)
            ), (name, path.name, str(caught.value))


@pytest.mark.parametrize("program", ["fairseq", "powernorm"])
def test_commands(evil, corpus, commands, root, tmp_path, program):
    def call(verb, *arguments):
        flags = [corpus / "bin", *arguments, "--user-dir", root / "fairseq_powernorm"]
        if program == "fairseq":
            return commands.fairseq(verb, *flags, cwd=tmp_path)
        return commands.console_script(f"powernorm-{verb}", *flags, cwd=tmp_path)

    for path in evil:
        done = call("generate", *commands.generate_flags, "--path", path)
        assert done.returncode != 0 and REFUSED.search(done.stderr), done.stderr[-2000:]
    save_dir = tmp_path / "run"
    save_dir.mkdir()
    shutil.copy(evil[0], save_dir / "checkpoint_last.pt")
    done = call("train", "--arch", "powernorm_tiny", *commands.train_flags, "--max-update", "1", "--save-dir", save_dir)
    if program == "fairseq":
        assert done.returncode != 0
    else:  # it is put aside, and training begins anew
        assert done.returncode == 0 and (save_dir / "checkpoint_last.pt.damaged").exists()


def test_plain_settings_pass(harmless, tmp_path):
    """Tuples, paths with brackets, lists: what settings really are."""
    state = load_checkpoint(harmless)
    state["cfg"]["model"].adaptive_softmax_cutoff = "10,20"
    state["cfg"]["task"]["data"] = "a folder (copy)/bin"
    state["args"] = {"adam_betas": "(0.9, 0.98)", "layers": "[(512, 3)] * 20"}
    save_checkpoint(state, tmp_path / "plain.pt")
    assert load_checkpoint(tmp_path / "plain.pt")["args"] == state["args"]
