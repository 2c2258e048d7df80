"""The table from small run folders: its numbers by hand or by sacreBLEU's command, its text, what is refused."""

import csv
import json
import logging
import os
import random
import statistics
import subprocess
import sys

import pytest

from fairseq_powernorm.scoring import bleu
from fairseq_powernorm.scoring.outputs import output_paths, write_outputs
from fairseq_powernorm.scoring.table import build_table, main, read_runs, to_markdown

WORDS = [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:"


def reference_lines(sentences=60):
    generator = random.Random(1)
    return [" ".join(generator.choices(WORDS, k=generator.randint(5, 12))) for _ in range(sentences)]


def translate(lines, error_rate, seed):
    """The lines with a share of their words replaced."""
    generator = random.Random(seed)

    def wrong(word):
        return generator.choice(WORDS) if generator.random() < error_rate else word

    return [" ".join(wrong(word) for word in line.split()) for line in lines]


def write_run(folder, norm="layer", seed=1, error_rate=0.2, test_sets=("test",), score_options=(), **changes):
    """A finished run's folder, as the recipe leaves it."""
    run = folder / norm / f"seed{seed}"
    record = {"recipe": folder.name, "norm": norm, "seed": seed, "updates": 100, "train_seconds": 60.0}
    record |= {"commit": "abc123", "hardware": "1 × CPU", "versions": {"torch": "2.13.0", "sacrebleu": "2.6.0"}}
    record |= {"started": "a field that the table has no use for"}
    for test_set in test_sets:
        (run / test_set).mkdir(parents=True)
        hypothesis, reference, score = (run / test_set / f for f in ("hypothesis.txt", "reference.txt", "score.json"))
        hypothesis.write_text("\n".join(translate(reference_lines(), error_rate, seed)) + "\n")
        reference.write_text("\n".join(reference_lines()) + "\n")
        files = ["--hypothesis", str(hypothesis), "--reference", str(reference), "--output", str(score)]
        bleu.main([*files, *score_options])
    (run / "checkpoints").mkdir()
    (run / "run.json").write_text(json.dumps(record | changes))
    return run


def recorded(run, field="bleu"):
    return json.loads((run / "test" / "score.json").read_text())[field]


@pytest.fixture
def recipe(tmp_path):
    folder = tmp_path / "tiny_de_en"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def restore_logging():
    """The commands set sacreBLEU's log level."""
    level = logging.getLogger("sacrebleu").level
    yield
    logging.getLogger("sacrebleu").setLevel(level)


def cells(markdown, norm):
    (line,) = [line for line in markdown.splitlines() if line.startswith(f"| {norm} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_read_runs_finds_every_finished_run(recipe):
    write_run(recipe, "layer", 1, test_sets=("test", "valid"))
    write_run(recipe, "power", 2).rename(recipe / "power" / "seed2,train.lr=0.1")  # of a sweep over a flag
    write_run(recipe, "power", 2, updates=7, train_seconds=3)
    (recipe / "power" / "notes").mkdir()
    runs = {(run.norm, run.seed): run for run in read_runs(recipe)}
    assert set(runs) == {("layer", 1), ("power", 2)}
    assert set(runs["layer", 1].scores) == {"test", "valid"}
    assert (runs["power", 2].updates, runs["power", 2].train_seconds, runs["power", 2].commit) == (7, 3, "abc123")
    assert runs["power", 2].scores["test"].bleu == recorded(recipe / "power" / "seed2")


def test_unfinished_runs_are_left_out_with_a_warning(recipe, caplog):
    write_run(recipe, "layer", 1)
    (write_run(recipe, "layer", 2) / "test" / "score.json").unlink()
    (write_run(recipe, "layer", 3) / "run.json").unlink()
    (write_run(recipe, "layer", 4, test_sets=("test", "valid")) / "valid" / "score.json").unlink()
    caplog.clear()  # writing a run scores it, which is in the log too where INFO is
    runs = read_runs(recipe)
    assert [(run.seed, list(run.scores)) for run in runs] == [(1, ["test"]), (4, ["test"])]
    assert all(f"layer/seed{seed}" in caplog.text for seed in (2, 3))
    assert "layer/seed4/valid is left out: no score.json" in caplog.text
    assert "seed1" not in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "list at the top"),
        ("{}", "no field 'recipe'"),
        ('{"recipe": "r", "norm": "layer", "seed": "1"}', "seed is '1'"),
        ('{"recipe": "r", "norm": "layer", "seed": true}', "seed is True"),
    ],
)
def test_malformed_run_is_named(recipe, content, message):
    (write_run(recipe) / "run.json").write_text(content)
    with pytest.raises(ValueError, match=f"layer/seed1/run.json: .*{message}"):
        read_runs(recipe)


