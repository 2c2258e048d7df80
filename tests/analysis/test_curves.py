"""Losses by update, read from fairseq's logs."""

import csv
import json
import logging
import math

import pytest

from fairseq_powernorm.analysis import curves

TIME = "2026-11-21 02:54:19"


def log_line(kind, updates, loss, **others):
    prefix = "valid_" if kind == "valid" else ""
    values = {f"{prefix}loss": str(loss), f"{prefix}nll_loss": str(loss), f"{prefix}num_updates": str(updates)}
    if kind == "train_inner":
        values |= {"lr": "0.001", "gnorm": "0.5", "wall": str(updates)}
    return f"{TIME} | INFO | {kind} | {json.dumps({'epoch': 1, **values, **others})}\n"


def write_log(folder, norm, seed, *lines):
    path = folder / norm / f"seed{seed}" / "train.log"
    path.parent.mkdir(parents=True)
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def runs(tmp_path):
    """Power is 0.25 above layer at 200 updates; it was started again behind 100."""
    folder = tmp_path / "runs"
    layer = [log_line("train_inner", at, 600 / at) for at in (100, 200)]
    write_log(folder, "layer", 1, "+ fairseq-train\n", *layer, log_line("valid", 100, 5.0), log_line("valid", 200, 4.0))
    first = [log_line("train_inner", 100, 6.5), log_line("valid", 100, 5.5), log_line("train_inner", 150, 99.0)]
    again = [log_line("train_inner", 150, 4.5, loss_scale="128"), log_line("valid", 200, 4.25)]
    write_log(folder, "power", 1, *first, "+ fairseq-train\n", *again)
    return folder


def test_what_a_restart_did_again_counts_once_as_it_was_last(runs):
    points = curves.read_runs(runs)
    assert [point.norm for point in points] == ["layer"] * 4 + ["power"] * 4
    power = [point for point in points if point.norm == "power"]
    assert [(point.kind, point.updates, point.loss) for point in power] == [
        ("train", 100, 6.5),
        ("train", 150, 4.5),
        ("valid", 100, 5.5),
        ("valid", 200, 4.25),
    ]
    assert power[1].loss_scale == 128 and power[0].loss_scale is None
    assert power[0].gradient_norm == 0.5 and power[2].gradient_norm is None


def test_an_attempt_that_was_given_up_leaves_nothing(tmp_path):
    """Started anew from the beginning, and for fewer updates: what it logged beyond is no part of the training."""
    given_up = [log_line("train_inner", at, 5.0) for at in (300, 500, 900)] + [log_line("valid", 900, 4.0)]
    anew = [log_line("train_inner", at, 9.0) for at in (300, 600)] + [log_line("valid", 600, 8.0)]
    path = write_log(tmp_path, "power", 1, *given_up, "+ fairseq-train\n", *anew)
    found = [(point.kind, point.updates, point.loss) for point in curves.read_log(path, "power", 1)]
    assert found == [("train", 300, 9.0), ("train", 600, 9.0), ("valid", 600, 8.0)]


def test_differences_are_to_the_same_seed_at_the_same_update(runs):
    write_log(runs, "batch", 2, log_line("valid", 100, 5.0))  # layer has no seed 2
    valid = curves.curves_of(curves.read_runs(runs), "valid", "loss")
    assert curves.differences(valid) == {("power", 1): [(100, 0.5), (200, 0.25)]}


def test_an_axis_shows_every_end_and_most_of_the_rest():
    falling = [(at, 100.0 / at) for at in range(1, 21)]
    low, high = curves.limits({("layer", 1): falling, ("power", 1): [(1, 100.0), (20, 60.0)]})
    assert low < 5 and 60 < high < 100
    low, high = curves.limits({("layer", 1): falling[:11]})
    assert low < 100 / 11 and high > 100  # a few points are all shown
    assert curves.limits({("layer", 1): [(1, math.nan)]}) is None


def test_files_are_written_and_a_divergence_is_said(runs, tmp_path, caplog):
    write_log(runs, "batch", 1, log_line("train_inner", 100, math.nan), log_line("valid", 100, math.nan))
    caplog.set_level(logging.INFO)
    arguments = ["--runs", str(runs), "--output-prefix", str(tmp_path / "out" / "curves"), "--title", "$x$"]
    curves.main(arguments)
    assert "batch seed 1: validation loss is not finite at update 100" in caplog.text
    assert "power: validation loss 4.250 after 200 updates" in caplog.messages
    with open(tmp_path / "out" / "curves.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 10 and rows[0]["norm"] == "layer" and rows[0]["updates"] == "100"
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(FileExistsError, match="--force"):
        curves.main(arguments)


@pytest.mark.parametrize("line", ['| INFO | valid | {"valid_loss": "4"}', "| INFO | train_inner | {x}"])
def test_a_line_that_is_not_fairseqs_is_named(tmp_path, line):
    path = write_log(tmp_path, "layer", 1, "first\n", f"{TIME} {line}\n")
    with pytest.raises(ValueError, match=f"{path}, line 2: not fairseq's statistics"):
        curves.read_runs(tmp_path)


def test_no_logs_and_logs_without_statistics(tmp_path, caplog):
    with pytest.raises(ValueError, match="no such folder of runs"):
        curves.read_runs(tmp_path / "none")
    write_log(tmp_path, "layer", 1, "nothing\n")
    with pytest.raises(ValueError, match=r"no NORM/seedN/train.log with statistics"):
        curves.read_runs(tmp_path)
    assert "is left out: no statistics in it" in caplog.text
