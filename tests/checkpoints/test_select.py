"""Which checkpoints are chosen: the last by their names, the best by what they say of themselves."""

import argparse

import pytest
import torch

from fairseq_powernorm.checkpoints.select import BestSoFar, select_best, select_in_folder, select_last

NAMES = [
    "checkpoint1.pt", "checkpoint10.pt", "checkpoint9.pt", "checkpoint2.pt",
    "checkpoint_1_500.pt", "checkpoint_2_1500.pt", "checkpoint_2_1000.pt",
    "checkpoint.best_loss_4.1230.pt", "checkpoint.best_loss_3.9001.pt", "checkpoint.best_loss_12.0000.pt",
    "checkpoint.best_bleu_score_-1.5000.pt",
    "checkpoint_best.pt", "checkpoint_last.pt", "checkpoint3.pt.tmp", "averaged.pt", "train.log",
]  # fmt: skip


@pytest.mark.parametrize(
    ("count", "by", "expected"),
    [
        (1, "epoch", ["checkpoint10.pt"]),
        (3, "epoch", ["checkpoint2.pt", "checkpoint9.pt", "checkpoint10.pt"]),
        (2, "update", ["checkpoint_2_1000.pt", "checkpoint_2_1500.pt"]),
    ],
)
def test_last(count, by, expected):
    assert select_last(NAMES, count, by) == expected


def best(metric, value, updates, maximize):
    return BestSoFar(metric=metric, maximize=maximize, value=value, updates=updates)


LOSSES = {"b": best("loss", 3.9, 20, False), "a": best("loss", 4.1, 10, False), "c": best("loss", 12.0, 30, False)}
SCORES = {name: best("bleu", found.value, found.updates, True) for name, found in LOSSES.items()}
SILENT = {name: best("loss", found.value, found.updates, None) for name, found in LOSSES.items()}


@pytest.mark.parametrize(
    ("found", "count", "maximize", "expected"),
    [
        (LOSSES, 1, None, ["b"]),
        (LOSSES, 3, False, ["c", "a", "b"]),
        (SCORES, 2, None, ["a", "c"]),
        (SCORES, 2, True, ["a", "c"]),
        (SILENT, 1, False, ["b"]),
        (SILENT, 1, True, ["c"]),
        # A training that went by another metric first.
        ({**LOSSES, "d": best("bleu", 9.0, 31, True), "e": best("bleu", 8.0, 5, True)}, 2, None, ["e", "d"]),
        # Of two alike the later one is better.
        ({"new": best("loss", 4.0, 9, False), "old": best("loss", 4.0, 8, False)}, 1, None, ["new"]),
    ],
)
def test_best(found, count, maximize, expected):
    assert select_best(found, count, maximize) == expected


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda: select_last(NAMES, 5), "last 5 by epoch checkpoints, found 4: checkpoint1.pt, "),
        (lambda: select_last([], 1), "found 0: none"),
        (lambda: select_last(NAMES, 0), "a count of 1 or more, got 0"),
        (lambda: select_last(NAMES, 2, "time"), "by = epoch or update, got 'time'"),
        (lambda: select_best({}, 1), "best 1 checkpoints, found 0"),
        (lambda: select_best(LOSSES, 4), "best 4 by loss checkpoints, found 3: c, a, b"),
        (lambda: select_best(LOSSES, -1), "got -1"),
        (lambda: select_best(SILENT, 1), "do not say whether a higher metric is better; give --maximize or --minimize"),
        (lambda: select_best(SCORES, 1, False), "kept the checkpoints of the highest bleu, as they say"),
        (lambda: select_in_folder("."), "either"),
        (lambda: select_in_folder(".", last=1, best=1), "either"),
    ],
)
def test_what_cannot_be_chosen(choose, message):
    with pytest.raises(ValueError, match=message):
        choose()


def test_in_a_folder(tmp_path):
    for name in NAMES:
        (tmp_path / name).touch()
    assert select_in_folder(tmp_path, last=1) == [tmp_path / "checkpoint10.pt"]


def options_in(where, **options):
    """Where fairseq stores its options: ``cfg`` today, ``args`` to version 0.9."""
    return {"cfg": {"checkpoint": options}} if where == "cfg" else {"args": argparse.Namespace(**options)}


@pytest.mark.parametrize("where", ["cfg", "args"])
@pytest.mark.parametrize("maximize", [True, False])
def test_the_best_by_what_they_say(tmp_path, where, maximize):
    options = options_in(where, best_checkpoint_metric="a_b", maximize_best_checkpoint_metric=maximize)
    # fairseq adds a random digit to the value in a name: it tells nothing about which is better.
    for digit, value in ((9, 1.0001), (0, 1.0004), (5, 0.9), (5, 2.0)):
        state = {"model": {}, "extra_state": {"val_loss": value}, **options}
        torch.save(state, tmp_path / f"checkpoint.best_a_b_{value:.3f}{digit}.pt")
    found = [path.name for path in select_in_folder(tmp_path, best=3)]
    names = [f"checkpoint.best_a_b_{end}.pt" for end in ("0.9005", "1.0009", "1.0000", "2.0005")]
    assert found == (names[1:] if maximize else names[2::-1])
    with pytest.raises(ValueError, match="as they say"):
        select_in_folder(tmp_path, best=1, maximize=not maximize)


def test_the_best_of_older_fairseq_by_their_names(tmp_path):
    for value in (1.5, 2.5):
        torch.save({"model": {}}, tmp_path / f"checkpoint.best_loss_{value}.pt")
    assert select_in_folder(tmp_path, best=1, maximize=True) == [tmp_path / "checkpoint.best_loss_2.5.pt"]
    with pytest.raises(ValueError, match="give --maximize or --minimize"):
        select_in_folder(tmp_path, best=1)