def test_malformed_score_is_named(recipe):
    (write_run(recipe) / "test" / "score.json").write_text("{")
    with pytest.raises(ValueError, match=r"layer/seed1/test/score.json"):
        read_runs(recipe)


@pytest.mark.parametrize(
    ("changes", "message"), [({"norm": "layer"}, "both norm layer, seed 1"), ({"recipe": "wmt"}, "recipe 'wmt'")]
)
def test_runs_that_do_not_belong_together_are_refused(recipe, changes, message):
    write_run(recipe, "layer")
    path = write_run(recipe, "power") / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match=message):
        read_runs(recipe)


def test_no_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="absent: no such folder"):
        read_runs(tmp_path / "absent")


def test_rows_by_hand(recipe):
    """Layer has seeds 1, 2, 3, power 2, 3, 4: mean and deviation over its own, the difference over 2 and 3."""
    layer = {seed: recorded(write_run(recipe, "layer", seed, 0.3)) for seed in (1, 2, 3)}
    power = {
        seed: recorded(write_run(recipe, "power", seed, 0.2, updates=100 * seed, train_seconds=seed))
        for seed in (2, 3, 4)
    }
    layer_row, power_row = build_table(read_runs(recipe), "test")
    assert (layer_row.norm, layer_row.seeds, layer_row.difference, layer_row.p_values) == ("layer", (1, 2, 3), None, ())
    assert (power_row.norm, power_row.seeds, power_row.shared_seeds) == ("power", (2, 3, 4), (2, 3))
    mean = sum(power.values()) / 3
    assert power_row.bleu.mean == pytest.approx(mean)
    assert power_row.bleu.standard_deviation == pytest.approx((sum((x - mean) ** 2 for x in power.values()) / 2) ** 0.5)
    assert power_row.difference == pytest.approx((power[2] + power[3]) / 2 - (layer[2] + layer[3]) / 2)
    assert len(power_row.p_values) == 2
    assert (power_row.updates, power_row.train_seconds) == (300, 3)


