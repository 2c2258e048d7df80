"""What the powernorm-… commands add to fairseq's, and that they log as these do."""

import subprocess
import sys

import pytest
import torch

from fairseq_powernorm import command_line as commands


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["data"], ["data", "--user-dir", commands.USER_DIR]),
        (["data", "--user-dir", "mine"], ["data", "--user-dir", "mine"]),
        (["data", "--user-dir=mine"], ["data", "--user-dir=mine"]),
    ],
)
def test_the_user_dir_is_filled_in_once(arguments, expected):
    assert commands.with_user_dir(arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--path", "a.pt"], "a.pt"),
        (["--path=b.pt"], "b.pt"),
        (["--path", "a", "--path", "b"], "b"),
        (["--path"], None),
    ],
)
def test_options_are_read_as_argparse_does(arguments, value):
    assert commands.option(arguments, "--path") == value


@pytest.mark.slow
@pytest.mark.parametrize("program", ["train", "generate"])
def test_the_log_is_fairseqs(root, program):
    """Importing fairseq sets up logging, which its own commands do before."""
    shown = (
        "[(type(handler).__name__, handler.stream.name, handler.formatter._fmt) for handler in logging.root.handlers]"
    )
    found = []
    for imports in (
        f"import fairseq_cli.{program}",
        f"from fairseq_powernorm.command_line import import_command; import_command('{program}')",
    ):
        command = [sys.executable, "-c", f"import logging; {imports}; print({shown})"]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        found.append(done.stdout.splitlines()[-1])
    assert found[0] == found[1] and "Handler" in found[0]


def test_the_help_of_a_training_knows_the_model_s_flags(capsys, monkeypatch):
    """fairseq's own ends before it asks the model for them."""
    monkeypatch.setattr(sys, "argv", ["powernorm-train", "--help", "--arch", "powernorm_tiny"])
    with pytest.raises(SystemExit) as ended:
        commands.train()
    text = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    assert "--norm-unified-window N [unified, unified-released] updates whose" in text and "--max-update" in text


@pytest.mark.parametrize(("words", "message"), [(16, None), (17, "has 21 types, the model of .* was trained with 20")])
def test_a_language_model_s_dictionary(tmp_path, words, message):
    torch.save({"model": {"decoder.embed_tokens.weight": torch.zeros(20, 4)}}, tmp_path / "model.pt")
    (tmp_path / "dict.txt").write_text("".join(f"w{number} 1\n" for number in range(words)), encoding="utf-8")
    arguments = [str(tmp_path), "--path", str(tmp_path / "model.pt")]
    if message is None:
        commands.check_inputs(arguments)
        return
    with pytest.raises(ValueError, match=message):
        commands.check_inputs(arguments)


def test_a_task_by_the_data(tmp_path):
    assert commands.with_task([str(tmp_path), "--cpu"]) == [str(tmp_path), "--cpu", "--task", "translation"]
    assert commands.with_task(["x", "--task", "mine"]) == ["x", "--task", "mine"]
    assert commands.with_task([]) == ["--task", "translation"]
    (tmp_path / "dict.txt").touch()
    assert commands.with_task([f"{tmp_path}:x"])[1:] == ["--task", "language_modeling"]


def test_a_folder_without_a_dictionary(tmp_path):
    with pytest.raises(ValueError, match=r"holds no dict.LANGUAGE.txt, nor dict.txt of a language model"):
        commands.check_inputs([str(tmp_path)])
