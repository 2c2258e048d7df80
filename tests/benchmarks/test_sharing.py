"""Trainings side by side: the speed that counts, and what a failed one says."""

import json

import pytest


def test_the_speed_is_that_behind_the_first_third(script):
    """Slow while the others start, then 20 updates in 1 s and 20 in 4 s, of 50 tokens on average."""
    reports = [(20, 10.0), (40, 100.0), (60, 1000.0), (80, 250.0)]
    values = [json.dumps({"num_updates": str(at), "wps": str(speed), "wpb": "50"}) for at, speed in reports]
    lines = ["+ fairseq-train", *(f"2026 | INFO | train_inner | {each}" for each in values)]
    assert script("bench_sharing").updates_per_second(lines, 90) == pytest.approx(40 / 5)
    with pytest.raises(ValueError, match="reported its speed 1 times; give more --updates"):
        script("bench_sharing").updates_per_second(lines, 200)


def test_a_training_that_fails_is_said_with_its_last_words(script, tmp_path):
    sharing, log = script("bench_sharing"), tmp_path / "1_3.log"
    training = sharing.start(["nowhere", "--user-dir", "fairseq_powernorm"], log, 1)
    with pytest.raises(ValueError, match=r"training 1_3 ended with status \d+: .*nowhere"):
        sharing.lines_of(training, log)


def test_an_unknown_recipe_ends_before_anything_starts(run):
    with pytest.raises(SystemExit, match="unknown recipe 'nothing'"):
        run("bench_sharing", "--recipe", "nothing")
