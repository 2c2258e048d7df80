"""Training loss against validation loss, by hand."""

import json
import math

import pytest

from fairseq_powernorm.analysis.loss_gap import main


def write_log(folder, norm, seed, train, valid):
    """A log as fairseq writes a language model's: losses base 2, one every 10 updates, without nll_loss."""
    lines = []
    for number, loss in enumerate(train, start=1):
        values = {"num_updates": str(10 * number), "loss": str(loss), "lr": "1e-4", "gnorm": "1", "wall": "2"}
        lines.append(f"2026 | INFO | train_inner | {json.dumps(values)}")
    for number, loss in enumerate(valid, start=1):
        values = {"valid_num_updates": str(10 * number), "valid_loss": str(loss)}
        lines.append(f"2026 | INFO | valid | {json.dumps(values)}")
    run = folder / norm / f"seed{seed}"
    run.mkdir(parents=True)
    (run / "train.log").write_text("\n".join(lines) + "\n")


def test_the_table(tmp_path, capsys):
    runs, bits = tmp_path / "ptb", math.log(2)
    write_log(runs, "layer", 1, [9, 8, 7, 6], [8, 7])
    write_log(runs, "batch", 1, [9, 8, 6, 5], [8, 7.5])
    write_log(runs, "batch", 2, [9, 8, 7, 6], [8, 7.5])
    main(["--runs", str(runs), "--updates", "20", "--output-prefix", str(tmp_path / "gap")])
    layer, batch = capsys.readouterr().out.splitlines()[2:4]
    assert layer == f"| layer | {6.5 * bits:.4f} | {7 * bits:.4f} | {0.5 * bits:+.4f} | – | 1 |"
    # Seed 1: 7.5 − 5.5, which is 1.5 more than LayerNorm's; seed 2: 7.5 − 6.5.
    assert batch == f"| batch | {6 * bits:.4f} | {7.5 * bits:.4f} | {1.5 * bits:+.4f} | {1.5 * bits:+.4f} | 1, 2 |"
    assert (tmp_path / "gap.csv").read_text().startswith("norm,seeds,training,validation,gap,beyond_baseline\nlayer,1,")


def test_a_run_that_was_never_validated(tmp_path):
    write_log(tmp_path / "ptb", "layer", 1, [9], [])
    with pytest.raises(ValueError, match="layer seed 1: no validation in its log"):
        main(["--runs", str(tmp_path / "ptb"), "--output-prefix", str(tmp_path / "gap")])
    assert not (tmp_path / "gap.md").exists()
