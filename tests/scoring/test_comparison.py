"""BLEU before and after: pairs of runs, their differences and their significance."""

import csv
import json
import random
import shutil

import pytest

from fairseq_powernorm.scoring import bleu, comparison
from fairseq_powernorm.scoring.runs import read_runs


def write_run(folder, norm, seed=1, error_rate=0.2, test_sets=("test",)):
    """A finished run of translations in which a share of the words is wrong."""
    run, generator, mistakes = folder / norm / f"seed{seed}", random.Random(1), random.Random(seed)
    lines = [generator.choices("ABCDEFGH", k=9) for _ in range(60)]
    wrong = [["X" if mistakes.random() < error_rate else word for word in line] for line in lines]
    for test_set in test_sets:
        paths = [run / test_set / name for name in ("hypothesis.txt", "reference.txt", "score.json")]
        paths[0].parent.mkdir(parents=True)
        for path, text in zip(paths, (wrong, lines), strict=False):
            path.write_text("".join(f"{' '.join(line)}\n" for line in text))
        hypothesis, reference, score = map(str, paths)
        bleu.main(["--hypothesis", hypothesis, "--reference", reference, "--output", score])
    record = {"recipe": folder.name, "norm": norm, "seed": seed, "updates": 9, "train_seconds": 9.0}
    (run / "run.json").write_text(json.dumps({**record, "commit": "x", "hardware": "y", "versions": {"torch": "2"}}))


@pytest.fixture
def recipe(tmp_path):
    return tmp_path / "tiny_de_en"


@pytest.fixture
def after(recipe, tmp_path):
    """Power comes out better, batch as before; layer has no second ending."""
    for norm, error_rate in (("layer", 0.2), ("power", 0.3), ("batch", 0.25)):
        write_run(recipe, norm, 1, error_rate, test_sets=("test", "valid"))
    write_run(recipe, "power", 2, 0.3)
    folder = tmp_path / "second" / recipe.name
    write_run(folder, "power", 1, 0.1, test_sets=("test", "valid"))
    write_run(folder, "power", 2, 0.1)
    shutil.copytree(recipe / "batch", folder / "batch")
    return folder


def test_pairs_by_norm_and_seed(recipe, after):
    before, later = read_runs(recipe), read_runs(after)
    changes = comparison.compare(before, later)
    assert [(change.test_set, change.norm, change.seeds) for change in changes] == [
        ("test", "batch", (1,)),
        ("test", "power", (1, 2)),
        ("valid", "batch", (1,)),
        ("valid", "power", (1,)),
    ]
    batch, power = changes[:2]
    assert batch.difference == 0 and batch.p_values == (1.0,)
    bleu = [[run.scores["test"].bleu for run in side if run.norm == "power"] for side in (before, later)]
    assert power.before == pytest.approx(sum(bleu[0]) / 2) and power.after == pytest.approx(sum(bleu[1]) / 2)
    assert power.difference > 10 and all(p < 0.01 for p in power.p_values) and len(power.p_values) == 2


def test_the_files(recipe, after, tmp_path, capsys):
    prefix = tmp_path / "out" / "recalibration"
    arguments = ["--before", str(recipe), "--after", str(after), "--output-prefix", str(prefix), "--command", "make it"]
    comparison.main(arguments)
    text = capsys.readouterr().out
    assert text == (tmp_path / "out" / "recalibration.md").read_text(encoding="utf-8")
    assert "| +0.00 | 1.000 | 1 |" in text and "| <0.001, <0.001 | 1, 2 |" in text
    assert "- Reproduce: `make it`" in text and "sacreBLEU `nrefs:1|case:mixed" in text
    with open(f"{prefix}.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[1]["norm"] == "power" and rows[1]["seeds"] == "1 2"
    assert float(rows[1]["difference"]) == pytest.approx(float(rows[1]["after"]) - float(rows[1]["before"]))
    with pytest.raises(FileExistsError, match="--force"):
        comparison.main(arguments)


def test_nothing_in_common(recipe, tmp_path):
    write_run(recipe, "layer", 1)
    write_run(tmp_path / "other" / recipe.name, "power", 1)
    with pytest.raises(ValueError, match="no run with a test set in common"):
        comparison.compare(read_runs(recipe), read_runs(tmp_path / "other" / recipe.name))


def test_another_reference_is_no_comparison(recipe, after):
    reference = after / "power" / "seed1" / "test" / "reference.txt"
    reference.write_text(reference.read_text().replace("A", "B"))
    with pytest.raises(ValueError, match=r"the references in .* differ"):
        comparison.compare(read_runs(recipe), read_runs(after))
