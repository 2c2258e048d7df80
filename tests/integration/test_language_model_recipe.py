"""From a text to the table of perplexities: preparation, training, average, recalibration, scores; and again."""

import json
import random
import sys

import pytest

from fairseq_powernorm.corpora.binarize import binarize
from fairseq_powernorm.corpora.language_model_text import CORPORA, write_text

pytestmark = pytest.mark.slow

SMALL = ["train.arch=powernorm_lm_ptb", "train.tokens-per-sample=8", "score.context_window=4", "recipe.disk_gb=0.01"]
SMALL += ["++train.decoder-embed-dim=16", "++train.decoder-input-dim=16", "++train.decoder-output-dim=16"]
SMALL += ["++train.decoder-ffn-embed-dim=24", "++train.decoder-layers=1", "batch.tokens_per_update=64"]
SMALL += ["batch.tokens_per_device=64", "train.max-update=12", "train.save-interval-updates=3", "norm.warmup_updates=2"]
SMALL += ["recipe.test_sets=[test]", "recalibrate.batches=3", "train.log-interval=1"]
SMALL += ["train.validate-interval=1"]


@pytest.mark.timeout(600)
def test_from_text_to_the_table(commands, root, tmp_path):
    generator, source = random.Random(1), tmp_path / "a text"
    source.mkdir()
    for split, lines in (("train", 200), ("valid", 20), ("test", 21)):
        sentences = (" ".join(generator.choices("abcdefgh", k=generator.randint(0, 9))) for _ in range(lines))
        (source / f"{split}.txt").write_text("\n".join(sentences) + "\n", encoding="utf-8")
    write_text(CORPORA["text"], tmp_path / "raw", source)
    binarize(tmp_path / "raw", tmp_path / "bin", ["txt"], tmp_path / "preprocess.log")
    tokens = sum(len(line.split()) + 1 for line in (source / "test.txt").read_text(encoding="utf-8").splitlines())

    overrides = [f"recipe.binarized='{tmp_path / 'bin'}'", *SMALL]
    words = [word for override in overrides for word in ("--override", override)]
    run = [sys.executable, "-m", "fairseq_powernorm.pipeline"]
    command = [*run, "run", "--recipe", "ptb", "--norm", "power", "--runs", tmp_path / "runs", *words]
    done = commands.run(command)
    assert done.returncode == 0, done.stderr[-2000:]
    folder = tmp_path / "runs" / "ptb" / "power" / "seed1"
    scores = {path.name: json.loads(path.read_text()) for path in (folder / "test").glob("score*.json")}
    assert set(scores) == {"score.json", "score.context.json"}
    assert all(score["tokens"] == tokens and 1 < score["perplexity"] < 100 for score in scores.values())
    assert (folder / "recalibrated.pt").is_file() and json.loads((folder / "run.json").read_text())["updates"] == 12

    done = commands.run(command)
    assert done.returncode == 0 and "trained already" in done.stderr and "test scored already" in done.stderr
    table = ["table", "--recipe", "ptb", "--runs", tmp_path / "runs", *words]
    done = commands.run([*run, *table])
    assert done.returncode == 0, done.stderr[-2000:]
    text = (tmp_path / "runs" / "ptb" / "table.md").read_text(encoding="utf-8")
    assert f"| power (PN) | {scores['score.json']['perplexity']:.2f} | – |" in text and "| 47.6 | 1 | 12 |" in text
    assert "lets every position see the whole segment" in text
    done = commands.run([*run, "curves", "--recipe", "ptb", "--runs", tmp_path / "runs"])
    assert done.returncode == 0 and (tmp_path / "runs" / "ptb" / "curves.csv").is_file(), done.stderr[-2000:]
