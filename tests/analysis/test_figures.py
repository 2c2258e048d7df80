"""The paper's figures from records that are written here, and what is said where something is missing."""

import csv
import itertools

import numpy as np
import pytest
import torch

from fairseq_powernorm.analysis import figures, paper_figures, theory_figures
from fairseq_powernorm.analysis.recorded_runs import RELATIVE, jumps, read_run
from fairseq_powernorm.recording.record import QUANTITIES, Record, format_row

PNG = b"\x89PNG"


def record(folder, values, norm="encoder.layers.0.self_attn_layer_norm", places=("input",), **run):
    """A record of two norms whose quantities are ``values`` times 1, 2, 3 … for the first."""
    written = Record(folder, {"run": run, "interval": 10, "norms": {norm: "batch: 4"}})
    for update, value in enumerate(values, start=1):
        for place, (name, factor) in itertools.product(places, ((norm, 1), ("another", 100))):
            numbers = [factor * value * (number + 1.0) for number in range(len(QUANTITIES))]
            written.append([format_row([10 * update, 0, 0, name, "batch", place, 4, 9, *numbers])])
    return folder


@pytest.fixture
def runs(tmp_path):
    """A Transformer with batch-plain and with batch, which scales; ResNet20 with batch."""
    text, images = tmp_path / "runs" / "mine", tmp_path / "runs" / "cifar10"
    record(text / "batch-plain" / "seed1" / "norm_record", [1, 1, 1, 5])
    record(text / "batch" / "seed1" / "norm_record", [1, 1, 2], places=("input", "scaled"))
    record(images / "batch" / "seed1" / "norm_record", [0.5, 0.5], "stem_norm.norm", images=7, source="JPEG")
    return tmp_path / "runs"


def draw(runs, prefix, *arguments):
    words = ["--runs", str(runs / "mine"), "--images", str(runs / "cifar10"), "--output-prefix", str(prefix)]
    figures.main([*words, *map(str, arguments)])


