"""Runs scored by several protocols, and their table: further columns, chrF, signatures, published figures."""

import csv
import json
import logging
import random
import re
import statistics

import pytest

from fairseq_powernorm.scoring import bleu
from fairseq_powernorm.scoring.rows import build_table
from fairseq_powernorm.scoring.runs import read_runs
from fairseq_powernorm.scoring.table import main

PUBLISHED = ["--published", "layer=35.5,batch=34.4", "--published", "power=35.9", "--published-source", "Shen et al."]


def tokens(error_rate, seed, sentences=60):
    """Lines of Moses' tokens, a share of their words replaced."""
    generator, mistakes = random.Random(1), random.Random(seed)
    words = [*"abcdefghijklmnop", "well-known", "half @-@ way", "A"]
    lines = [generator.choices(words, k=generator.randint(5, 12)) for _ in range(sentences)]
    return [
        " ".join(mistakes.choice(words) if mistakes.random() < error_rate else word for word in line) + " ."
        for line in lines
    ]


def write_run(
    folder, norm, seed=1, error_rate=0.2, main_protocol="tokenized", further=("detokenized",), test_sets=("test",)
):
    """A run as a recipe of Moses' tokens leaves it: the tokenised text, and the detokenised beside it."""
    run = folder / norm / f"seed{seed}"
    record = {"recipe": folder.name, "norm": norm, "seed": seed, "updates": 100, "train_seconds": 60.0}
    record |= {"commit": "abc123", "hardware": "1 × CPU", "versions": {"torch": "2.13.0"}}
    for test_set in test_sets:
        (run / test_set).mkdir(parents=True)
        for side, lines in (("hypothesis", tokens(error_rate, seed)), ("reference", tokens(0, 0))):
            (run / test_set / f"{side}.txt").write_text("\n".join(lines) + "\n")
            detokenized = "\n".join(line.removesuffix(" .").replace(" @-@ ", "-") + "." for line in lines)
            (run / test_set / f"{side}.detokenized.txt").write_text(f"{detokenized}\n")
        score(run, "score.json", main_protocol, test_set=test_set)
        for protocol in further:
            score(run, f"score.{protocol}.json", protocol, ".detokenized", test_set)
    (run / "run.json").write_text(json.dumps(record))
    return run


def score(run, name, protocol, suffix="", test_set="test"):
    folder = run / test_set
    texts = [
        "--hypothesis",
        str(folder / f"hypothesis{suffix}.txt"),
        "--reference",
        str(folder / f"reference{suffix}.txt"),
    ]
    bleu.main([*texts, "--protocol", protocol, "--output", str(folder / name), "--force"])


def recorded(run, name):
    return json.loads((run / "test" / name).read_text())


