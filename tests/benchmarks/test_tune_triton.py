"""The search for the Triton kernels' constants."""

import csv
import json
import math

import pytest
import torch

pytest.importorskip("triton")


def test_the_search_finds_a_minimum_and_asks_once(script):
    asked = []

    def cost(settings):
        asked.append(tuple(settings.values()))
        return math.inf if settings["B"] == 7 else 1 + (settings["A"] - 3) ** 2 + (settings["B"] - 5) ** 2

    best, costs = script("tune_triton").search(cost, {"A": 1, "B": 1}, {"A": (1, 2, 3, 4), "B": (1, 5, 7)})
    assert best == {"A": 3, "B": 5}
    assert len(asked) == len(set(asked)) == len(costs)


def test_what_is_within_noise_changes_nothing(script):
    costs = {1: 1.0, 2: 0.995, 3: 1.2}
    best, _ = script("tune_triton").search(lambda settings: costs[settings["A"]], {"A": 1}, {"A": (1, 2, 3)})
    assert best == {"A": 1}


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton's interpreter is not in use where there is a device")
def test_a_small_search(run, tmp_path, capsys):
    from fairseq_powernorm.kernels import cuda

    before = cuda.ELEMENTS
    words = "--tokens 16 --channels 8 --dtypes float32 --constants ELEMENTS --rounds 1"
    run("tune_triton", "--device", "cpu", "--output", tmp_path / "x", *words.split())
    assert "best of 4: {'ELEMENTS': " in capsys.readouterr().out
    with open(tmp_path / "x.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["ELEMENTS"] for row in rows} == {"1024", "2048", "4096", "8192"}
    assert all(float(row["float32_16_8_us"]) > 0 for row in rows)
    assert json.loads((tmp_path / "x.json").read_text())["start"] == {"ELEMENTS": before}
    assert before == cuda.ELEMENTS