def test_p_values_agree_with_the_sacrebleu_command(recipe):
    runs = {norm: write_run(recipe, norm, 5, rate) for norm, rate in [("layer", 0.21), ("batch", 0.25), ("power", 0.2)]}
    files = [str(runs[norm] / "test" / "hypothesis.txt") for norm in ("layer", "batch", "power")]
    reference = str(runs["layer"] / "test" / "reference.txt")
    command = [sys.executable, "-m", "sacrebleu", reference, "-i", *files, "--paired-bs"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SACREBLEU")}
    completed = subprocess.run([*command, "-f", "json"], capture_output=True, text=True, check=True, env=environment)
    expected = [system["BLEU"]["p_value"] for system in json.loads(completed.stdout)]
    rows = build_table(read_runs(recipe), "test")
    assert [row.p_values for row in rows] == [(), (pytest.approx(expected[1]),), (pytest.approx(expected[2]),)]
    assert [row.bleu.standard_deviation for row in rows] == [None, None, None]


def test_rows_are_ordered_and_another_baseline_can_be_chosen(recipe):
    for norm in ("zeta", "power-released", "alpha", "power", "pn-v", "batch", "layer"):
        write_run(recipe, norm)
    rows = build_table(read_runs(recipe), "test", baseline="batch")
    assert [row.norm for row in rows] == ["layer", "batch", "pn-v", "power", "power-released", "alpha", "zeta"]
    assert [row.norm for row in rows if row.difference is None] == ["batch"]
    assert {row.p_values for row in rows if row.norm != "batch"} == {(1.0,)}  # all translate alike


def test_without_baseline_there_is_no_difference(recipe, caplog):
    write_run(recipe, "power")
    runs = read_runs(recipe)
    (row,) = build_table(runs, "test")
    assert (row.difference, row.p_values) == (None, ())
    assert "no run of the baseline layer" in caplog.text
    markdown = to_markdown({"test": [row]}, runs)
    assert cells(markdown, "power (PN)")[2:4] == ["–", "–"]
    assert "bootstrap" not in markdown


def test_without_a_shared_seed_there_is_no_difference(recipe, caplog):
    write_run(recipe, "layer", 1)
    write_run(recipe, "power", 2)
    assert [row.difference for row in build_table(read_runs(recipe), "test")] == [None, None]
    assert "power and layer share no seed" in caplog.text


def test_unknown_test_set_lists_the_known(recipe):
    write_run(recipe, test_sets=("test2016", "valid"))
    with pytest.raises(ValueError, match="'tset'; there are: test2016, valid"):
        build_table(read_runs(recipe), "tset")


def test_different_references_are_refused(recipe):
    write_run(recipe, "layer")
    path = write_run(recipe, "power") / "test" / "reference.txt"
    path.write_text(path.read_text().upper().replace("A", "B"))
    with pytest.raises(ValueError, match=r"references in .*layer/seed1 and .*power/seed1 differ"):
        build_table(read_runs(recipe), "test")


def test_different_score_settings_are_refused(recipe):
    write_run(recipe, "layer")
    write_run(recipe, "power", score_options=["--lowercase"])
    with pytest.raises(ValueError, match=r"scored in two ways: .*case:mixed.*case:lc"):
        build_table(read_runs(recipe), "test")


def test_a_score_of_other_translations_is_refused(recipe):
    write_run(recipe, "layer")
    run = write_run(recipe, "power")
    (run / "test" / "hypothesis.txt").write_text("\n".join(translate(reference_lines(), 0.5, 9)) + "\n")
    with pytest.raises(ValueError, match=r"power/seed1/test/score.json: BLEU .* score it again"):
        build_table(read_runs(recipe), "test")


def test_markdown_cells_and_provenance(recipe):
    layer = [recorded(write_run(recipe, "layer", seed, 0.5, train_seconds=11100)) for seed in (1, 2)]
    power = recorded(write_run(recipe, "power", 1, 0.1, commit="def456", train_seconds=760.4))
    chrf = {norm: [recorded(path, "chrf") for path in sorted((recipe / norm).iterdir())] for norm in ("layer", "power")}
    runs = read_runs(recipe)
    markdown = to_markdown({"test": build_table(runs, "test")}, runs, command="scripts/run_recipe.sh --recipe tiny")
    assert "| norm | BLEU | Δ to LN | p | chrF2 | seeds | updates | train time |" in markdown
    layer_text = f"{statistics.mean(layer):.2f} ± {abs(layer[0] - layer[1]) / 2**0.5:.2f}"
    layer_chrf = f"{statistics.mean(chrf['layer']):.2f} ± {abs(chrf['layer'][0] - chrf['layer'][1]) / 2**0.5:.2f}"
    layer_cells = ["layer (LN)", layer_text, "–", "–", layer_chrf, "1, 2", "100", "3 h 05 min"]
    assert cells(markdown, "layer (LN)") == layer_cells
    chrf_text = f"{chrf['power'][0]:.2f}"
    power_cells = [f"{power:.2f}", f"+{power - layer[0]:.2f}", "<0.001", chrf_text, "1", "100", "12 min 40 s"]
    assert cells(markdown, "power (PN)") == ["power (PN)", *power_cells]
    assert f"- BLEU (protocol detokenized): sacreBLEU `{SIGNATURE}" in markdown
    assert "- chrF2: sacreBLEU `nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:" in markdown
    assert "paired bootstrap of the first BLEU, 1000 resamples, seed 12345" in markdown
    assert "published" not in markdown and "prep" not in markdown
    assert "Δ and p of power are over the seeds that layer has too: 1." in markdown
    assert "- Commit: `abc123` (layer seed 1, 2), `def456` (power seed 1)" in markdown
    assert "- Hardware: 1 × CPU\n" in markdown
    assert "- Versions: sacrebleu 2.6.0, torch 2.13.0\n" in markdown
    assert markdown.endswith("- Reproduce: `scripts/run_recipe.sh --recipe tiny`\n")


def test_csv_holds_the_rows_unrounded(recipe, tmp_path):
    for seed in (1, 2):
        write_run(recipe, "layer", seed, 0.5, test_sets=("test", "valid"))
        write_run(recipe, "power", seed, test_sets=("test", "valid"))
    runs = read_runs(recipe)
    tables = {test_set: build_table(runs, test_set) for test_set in ("valid", "test")}
    paths = output_paths(str(tmp_path / "table"), force=False)
    write_outputs(paths, "", [row for rows in tables.values() for row in rows])
    with open(tmp_path / "table.csv", newline="") as stream:
        records = list(csv.DictReader(stream))
    written = [(record["test_set"], record["norm"]) for record in records]
    assert written == [("valid", "layer"), ("valid", "power"), ("test", "layer"), ("test", "power")]
    row = tables["test"][1]
    assert float(records[3]["bleu_mean"]) == row.bleu.mean
    assert float(records[3]["bleu_standard_deviation"]) == row.bleu.standard_deviation
    assert float(records[3]["difference"]) == row.difference
    assert tuple(map(float, records[3]["p_values"].split())) == row.p_values
    assert records[3]["seeds"] == "1 2"
    assert records[2]["difference"] == records[2]["p_values"] == ""


def test_command_writes_prints_and_does_not_overwrite(recipe, tmp_path, capsys):
    write_run(recipe, "layer", test_sets=("test", "valid"))
    write_run(recipe, "power", test_sets=("test",))
    capsys.readouterr()
    prefix = tmp_path / "results" / "tiny.v1"
    arguments = ["--runs", str(recipe), "--output-prefix", str(prefix), "--command", "make it"]
    main(arguments)
    markdown = (tmp_path / "results" / "tiny.v1.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == markdown
    assert markdown.index("## test") < markdown.index("## valid")
    assert "- Reproduce: `make it`" in markdown
    assert len((tmp_path / "results" / "tiny.v1.csv").read_text().splitlines()) == 4
    with pytest.raises(FileExistsError, match=r"tiny.v1.md exists"):
        main(arguments)
    main([*arguments, "--test-set", "test", "--force"])
    assert "## valid" not in capsys.readouterr().out


def test_command_names_itself_as_what_reproduces_the_table(recipe, tmp_path, capsys):
    write_run(recipe)
    main(["--runs", str(recipe), "--output-prefix", str(tmp_path / "a b")])
    assert f"--output-prefix '{tmp_path}/a b'`" in capsys.readouterr().out


def test_a_table_says_that_its_trainings_are_shorter_than_the_recipe(recipe, tmp_path, capsys):
    write_run(recipe)
    capsys.readouterr()
    for updates, said in (("100", ""), ("250", "- Not converged: trained for 100 of the recipe's 250 updates.\n")):
        words = ["--runs", str(recipe), "--output-prefix", str(tmp_path / "table"), "--force"]
        main([*words, "--recipe-updates", updates])
        lines = capsys.readouterr().out.partition("- Reproduce: ")[2].partition("\n")[2]
        assert lines == said


def test_command_without_a_finished_run(recipe, tmp_path):
    with pytest.raises(ValueError, match="tiny_de_en: no finished run"):
        main(["--runs", str(recipe), "--output-prefix", str(tmp_path / "out")])