def cells(markdown, first):
    (line,) = [line for line in markdown.splitlines() if line.startswith(f"| {first} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def column(markdown, heading):
    """A column's cells by norm."""
    place = cells(markdown, "norm").index(heading)
    rows = [line for line in markdown.splitlines() if re.match(r"\| [a-z]", line) and not line.startswith("| norm ")]
    return {row.split("|")[1].split()[0]: row.split("|")[place + 1].strip() for row in rows}


@pytest.fixture
def recipe(tmp_path):
    folder = tmp_path / "tiny_de_en"
    folder.mkdir()
    return folder


@pytest.fixture
def make_table(recipe, tmp_path, capsys):
    """Runs the command; returns the Markdown and the CSV's records."""
    level = logging.getLogger("sacrebleu").level

    def make(*options):
        capsys.readouterr()
        prefix = tmp_path / "results" / "tiny"
        main(["--runs", str(recipe), "--output-prefix", str(prefix), "--force", *options])
        with open(f"{prefix}.csv", newline="", encoding="utf-8") as stream:
            return capsys.readouterr().out, list(csv.DictReader(stream))

    yield make
    logging.getLogger("sacrebleu").setLevel(level)  # the command sets it


def test_runs_hold_scores_by_protocol(recipe):
    write_run(recipe, "layer", further=("detokenized", "detokenized-lowercase"))
    write_run(recipe, "power", further=())
    layer, power = read_runs(recipe)
    assert layer.scores["test"].protocol == "tokenized"
    assert set(layer.further_scores["test"]) == {"detokenized", "detokenized-lowercase"}
    further = layer.score("test", "detokenized")
    assert further.bleu == recorded(layer.folder, "score.detokenized.json")["bleu"] != layer.score("test").bleu
    assert layer.reference_path("test", "detokenized").name == "reference.detokenized.txt"
    assert layer.reference_path("test").name == "reference.txt"
    assert power.further_scores == {"test": {}}


def test_a_further_score_of_the_main_text_has_the_main_reference(recipe):
    score(write_run(recipe, "layer", main_protocol="compounds", further=()), "score.tokenized.json", "tokenized")
    (run,) = read_runs(recipe)
    assert run.reference_path("test", "tokenized").name == "reference.txt"


@pytest.mark.parametrize(
    ("name", "protocol", "message"),
    [
        ("score.moses.json", "detokenized", "score.moses.json: protocol 'moses' is unknown"),
        ("score.compounds.json", "detokenized", "protocol is 'detokenized', expected 'compounds'"),
        ("score.tokenized.json", "tokenized", "tokenized is the protocol of score.json too"),
    ],
)
def test_score_files_that_are_refused(recipe, name, protocol, message):
    score(write_run(recipe, "layer"), name, protocol)
    with pytest.raises(ValueError, match=message):
        read_runs(recipe)


def test_columns_of_further_protocols_and_chrf(recipe, make_table):
    names = ("score.json", "score.detokenized.json")
    runs = [write_run(recipe, "layer", seed, 0.3) for seed in (1, 2)]
    power = write_run(recipe, "power", 1, 0.1)
    markdown, records = make_table()
    headings = ["norm", "BLEU", "Δ to LN", "p", "BLEU detokenized", "chrF2", "seeds", "updates", "train time"]
    assert cells(markdown, "norm") == headings
    tokenized, detokenized = ([recorded(run, name) for run in runs] for name in names)
    for heading, field, scores in (
        ("BLEU", "bleu", tokenized),
        ("BLEU detokenized", "bleu", detokenized),
        ("chrF2", "chrf", detokenized),
    ):
        values = [score[field] for score in scores]
        assert column(markdown, heading)["layer"] == f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
        name = names[heading != "BLEU"]
        assert column(markdown, heading)["power"] == f"{recorded(power, name)[field]:.2f}"
    for heading, signature in (
        ("BLEU (protocol tokenized)", tokenized[0]["signature"]),
        ("BLEU detokenized", detokenized[0]["signature"]),
        ("chrF2 (detokenized text)", detokenized[0]["chrf_signature"]),
    ):
        assert f"- {heading}: sacreBLEU `{signature}`" in markdown
    assert "- prep, done before sacreBLEU: bytes: only ASCII white space" in markdown
    assert "split-compounds" not in markdown
    assert [record["protocol"] for record in records] == ["tokenized", "tokenized"]
    means = [float(records[0][name]) for name in ("bleu_mean", "bleu_mean_detokenized", "chrf_mean")]
    values = [(tokenized, "bleu"), (detokenized, "bleu"), (detokenized, "chrf")]
    assert means == pytest.approx([statistics.mean(score[field] for score in scores) for scores, field in values])
    assert float(records[0]["chrf_standard_deviation"]) > 0
    assert records[1]["bleu_standard_deviation_detokenized"] == records[1]["chrf_standard_deviation"] == ""


def test_a_protocol_that_one_run_lacks_has_no_column(recipe, make_table, caplog):
    write_run(recipe, "layer")
    write_run(recipe, "power", further=())
    markdown, records = make_table()
    assert cells(markdown, "norm") == ["norm", "BLEU", "Δ to LN", "p", "seeds", "updates", "train time"]
    assert not any("detokenized" in name or "chrf" in name for name in records[0])
    assert re.search(
        "BLEU detokenized on test is left out: .*no .*power/seed1/test/score.detokenized.json", caplog.text
    )


def test_further_protocols_may_differ_between_test_sets(recipe, make_table):
    write_run(recipe, "layer", test_sets=("test", "valid"))
    (recipe / "layer" / "seed1" / "valid" / "score.detokenized.json").unlink()
    markdown, records = make_table()
    assert markdown.count("BLEU detokenized |") == 1
    assert [record["test_set"] for record in records if record["bleu_mean_detokenized"] == ""] == ["valid"]


def test_p_values_are_of_the_main_protocol(recipe):
    runs = {norm: write_run(recipe, norm, 1, rate, "compounds") for norm, rate in (("layer", 0.22), ("power", 0.16))}
    (_, row) = build_table(read_runs(recipe), "test")
    lines = {norm: (run / "test" / "hypothesis.txt").read_text().splitlines() for norm, run in runs.items()}
    reference = (runs["layer"] / "test" / "reference.txt").read_text().splitlines()
    signature = recorded(runs["layer"], "score.json")["signature"]
    assert "split-compounds" in signature
    assert row.p_values == (bleu.paired_bootstrap(lines, reference, signature)["power"].p_value,)
    assert row.difference == pytest.approx(
        recorded(runs["power"], "score.json")["bleu"] - recorded(runs["layer"], "score.json")["bleu"]
    )


def test_further_scores_have_to_be_comparable(recipe):
    write_run(recipe, "layer")
    path = write_run(recipe, "power") / "test" / "reference.detokenized.txt"
    path.write_text(path.read_text().replace("a", "b"))
    with pytest.raises(ValueError, match=r"references in .*layer/seed1 and .*power/seed1 differ"):
        build_table(read_runs(recipe), "test")


def test_further_scores_have_to_have_one_signature(recipe):
    write_run(recipe, "layer")
    path = write_run(recipe, "power") / "test" / "score.detokenized.json"
    path.write_text(re.sub(r"version:[0-9.]+", "version:1.0.0", path.read_text()))
    with pytest.raises(ValueError, match=r"scored in two ways: .*version:1.0.0"):
        build_table(read_runs(recipe), "test")


def test_chrf_of_settings_without_a_protocol_is_not_shown(recipe):
    run = write_run(recipe, "layer", further=())
    record = recorded(run, "score.json")
    pair = (run / "test" / "hypothesis.txt", run / "test" / "reference.txt")
    custom = bleu.score(*pair, tokenize="none")
    record |= {"bleu": custom.bleu, "signature": custom.signature, "protocol": None, "chrf": custom.chrf}
    (run / "test" / "score.json").write_text(json.dumps(record))
    (row,) = build_table(read_runs(recipe), "test")
    assert (row.protocol, row.chrf) == (None, None)


def test_published_figures_stand_beside_ours(recipe, make_table, caplog):
    for norm in ("layer", "power", "power-plain"):
        write_run(recipe, norm)
    notes = ["--published-note", "power=one seed", "--published-note", "batch=not run"]
    markdown, records = make_table(*PUBLISHED, *notes)
    assert "- published for power: one seed.\n" in markdown and "not run" not in markdown.split("- Reproduce")[0]
    assert cells(markdown, "norm")[3:6] == ["p", "published (not ours)", "BLEU detokenized"]
    expected = {"layer": "35.5", "power": "35.9 (+0.4)", "power-plain": "–"}
    assert column(markdown, "published (not ours)") == expected  # batch was not run
    assert "- published (not ours): Shen et al.; in brackets the difference to its LN." in markdown
    assert [record["published"] for record in records] == ["35.5", "35.9", ""]
    assert [record["published_difference"] for record in records] == ["", "0.4", ""]
    assert "the published figure of batch is left out: no run of it on test" in caplog.text


def test_published_figures_without_the_baselines_have_no_difference(recipe, make_table):
    for norm in ("layer", "power"):
        write_run(recipe, norm)
    markdown, _ = make_table("--published", "power=35.9", "--published-source", "Shen et al.")
    assert column(markdown, "published (not ours)") == {"layer": "–", "power": "35.9"}
    assert "- published (not ours): Shen et al.\n" in markdown


def test_published_figures_of_norms_that_were_not_run_are_no_column(recipe, make_table):
    write_run(recipe, "layer")
    markdown, records = make_table("--published", "power=35.9", "--published-source", "Shen et al.")
    assert "published" not in markdown.split("- Reproduce")[0]
    assert "published" not in records[0]


def test_published_figures_are_of_one_test_set(recipe, make_table):
    write_run(recipe, "layer", test_sets=("test", "valid"))
    with pytest.raises(ValueError, match="give --published-test-set: test, valid"):
        make_table(*PUBLISHED)
    markdown, records = make_table(*PUBLISHED, "--published-test-set", "valid")
    assert [record["published"] for record in records] == ["", "35.5"]
    assert markdown.count("| published (not ours) |") == 1
    assert markdown.index("## valid") < markdown.index("published (not ours)")
