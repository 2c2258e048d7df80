"""Quality from one table, speed from another, by the rows' norms."""

import csv
from dataclasses import astuple, fields

import pytest

from fairseq_powernorm.analysis.measurements import MEAN, Measurement
from fairseq_powernorm.analysis.quality_and_speed import Speed, draw, folds, main, read_speed, speed_of

ROWS = {"layer": 28.0, "power": 28.5, "power-plain": 27.25, "rms": 28.25}
COLUMNS = "dtype,channels,tokens,padding,candidate,part,ratio,kept_over_layer,peak_over_layer"
TIMES = {"layer": 1.0, "power kernels": 1.25, "power (groups) kernels": 1.5, "rms kernels": 0.75}


@pytest.fixture
def tables(tmp_path):
    quality, speed = tmp_path / "quality.csv", tmp_path / "speed.csv"
    with open(quality, "w") as stream:
        writer = csv.writer(stream)
        writer.writerow(each.name for each in fields(Measurement))
        for norm, bleu in ROWS.items():
            writer.writerow(astuple(Measurement(norm, 1, MEAN, bleu, 4.5, 1080, "abc", "two cores", "tok:13a")))
    lines = [COLUMNS, "float32,128,4096,yes,copy,both,0.5,,"]
    for candidate, time in TIMES.items():
        for part, ratio in (("forward", 9), ("both", time), ("evaluation", time / 2)):
            lines.append(f"float32,128,4096,yes,{candidate},{part},{ratio},0.9,1.1")
    speed.write_text("\n".join([*lines, ""]))
    return quality, speed


def words_of(quality, speed, prefix):
    return ["--quality", str(quality), "--speed", str(speed), "--output-prefix", str(prefix), "--title", "norms"]


def test_the_table(tables, tmp_path, capsys):
    """Table 1's row is timed with its scaling; by its definition it folds."""
    main([*words_of(*tables, tmp_path / "norms"), "--note", "one seed", "--note", "two cores"])
    table = (tmp_path / "norms.md").read_text()
    assert capsys.readouterr().out == table and (tmp_path / "norms.png").stat().st_size > 1000
    assert "| power | 1 | 28.50 | +0.50 | 4.500 | 1.50 | 0.75 | 0.90 | 1.10 | no |" in table
    assert "| power-plain | 1 | 27.25 | -0.75 | 4.500 | 1.25 | 0.62 | 0.90 | 1.10 | yes |" in table
    assert "| rms | 1 | 28.25 | +0.25 | 4.500 | 0.75 | 0.38 | 0.90 | 1.10 | no |" in table
    assert "| layer | 1 | 28.00 | – | 4.500 | 1.00 | 0.50 | 0.90 | 1.10 | no |" in table
    assert table.endswith("- one seed\n- two cores\n")
    with open(tmp_path / "norms.csv", newline="") as stream:
        assert [row["norm"] for row in csv.DictReader(stream)] == [*ROWS]


def test_the_chart_has_a_point_for_each_norm(tables):
    """Differences are those of the same seeds: the baseline has one more."""
    measurements = [Measurement(norm, 1, MEAN, bleu, None, 1, "", "", "") for norm, bleu in ROWS.items()]
    measurements.insert(0, Measurement("layer", 2, MEAN, 30.0, None, 1, "", "", ""))
    speeds = read_speed(tables[1])
    training, evaluation = draw(measurements, speeds, "layer", "").axes
    places = [(line.get_xdata()[0], line.get_ydata()[0]) for line in training.lines if line.get_marker() == "o"]
    assert places == [(1.0, 0.0), (1.5, 0.5), (1.25, -0.75), (0.75, 0.25)]
    assert [text.get_text() for text in evaluation.texts] == [*ROWS]
    with pytest.raises(ValueError, match="no run of layer"):
        draw(measurements[2:], speeds, "layer", "")


def test_a_recipe_with_one_test_set_has_no_mean(tables, tmp_path, capsys):
    quality, speed = tables
    quality.write_text(quality.read_text().replace(MEAN, "test"))
    main(words_of(quality, speed, tmp_path / "norms"))
    assert "| norm | seeds | BLEU, test | Δ |" in capsys.readouterr().out


def test_a_table_that_is_no_csv(tables, tmp_path):
    speed = tables[1]
    for content, message in (
        (speed.read_text().replace("\n", "\r"), "speed.csv: new-line character seen in unquoted field"),
        (speed.read_text() + "float32,128\n", "speed.csv, line 15: expected 9 values"),
    ):
        speed.write_bytes(content.encode())
        with pytest.raises(ValueError, match=message):
            read_speed(speed)


def test_rows_and_their_norms():
    scaled, bare = Speed(1, 1, 1, 1), Speed(2, 2, 2, 2)
    speeds = {"batch (groups) kernels": scaled, "batch kernels": bare}
    assert speed_of("batch", speeds) is scaled and speed_of("batch-plain", speeds) is bare
    assert speed_of("unified", speeds) is speed_of("fixup", speeds) is None
    assert folds("batch-plain") and folds("unified") and not folds("batch") and not folds("rms") and not folds("fixup")


def test_bad_input(tables, tmp_path):
    quality, speed = tables
    (tmp_path / "there.md").touch()
    with pytest.raises(FileExistsError, match="give --force"):
        main(words_of(quality, speed, tmp_path / "there"))
    with pytest.raises(ValueError, match=r"is not a table of benchmarks/bench_norms.py: it has no column dtype"):
        read_speed(quality)
    speed.write_text(speed.read_text() + "float32,512,4096,yes,layer,both,1,1,1\n")
    with pytest.raises(ValueError, match="has 2 sizes; expected one"):
        read_speed(speed)
