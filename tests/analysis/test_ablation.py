"""The comparison of norms over seeds: numbers worked by hand, its files, what is refused."""

import csv
import json
import re
import shutil

import pytest

from fairseq_powernorm.analysis import ablation, bar_chart
from fairseq_powernorm.analysis.ablation import Difference
from fairseq_powernorm.analysis.measurements import MEAN, POOLED
from fairseq_powernorm.scoring import bleu

REFERENCE = [f"a b c d e f g {number} ." for number in range(20)]


def write_run(folder, norm, seed, wrong, test_sets=("flickr", "coco"), losses=(5.0, 4.5)):
    """A finished run whose first ``wrong`` lines are nonsense."""
    run = folder / norm / f"seed{seed}"
    for place, test_set in enumerate(test_sets):
        (run / test_set).mkdir(parents=True)
        lines = ["x"] * (wrong + place) + REFERENCE[wrong + place :]
        for name, text in (("hypothesis", lines), ("reference", REFERENCE)):
            (run / test_set / f"{name}.txt").write_text("".join(f"{line}\n" for line in text))
        files = [f"--{name}={run / test_set / name}.txt" for name in ("hypothesis", "reference")]
        bleu.main([*files, "--output", str(run / test_set / "score.json")])
    record = {"recipe": folder.name, "norm": norm, "seed": seed, "updates": 100, "train_seconds": 60.0}
    record |= {"commit": "abc123", "hardware": "1 × CPU", "versions": {}}
    (run / "run.json").write_text(json.dumps(record))
    (run / "train.log").write_text(
        "".join(
            f'x | INFO | valid | {{"valid_num_updates": {50 * n}, "valid_loss": {loss}, "valid_nll_loss": 3}}\n'
            for n, loss in enumerate(losses, start=1)
        )
    )
    return run


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "tiny_de_en"
    for seed, (layer, power) in enumerate([(4, 3), (5, 2), (6, 4)], start=1):
        write_run(folder, "layer", seed, layer)
        write_run(folder, "power-plain", seed, power)
    return folder


def test_a_difference_by_hand():
    """Differences 1, 2, 3: mean 2, s = 1, t = 2 √3 with 2 degrees of freedom: p = 0.0742, ± 4.3027/√3."""
    table = {"layer": {1: 10.0, 2: 10.0, 3: 10.0}, "power": {1: 11.0, 2: 12.0, 3: 13.0, 9: 0.0}}
    found = ablation.differences(table, "layer")
    assert found["layer"].values == {} and found["power"].values == {1: 1.0, 2: 2.0, 3: 3.0}
    assert found["power"].p_value == pytest.approx(0.0742, abs=1e-4)
    assert found["power"].interval == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-4)


def test_the_scatter_is_that_of_all_norms():
    """Two norms as steady as each other, a third that is not, and one with a single seed. By hand: the rests of the
    three are ± 1, ± 1 and ∓ 2 over the seeds 1 and 2, so the variance is (4 · 1 + 2 · 4)/2 = 6 with 2 degrees of
    freedom; a difference over n seeds has the standard error √(12/n), and t(0.975, 2) = 4.3027."""
    table = {"layer": {1: 10.0, 2: 8.0}, "batch": {1: 12.0, 2: 10.0}, "power": {1: 10.0, 2: 14.0}, "rms": {1: 16.0}}
    assert ablation.scatter(table) == (pytest.approx(6), 2)
    found = ablation.differences(table, "layer")
    assert found["batch"].interval == pytest.approx((2 - 4.3027 * 6**0.5, 2 + 4.3027 * 6**0.5), abs=1e-3)
    assert found["rms"].interval == pytest.approx((6 - 4.3027 * 12**0.5, 6 + 4.3027 * 12**0.5), abs=1e-3)
    assert found["batch"].p_value == pytest.approx(0.500, abs=1e-3)  # t = 2/√6 with 2 degrees of freedom