def table(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_series_and_its_summary(tmp_path):
    run = read_run(record(tmp_path, [1, 3, 2, 4]), "mine")
    assert run.norm == "encoder.layers.0.self_attn_layer_norm" and run.places == ["input"]
    percent, values = run.series("mean_distance", "input")
    assert percent.tolist() == [25, 50, 75, 100] and values.tolist() == [1, 3, 2, 4]
    _, ratios = run.series("variance_distance / running_variance", "input")
    above, below = (QUANTITIES.index(name) + 1 for name in RELATIVE["variance_distance / running_variance"])
    assert ratios == pytest.approx([above / below] * 4)
    (row,) = (row for row in jumps([run]) if row[3] == "mean_distance")
    assert row[4:] == ("3", "3.98", "4", "1.3333")  # of 2 and 4
    assert max(row["mean_distance"] for row in run.rows) == 4  # and not 100 times that, as the other norm's


def test_a_missing_gradient_is_no_point(tmp_path):
    folder = record(tmp_path, [1, 2])
    Record(
        folder, {"run": {}, "interval": 10, "norms": {"encoder.layers.0.self_attn_layer_norm": "batch: 4"}}, 20
    ).append(
        [format_row([30, 0, 0, "encoder.layers.0.self_attn_layer_norm", "batch", "input", 4, 9, *[float("nan")] * 17])]
    )
    percent, values = read_run(folder, "mine").series("gradient_mean", "input")
    assert len(percent) == len(values) == 2


def test_figures_2_to_4_stand_beside_resnet_s(runs, tmp_path):
    draw(runs, tmp_path / "out" / "p", "--figures", "2,3,4")
    for number, norm in itertools.product((2, 3, 4), ("batch", "batch-plain")):
        assert (tmp_path / "out" / f"p_figure{number}_{norm}.png").read_bytes().startswith(PNG)
    rows = table(tmp_path / "out" / "p_figure2_batch.csv")
    curves = dict.fromkeys((row["run"], row["place"], row["quantity"]) for row in rows)
    assert list(curves) == [
        (run, place, quantity)
        for quantity in ("mean_distance", "variance_distance")
        for run, place in (
            ("Transformer, batch", "input"),
            ("Transformer, batch", "scaled"),
            ("ResNet20, batch (7 images of JPEG)", "input"),
        )
    ]
    found = [float(row["value"]) for row in rows if row["run"].startswith("ResNet20, batch (7")]
    assert found == [0.5, 0.5, 1, 1]
    jumps = table(tmp_path / "out" / "p_jumps.csv")
    worst = next(r for r in jumps if r["run"] == "Transformer, batch-plain" and r["quantity"] == "variance_distance")
    assert float(worst["largest"]) == 10 and float(worst["largest_by_median"]) == pytest.approx(10 / 6, rel=1e-3)
    assert (tmp_path / "out" / "p_relative_batch.png").exists()


def test_either_network_alone(runs, tmp_path):
    words = ["--figures", "2", "--output-prefix", str(tmp_path / "out")]
    figures.main(["--runs", str(runs / "mine"), *words])
    assert {row["run"] for row in table(f"{tmp_path}/out_figure2_batch.csv")} == {"Transformer, batch"}
    figures.main(["--images", str(runs / "cifar10"), *words, "--force"])
    assert {row["run"] for row in table(f"{tmp_path}/out_figure2_batch.csv")} == {"ResNet20, batch (7 images of JPEG)"}


def test_a_variant_of_a_norm_stands_beside_itself(runs, tmp_path):
    record(runs / "cifar10" / "power-slow" / "seed1" / "norm_record", [2, 2], "stem_norm.norm")
    draw(runs, tmp_path / "out", "--figures", "2", "--norms", "power-slow")
    assert {row["run"] for row in table(tmp_path / "out_figure2_power-slow.csv")} == {"ResNet20, power-slow"}


def test_the_table_of_jumps_is_replaced_by_force_alone(runs, tmp_path):
    draw(runs, tmp_path / "out", "--figures", "2", "--norms", "batch")
    before = (tmp_path / "out_jumps.csv").read_bytes()
    with pytest.raises(FileExistsError, match=r"out_jumps.csv exists; give --force"):
        draw(runs, tmp_path / "out", "--figures", "3", "--norms", "batch-plain")
    assert (tmp_path / "out_jumps.csv").read_bytes() == before and not (
        tmp_path / "out_figure3_batch-plain.csv"
    ).exists()


def test_a_distance_from_nothing_is_infinite(tmp_path):
    norm = "encoder.layers.0.self_attn_layer_norm"
    written = Record(tmp_path, {"run": {}, "interval": 10, "norms": {norm: "batch: 4"}})
    written.append([format_row([10, 0, 0, norm, "batch", "input", 4, 9, *(0.0 for _ in QUANTITIES)])])
    assert read_run(tmp_path, "mine").series("variance_distance / running_variance", "input")[1].tolist() == [np.inf]
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(ValueError, match="the description of the record names no interval"):
        read_run(tmp_path, "mine")


def test_what_breaks_the_bound_is_seen():
    rows = [
        {"step": step, "norm": "a", "gradient": 1.0, "bound": 2.0, "largest_share": share, "projection_share": 0.1}
        for step, share in ((0, 0.5), (1, 7.0), (2, float("nan")))
    ]
    shares = theory_figures.bound([{**row, "images": "9 of X"} for row in rows]).chart.axes[1]
    (line, _) = shares.lines
    assert line.get_ydata()[1] == 7 < shares.get_ylim()[1] and np.isnan(line.get_ydata()[2])


def test_the_choices_stand_below(runs):
    drawing = paper_figures.figure2([read_run(runs / "cifar10" / "batch" / "seed1" / "norm_record", "ResNet20")])
    words = drawing.chart._supxlabel.get_text().replace("\n", " ")
    assert "ResNet20 (7 images of JPEG): stem_norm.norm, one update in 10" in words and "before the update" in words
    assert [axes.get_xlabel() for axes in drawing.chart.axes] == ["percent of training"] * 2
    assert drawing.chart.axes[0].get_title(loc="left") == "dist(μ_B, μ) = ‖μ_B − μ‖ / d"


def test_figure_5(tmp_path):
    lines = ["test_set,norm,tokens,bleu_mean,bleu_standard_deviation"]
    lines += [
        f"{test},{norm},{tokens},{bleu + test},"
        for test in (1, 3)
        for norm, tokens, bleu in (("layer", 4096, 30), ("layer", 512, 29), ("batch", 4096, 20))
    ]
    (tmp_path / "sizes.csv").write_text("\n".join(lines) + "\n")
    words = ["--output-prefix", str(tmp_path / "out"), "--batch-sizes", str(tmp_path / "sizes.csv")]
    figures.main([*words, "--figures", "5"])
    rows = table(tmp_path / "out_figure5.csv")
    assert [(row["norm"], row["tokens"], float(row["bleu"])) for row in rows] == [
        ("layer", "512", 31),
        ("layer", "4096", 32),
        ("batch", "4096", 22),
    ]
    assert figures.batch_size_scores(tmp_path / "sizes.csv")[1] == (
        "Mean of 2 test sets. Missing of the paper's sizes: 1024, 2048."
    )
    (tmp_path / "sizes.csv").write_text("norm\nlayer\n")
    with pytest.raises(ValueError, match=r"^figure 5: .*sizes.csv is not a table of scripts/batch_size_study.sh"):
        figures.main([*words, "--figures", "5", "--force"])


def averaged(folder, matrix):
    folder.mkdir(parents=True)
    torch.save({"model": {"encoder.embed_tokens.weight": torch.tensor(matrix)}}, folder / "averaged.pt")


def test_figure_6(tmp_path):
    """Of a diagonal the singular values are its entries."""
    averaged(tmp_path / "layer" / "seed1", [[0.0, 3.0], [4.0, 0.0], [0.0, 0.0]])
    words = ["--runs", str(tmp_path), "--output-prefix", str(tmp_path / "out"), "--figures", "6"]
    with pytest.raises(ValueError, match=r"^figure 6: .*power/seed1/averaged.pt is missing: the recipe's run of power"):
        figures.main(words)
    averaged(tmp_path / "power" / "seed1", [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    figures.main(words)
    values = np.array(
        [[float(row["singular_value"]), float(row["by_the_largest"])] for row in table(f"{tmp_path}/out_figure6.csv")]
    )
    assert values == pytest.approx(np.array([[4, 1], [3, 0.75], [2, 1], [0, 0]]), abs=1e-12)


def test_what_is_missing(runs, tmp_path, caplog):
    """Asked for it is an error, else it is left out."""
    caplog.set_level("INFO")
    for arguments, message in (
        (["--figures", "5"], r"^figure 5: the table of the batch size study is missing"),
        (["--figures", "7"], r"^--figures takes 2, 3, 4, 5, 6, smoothness, bound, got 7$"),
        (
            ["--figures", "2", "--norms", "power"],
            r"^figure 2: no record of power with seed 1; recorded norms: batch, batch-plain$",
        ),
        (
            ["--figures", "2", "--seed", "2"],
            r"^figure 2: no record of norms of seed 2 in .*: train with --override record=true$",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            draw(runs, tmp_path / "out", *arguments)
    assert not list(tmp_path.glob("out*"))
    draw(runs, tmp_path / "out")
    assert "figure 5 is left out: " in caplog.text and "figure 6 is left out: " in caplog.text
    with pytest.raises(FileExistsError, match=r"give --force"):
        draw(runs, tmp_path / "out")
    with pytest.raises(ValueError, match=r"^there are runs for none of the figures$"):
        draw(tmp_path / "nothing", tmp_path / "other")


def test_bad_records(tmp_path):
    with pytest.raises(ValueError, match=r"nothing is recorded yet; the first record comes at update 10$"):
        read_run(record(tmp_path / "two", []), "mine")


def test_lemma_2_and_theorem_4(tmp_path):
    folder = tmp_path / "images" / "smoothness"
    folder.mkdir(parents=True)
    words = ["--images", str(tmp_path / "images"), "--output-prefix", str(tmp_path / "out")]
    with pytest.raises(
        ValueError, match=r"^figure smoothness: .* has no smoothness_NORM.csv: scripts/smoothness_study.sh"
    ):
        figures.main([*words, "--figures", "smoothness"])
    with pytest.raises(
        ValueError, match=r"^figure bound: .*bound_power.csv is missing: scripts/smoothness_study.sh makes"
    ):
        figures.main([*words, "--figures", "bound"])
    header = "step,loss,gradient_norm,loss_lowest,loss_highest,gradient_distance_lowest,gradient_distance_highest"
    for norm in ("batch", "none"):
        lines = f"{header},effective_smoothness,images\n0,1,2,3,4,5,6,7,9 of X\n10,1,2,3,4,5,6,8,9 of X\n"
        (folder / f"smoothness_{norm}.csv").write_text(lines)
    lines = ["step,norm,gradient,bound,largest_share,projection_share,images", "0,b,1,2,0.5,0,9 of X"]
    lines = "\n".join([*lines, "0,a,1,2,0.75,0.1,9 of X", "1,b,1,3,0.4,0.2,9 of X", ""])
    (folder / "bound_power.csv").write_text(lines)
    figures.main([*words, "--figures", "smoothness,bound"])
    rows = table(tmp_path / "out_smoothness.csv")
    assert [(row["norm"], row["effective_smoothness"]) for row in rows] == [
        *(("none", "7"), ("none", "8"), ("batch", "7"), ("batch", "8"))
    ]
    assert len(table(tmp_path / "out_bound.csv")) == 3 and (tmp_path / "out_bound.png").read_bytes().startswith(PNG)
    (folder / "bound_power.csv").write_text("step\n1\n")
    with pytest.raises(
        ValueError, match=r"bound_power.csv is not a table of scripts/smoothness_study.sh: it has no column norm"
    ):
        figures.main([*words, "--figures", "bound", "--force"])
