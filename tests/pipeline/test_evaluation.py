"""Runs of language models: what is checked before, what is scored, and what a score is of."""

import pytest

from fairseq_powernorm.pipeline import processes, recipes, stages
from fairseq_powernorm.pipeline.command_line import make_parser
from fairseq_powernorm.pipeline.commands import stage_commands
from fairseq_powernorm.pipeline.configuration import compose_run
from fairseq_powernorm.pipeline.inputs import check_data
from fairseq_powernorm.scoring.perplexity import read_perplexity


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("dict.txt", *(f"{split}.{kind}" for split in ("train", "valid", "test") for kind in ("idx", "bin"))):
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def config(data):
    return compose_run("ptb", overrides=[f"recipe.binarized='{data}'"])


def evaluating(tokens="82,430", loss="7.0000"):
    """Stands in for fairseq-eval-lm, and remembers what it was asked."""

    def run(program, arguments, log, label, environment=None, progress=None, launcher=()):
        run.asked.append((program, arguments[arguments.index("--gen-subset") :]))
        log.write_text(f"Evaluated {tokens} tokens in 1s\nLoss (base 2): {loss}, Perplexity: 1.00\n")

    run.asked = []
    return run


def test_every_text_is_scored_by_both_protocols_once(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(processes, "run_fairseq", run := evaluating())
    stages.translate(config, tmp_path / "run")  # nothing to do
    for _ in range(2):
        stages.score(config, tmp_path / "run")
    assert run.asked == [
        ("eval_lm", ["--gen-subset", text, "--context-window", window])
        for text in ("valid", "test")
        for window in ("0", "24")
    ]
    found = [read_perplexity(tmp_path / "run" / "test" / name) for name in ("score.json", "score.context.json")]
    assert [(score.perplexity, score.tokens, score.context_window) for score in found] == [
        (128.0, 82430, 0),
        (128.0, 82430, 24),
    ]
    assert (
        "test: perplexity 128.00 (82430 tokens in segments of 32, of which 24 are context)" in capsys.readouterr().out
    )


def test_a_score_of_another_text_is_not_taken_for_one_of_this(config, data, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "run_fairseq", evaluating())
    stages.score(config, tmp_path / "run")
    (data / "test.bin").write_text("another text")
    with pytest.raises(ValueError, match=r"run/test has scores of another text than test set test; remove it"):
        stages.score(config, tmp_path / "run")


def test_what_fairseq_could_not_score_leaves_no_score(config, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "run_fairseq", evaluating(loss="nan"))
    with pytest.raises(ValueError, match="a loss of nan"):
        stages.score(config, tmp_path / "run")
    assert not list((tmp_path / "run").glob("*/score*.json"))


@pytest.mark.parametrize("name", ["dict.txt", "train.idx", "valid.idx", "test.idx"])
def test_data_that_are_not_there(config, data, name):
    check_data(config)
    (data / name).unlink()
    with pytest.raises(ValueError, match=rf"holds no {name}, the .*: scripts/prepare_language_model.sh --corpus ptb"):
        check_data(config)


def test_the_commands_of_a_run(config, tmp_path):
    assert stage_commands("translate", config, tmp_path) == []
    scores = stage_commands("score", config, tmp_path)
    assert len(scores) == 4 and all(command.startswith("fairseq-eval-lm ") for command in scores)
    assert "--task language_modeling" in scores[0] and "--gen-subset valid --context-window 0" in scores[0]
    without = compose_run("ptb", overrides=["score.context_window=0"])
    assert len(stage_commands("score", without, tmp_path)) == 2


def test_a_plan_ends_with_the_table_and_the_curves(tmp_path):
    """A report is about translations."""
    words = ["recipe", "--recipe", "ptb", "--norms", "layer", "--runs", str(tmp_path), "--dry-run"]
    options = make_parser().parse_args(words)
    *_, table, curves = recipes.plan_recipe(options, "made so")
    assert table.words[:2] == ("powernorm-run", "table") and curves.words[:2] == ("powernorm-run", "curves")


@pytest.mark.parametrize("study", [recipes.plan_ablation, recipes.plan_batch_sizes, recipes.plan_recalibration])
def test_studies_that_compare_bleu(study):
    class Options:
        recipe = "ptb"

    with pytest.raises(ValueError, match="ptb is a language model's recipe, and this study compares BLEU"):
        study(Options, "")
