"""Which checkpoints are chosen, by their names alone."""

import pytest

from fairseq_powernorm.checkpoints.select import select_best, select_in_folder, select_last

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


@pytest.mark.parametrize(
    ("count", "maximize", "expected"),
    [
        (1, False, ["checkpoint.best_bleu_score_-1.5000.pt"]),
        (3, False, [f"checkpoint.best_{end}.pt" for end in ("loss_4.1230", "loss_3.9001", "bleu_score_-1.5000")]),
        (2, True, ["checkpoint.best_loss_4.1230.pt", "checkpoint.best_loss_12.0000.pt"]),
    ],
)  # fmt: skip
def test_best(count, maximize, expected):
    assert select_best(NAMES, count, maximize) == expected


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda: select_last(NAMES, 5), "last 5 by epoch checkpoints, found 4: checkpoint1.pt, "),
        (lambda: select_last([], 1), "found 0: none"),
        (lambda: select_last(NAMES, 0), "a count of 1 or more, got 0"),
        (lambda: select_last(NAMES, 2, "time"), "by = epoch or update, got 'time'"),
        (lambda: select_best(["checkpoint1.pt"], 1), "best 1 checkpoints, found 0"),
        (lambda: select_best(NAMES, -1), "got -1"),
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
    assert select_in_folder(tmp_path, best=1, maximize=True) == [tmp_path / "checkpoint.best_loss_12.0000.pt"]