def test_one_seed_has_no_test():
    found = ablation.differences({"layer": {1: 10.0}, "power": {1: 11.0}, "batch": {2: 11.0}}, "layer")
    assert found["power"] == Difference({1: 1.0}) and found["batch"] == Difference({})
    assert [ablation.describe(found[norm]) for norm in ("power", "batch")] == [("+1.00", "–"), ("–", "–")]


def test_the_table_the_csv_and_the_chart(runs, tmp_path, capsys):
    prefix = tmp_path / "out"
    capsys.readouterr()
    ablation.main(["--runs", str(runs), "--output-prefix", str(prefix), "--command", "study"])
    text = (tmp_path / "out.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == text
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == ["norm", "seeds", f"BLEU, {MEAN}", "Δ to layer", "p", "validation loss", "coco", "flickr", POOLED]
    assert [row[:2] for row in rows[2:]] == [["layer", "1, 2, 3"], ["power-plain", "1, 2, 3"]]
    assert rows[2][3:6] == ["–", "–", "4.500 ± 0.000"]
    records = list(csv.DictReader((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()))
    assert len(records) == 2 * 3 * 4 and {record["commit"] for record in records} == {"abc123"}
    scores = {(r["norm"], r["seed"], r["test_set"]): float(r["bleu"]) for r in records}
    own = [scores["layer", "1", name] for name in ("coco", "flickr")]
    assert scores["layer", "1", MEAN] == pytest.approx(sum(own) / 2) and own[0] < scores["layer", "1", POOLED] < own[1]
    mean = sum(scores["power-plain", seed, MEAN] - scores["layer", seed, MEAN] for seed in "123") / 3
    assert rows[3][3].startswith(f"{mean:+.2f} [")
    assert "`abc123`" in text and "Reproduce: `study`" in text
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(FileExistsError, match="--force"):
        ablation.main(["--runs", str(runs), "--output-prefix", str(prefix)])


def test_what_does_not_compare_is_refused(runs, tmp_path):
    arguments = ["--runs", str(runs), "--output-prefix", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="no run of the baseline rms; there are: layer, power-plain"):
        ablation.main([*arguments, "--baseline", "rms"])
    write_run(runs, "batch", 1, 3, test_sets=("flickr",))
    with pytest.raises(ValueError, match="batch/seed1 is not scored on coco, other runs are"):
        ablation.main(arguments)
    assert not list(tmp_path.glob("out.*"))


def test_trainings_of_another_machine_join_by_their_table(runs, tmp_path):
    arguments = ["--runs", str(runs), "--output-prefix"]
    ablation.main([*arguments, str(tmp_path / "all")])
    shutil.rmtree(runs / "power-plain" / "seed3")
    shutil.rmtree(runs / "layer" / "seed1")
    table = tmp_path / "all.csv"
    ablation.main([*arguments, str(tmp_path / "joined"), "--with", str(table)])
    for suffix in ("csv", "md", "png"):
        assert (tmp_path / f"joined.{suffix}").read_bytes() == (tmp_path / f"all.{suffix}").read_bytes()
    text = table.read_text(encoding="utf-8")
    for content, message in (
        (text.replace("tok:13a", "tok:none"), "layer seed 1 is scored by .*tok:none.*, here by .*tok:13a"),
        (re.sub(r"^(layer,2,coco),[0-9.]+", r"\1,1.0", text, flags=re.MULTILINE), "layer seed 2 has 1.0 on coco, and "),
        (
            "".join(line for line in text.splitlines(True) if ",flickr," not in line),
            "seed 1 is not scored on flickr, the",
        ),
        (text.replace("flickr", "europarl"), "is scored on europarl, the runs here are not"),
        (text.replace("layer,1,", "layer,x,", 1), "all.csv, line 2: invalid literal for int.*'x'"),
        ("norm,bleu\n", "all.csv is not a table of .*ablation: it has no column seed, test_set, "),
    ):
        table.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            ablation.main([*arguments, str(tmp_path / "no"), "--with", str(table)])
    assert not list(tmp_path.glob("no.*"))


def test_a_variant_has_the_colour_of_its_norm():
    assert bar_chart.color_of("power-scaling-only") == bar_chart.color_of("power") != bar_chart.color_of("batch")
