"""Trainings side by side: the speed that counts, and what a failed one says."""

import pytest


def test_the_speed_is_that_behind_the_first_third(script):
    """Slow while the others start, then 10 updates a second."""
    times = [(20, 50.0), (40, 60.0), (60, 62.0), (90, 65.0)]
    assert script("bench_sharing").updates_per_second(times, 90) == 10.0
    with pytest.raises(ValueError, match="reported its speed 1 times; give more --updates"):
        script("bench_sharing").updates_per_second(times, 200)


def test_a_training_that_fails_is_said_with_its_last_words(script, tmp_path):
    training = script("bench_sharing").Training(["nowhere", "--user-dir", "fairseq_powernorm"], tmp_path / "x", 3, 1)
    with pytest.raises(ValueError, match=r"training 3 ended with status \d+: .*nowhere"):
        training.wait()


def test_an_unknown_recipe_ends_before_anything_starts(run):
    with pytest.raises(SystemExit, match="unknown recipe 'nothing'"):
        run("bench_sharing", "--recipe", "nothing")
