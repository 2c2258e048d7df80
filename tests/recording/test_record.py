"""The files of a record: what continues one, and what is refused."""

import csv
import logging

import pytest

from fairseq_powernorm.recording.record import (
    COLUMNS,
    KEYS,
    QUANTITIES,
    Record,
    format_row,
    read_description,
    read_record,
)

DESCRIPTION = {"run": {"seed": 1}, "interval": 10, "norms": {"first": "batch: 4"}}


def line(update, value=0.5, norm="first"):
    return format_row([update, 0, 0, norm, "batch", "input", 4, 9, *[value] * len(QUANTITIES)])


def written(folder, *updates):
    record = Record(folder, DESCRIPTION)
    record.append([line(update) for update in updates])
    return record


def test_what_is_written_is_read(tmp_path):
    written(tmp_path, 10, 20).append([line(30, float("nan"))])
    rows = read_record(tmp_path)
    assert [row["update"] for row in rows] == [10, 20, 30] and rows[0]["mean_distance"] == 0.5
    assert rows[2]["mean_distance"] != rows[2]["mean_distance"]
    with open(tmp_path / "record.csv", newline="") as stream:
        assert next(csv.DictReader(stream)).keys() == set(COLUMNS)
    assert read_description(tmp_path) == DESCRIPTION and len(KEYS) + len(QUANTITIES) == len(COLUMNS)


def test_a_restart_drops_what_comes_after_its_checkpoint(tmp_path):
    written(tmp_path, 10, 20, 30, 40)
    Record(tmp_path, DESCRIPTION, updates=29)
    assert [row["update"] for row in read_record(tmp_path)] == [10, 20]
    Record(tmp_path, DESCRIPTION, updates=0)
    assert read_record(tmp_path) == []


def test_a_line_that_is_cut_off(tmp_path, caplog):
    """A reader leaves its update out, a restart drops the line."""
    written(tmp_path, 10, 20).append([line(30), line(30)[:25]])
    assert [row["update"] for row in read_record(tmp_path)] == [10, 20]
    (message,) = caplog.messages
    assert message.endswith("record.csv is cut off in line 5: update 30 and what follows is left out")
    caplog.set_level(logging.INFO)
    Record(tmp_path, DESCRIPTION, updates=100)
    assert [row["update"] for row in read_record(tmp_path)] == [10, 20, 30]


def test_another_training_is_refused_and_nothing_is_lost(tmp_path):
    written(tmp_path, 10)
    for changed, words in (
        ({"run": {"seed": 2}}, "seed is 1 there and 2 here"),
        ({"norms": {"first": "power: 4"}}, "first is batch: 4 there and power: 4 here"),
        ({"norms": {"second": "batch: 4"}}, "first is batch: 4 there and missing here"),
        ({"run": None}, "run is {'seed': 1} there and not known here"),
    ):
        with pytest.raises(ValueError, match=f"has the record of another training .{words}"):
            Record(tmp_path, DESCRIPTION | changed)
    assert len(read_record(tmp_path)) == 1


def test_a_training_that_nothing_is_known_of_replaces_no_record(tmp_path):
    unknown = DESCRIPTION | {"run": None}
    Record(tmp_path, unknown).append([line(10)])
    with pytest.raises(ValueError, match=r"has a record already; name another folder, or remove it"):
        Record(tmp_path, unknown)
    Record(tmp_path, unknown, updates=10)
    assert len(read_record(tmp_path)) == 1


def test_damaged_files(tmp_path):
    with pytest.raises(
        ValueError, match=r"has no record of norms .no record.csv.; training writes one with --norm-record"
    ):
        read_record(tmp_path)
    with pytest.raises(ValueError, match=r"has no record of norms .no record.json."):
        read_description(tmp_path)
    record = written(tmp_path, 10)
    record.append(["1,2,3\n"])
    with pytest.raises(ValueError, match=rf"record.csv, line 3: expected {len(COLUMNS)} values, got 3$"):
        read_record(tmp_path)
    Record(tmp_path, DESCRIPTION, updates=10).append([line(20).replace("0.5", "x", 1)])
    with pytest.raises(ValueError, match=r"record.csv, line 3: could not convert string to float"):
        read_record(tmp_path)
    (tmp_path / "record.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"record.csv is no record of norms: its first line should be update,pass"):
        read_record(tmp_path)
    with pytest.raises(ValueError, match=r"is no record of norms"):
        Record(tmp_path, DESCRIPTION)
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(ValueError, match=r"record.json: not JSON"):
        read_description(tmp_path)
