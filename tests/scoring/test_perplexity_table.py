"""Perplexities: what fairseq-eval-lm prints, and the table of a recipe's runs, by hand."""

import csv
import json
import math

import pytest

from fairseq_powernorm.scoring.perplexity import Perplexity, read_evaluation, read_perplexity, write_perplexity
from fairseq_powernorm.scoring.perplexity_table import main

PRINTED = [
    "INFO:fairseq_cli.eval_lm:Evaluated 82,430 tokens in 41.2s (2001.31 tokens/s)",
    "INFO:fairseq_cli.eval_lm:Loss (base 2): 7.0000, Perplexity: 128.00",
]


def test_what_fairseq_prints():
    assert read_evaluation(PRINTED, "context", 32, 24) == Perplexity(128.0, 82430, "context", 32, 24)
    assert str(read_evaluation(PRINTED, "segments", 32, 0)) == "perplexity 128.00 (82430 tokens in segments of 32)"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (PRINTED[:1], "fairseq-eval-lm printed no perplexity"),
        ([PRINTED[0].replace("82,430", "0"), PRINTED[1]], "scored 0 tokens with a loss of 7.0000"),
        ([PRINTED[0], PRINTED[1].replace("7.0000", "nan")], "a loss of nan"),
        ([PRINTED[0], PRINTED[1].replace("7.0000", "1500.0")], "a loss of 1500.0"),
    ],
)
def test_what_is_no_score(lines, message):
    with pytest.raises(ValueError, match=message):
        read_evaluation(lines, "segments", 32, 0)


@pytest.mark.parametrize("content", ["no JSON", "[]", '{"perplexity": 3}'])
def test_a_file_that_holds_none(tmp_path, content):
    (tmp_path / "score.json").write_text(content)
    with pytest.raises(ValueError, match=r"score.json: not "):
        read_perplexity(tmp_path / "score.json")


@pytest.mark.parametrize("value", [None, "3", math.inf])
def test_a_perplexity_is_a_number(tmp_path, value):
    write_perplexity(Perplexity(value, 3, "segments", 8, 0), tmp_path / "score.json")
    with pytest.raises(ValueError, match=r"score.json: perplexity is .*, expected a finite number"):
        read_perplexity(tmp_path / "score.json")


def write_run(folder, norm, seed, perplexity, context=None, tokens=100, test_sets=("test",)):
    """A finished run's folder, as the recipe leaves it."""
    run = folder / norm / f"seed{seed}"
    record = {"recipe": folder.name, "norm": norm, "seed": seed, "updates": 750, "train_seconds": 60.0}
    record |= {"commit": "abc123", "hardware": "1 × CPU", "versions": {"torch": "2.13.0"}}
    for test_set in test_sets:
        (run / test_set).mkdir(parents=True)
        write_perplexity(Perplexity(perplexity, tokens, "segments", 32, 0), run / test_set / "score.json")
        if context is not None:
            other = Perplexity(context, tokens, "context", 32, 24)
            write_perplexity(other, run / test_set / "score.context.json")
    (run / "run.json").write_text(json.dumps(record))


@pytest.fixture
def recipe(tmp_path):
    folder = tmp_path / "ptb"
    for seed, scores in {1: (120.0, 110.0), 2: (124.0, 112.0)}.items():
        write_run(folder, "layer", seed, *scores, test_sets=("test", "valid"))
    write_run(folder, "power", 1, 121.5, 109.0, test_sets=("test", "valid"))
    write_run(folder, "power", 3, 130.5, 115.0, test_sets=("test", "valid"))
    return folder


PUBLISHED = [
    "--published",
    "layer=53.2,power=47.6",
    "--published-source",
    "S., Table 2.",
    "--published-test-set",
    "test",
]


def test_the_table(recipe, tmp_path, capsys):
    main(["--runs", str(recipe), "--output-prefix", str(tmp_path / "table"), "--command", "made so", *PUBLISHED])
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == text and text.startswith("# ptb\n\n## test\n")
    head, _, layer, power = text.splitlines()[4:8]
    assert head == (
        "| norm | perplexity | Δ to LN | with context | published (not ours) | seeds | updates | train time |"
    )
    assert layer == "| layer (LN) | 122.00 ± 2.83 | – | 111.00 ± 1.41 | 53.2 | 1, 2 | 750 | 1 min 00 s |"
    assert power == "| power (PN) | 126.00 ± 6.36 | +1.50 | 112.00 ± 4.24 | 47.6 | 1, 3 | 750 | 1 min 00 s |"
    assert "- published (not ours): S., Table 2.\n" in text and "- Reproduce: `made so`" in text
    valid = text.split("## valid")[1]
    assert "published" not in valid and "- perplexity: 100 tokens in segments of 32, the last one included" in valid
    rows = list(csv.DictReader((tmp_path / "table.csv").open(encoding="utf-8")))
    assert [(row["test_set"], row["norm"], row["perplexity_mean"]) for row in rows] == [
        *(("test", "layer", "122.0"), ("test", "power", "126.0")),
        *(("valid", "layer", "122.0"), ("valid", "power", "126.0")),
    ]


def test_runs_that_are_not_scored_alike(recipe, tmp_path):
    write_run(recipe, "batch", 1, 99.0, 98.0, tokens=96)
    with pytest.raises(ValueError, match=r"test is scored in two ways: .*100 tokens.*96 tokens"):
        main(["--runs", str(recipe), "--output-prefix", str(tmp_path / "table")])
    assert not (tmp_path / "table.md").exists()


def test_a_run_without_a_window_of_context(recipe, tmp_path):
    write_run(recipe, "batch", 1, 99.0, test_sets=("test", "valid"))
    main(["--runs", str(recipe), "--output-prefix", str(tmp_path / "table")])
    assert "| batch (BN) | 99.00 | -21.00 | – | 1 |" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_nothing_finished(tmp_path):
    (tmp_path / "ptb").mkdir()
    with pytest.raises(ValueError, match="no finished run"):
        main(["--runs", str(tmp_path / "ptb"), "--output-prefix", str(tmp_path / "table")])
