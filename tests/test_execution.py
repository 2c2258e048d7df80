"""How far a command is, how it would be typed, and what a record says of its surroundings."""

import sys

import pytest

from fairseq_powernorm import execution
from fairseq_powernorm.transformer import commands


def test_a_command_can_be_pasted_into_a_shell():
    command = execution.shell_command("train", ["data bin", "--adam-betas", "(0.9, 0.98)"])
    assert command == "fairseq-train 'data bin' --adam-betas '(0.9, 0.98)'"


def test_training_progress_reads_fairseqs_json_lines():
    progress = execution.training_progress(1000)
    stamp = "2026-01-01 00:00:00 | INFO |"
    assert progress(f"{stamp} fairseq.tasks | something else") is None
    line = f'{stamp} train_inner | {{"epoch": 1, "loss": "9.5", "num_updates": "20"}}'
    assert progress(line) == "update 20 of 1000, loss 9.5, validation loss none yet"
    assert progress(f'{stamp} valid | {{"epoch": 1, "valid_loss": "8.25"}}') is None
    assert progress(line.replace('"20"', '"40"')) == "update 40 of 1000, loss 9.5, validation loss 8.25"
    assert execution.training_progress(None)(line) == "update 20, loss 9.5, validation loss none yet"


def test_generation_progress_counts_translations():
    progress = execution.generation_progress(3)
    assert [progress(line) for line in ("H-0\t-1\tx", "D-0\t-1\tx", "D-2\t-1\ty")] == [
        None,
        "1 of 3 sentences",
        "2 of 3 sentences",
    ]


def test_a_command_that_fails_is_told_by_its_last_line(tmp_path):
    log = tmp_path / "logs" / "train.log"
    with pytest.raises(ValueError, match=r"power seed 1: fairseq-preprocess failed with status 2: .*train.log"):
        execution.run_fairseq("preprocess", ["--no-such-flag"], log, "power seed 1")
    assert "unrecognized arguments: --no-such-flag" in log.read_text(encoding="utf-8")


def test_the_record_names_versions_and_hardware():
    versions = execution.versions()
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"torch", "fairseq-fixed", "sacrebleu"} <= set(versions)
    assert "cores" in execution.hardware() or " x " in execution.hardware()
    assert execution.commit()


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
