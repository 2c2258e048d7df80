"""``--norm-record`` through fairseq-train: restarts, several processes, and generation from such a checkpoint."""

import shutil

import numpy as np
import pytest

from fairseq_powernorm.recording.record import read_record

FLAGS = [
    *("--arch", "powernorm_tiny", "--norm-type", "batch", "--source-lang", "de", "--target-lang", "en", "--cpu"),
    *("--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "24", "--encoder-layers", "1"),
    *("--encoder-attention-heads", "2", "--decoder-embed-dim", "16", "--decoder-ffn-embed-dim", "24"),
    *("--decoder-layers", "1", "--decoder-attention-heads", "2", "--optimizer", "adam", "--lr", "1e-3"),
    *("--criterion", "label_smoothed_cross_entropy", "--max-tokens", "60", "--num-workers", "0", "--seed", "1"),
    *("--norm-record-interval", "1", "--save-interval-updates", "2", "--no-epoch-checkpoints", "--no-progress-bar"),
]


def test_a_restart_drops_what_came_after_its_checkpoint(trainings, tmp_path):
    """And goes on with the recorder's own averages: the record of a training that was left alone."""

    def train(folder, updates):
        cfg = trainings.configuration([*FLAGS, "--norm-record", tmp_path / folder / "record", "--max-update", "9"])
        cfg.optimization.max_update = updates
        trainings.train(cfg, tmp_path / folder / "checkpoints")

    train("whole", 9)
    train("parts", 7)  # killed here, with a checkpoint of update 4
    checkpoints = tmp_path / "parts" / "checkpoints"
    shutil.copy(checkpoints / "checkpoint_1_4.pt", checkpoints / "checkpoint_last.pt")
    train("parts", 9)
    found, expected = (read_record(tmp_path / name / "record") for name in ("parts", "whole"))
    assert found == expected and [*dict.fromkeys(row["update"] for row in found)] == [*range(1, 10)]


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("sync", [False, True])
def test_two_ranks_write_one_record(commands, trainings, tmp_path, sync):
    """A line a rank where each has its statistics, and one about both ranks' tokens under --norm-sync."""
    record = tmp_path / "record"
    arguments = [trainings.data, "--user-dir", "fairseq_powernorm", *FLAGS, "--norm-record", record, "--max-update", 3]
    arguments += ["--save-dir", tmp_path / "checkpoints", *(["--norm-sync"] if sync else [])]
    commands.train_on_ranks(2, *arguments)
    rows = [row for row in read_record(record) if row["norm"].startswith("encoder")]
    first = [row for row in rows if row["norm"].endswith("self_attn_layer_norm") and row["place"] == "input"]
    assert [(row["update"], row["rank"]) for row in first] == [
        (update, rank) for update in (1, 2, 3) for rank in ((0,) if sync else (0, 1))
    ]
    assert all(np.isfinite(row["gradient_variance"]) and row["between_sentences"] > 0 for row in rows)
    decoder = [row for row in read_record(record) if row["norm"].startswith("decoder") and row["update"] == 1]
    assert {row["rank"] for row in decoder} == {0, 1}  # of layer, which knows no other rank
    if sync:
        tokens = {row["tokens"] for row in first}
        assert max(tokens) > 60  # more than one rank's


def test_what_tensorboard_reads(trainings, tmp_path):
    """Losses, the learning rate, and a mean over the norms of what is recorded."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    flags = [*FLAGS, "--norm-record", tmp_path / "record", "--max-update", "4", "--log-interval", "1"]
    flags += ["--tensorboard-logdir", tmp_path / "tensorboard"]
    trainings.train(trainings.configuration(flags), tmp_path / "checkpoints")
    events = EventAccumulator(str(tmp_path / "tensorboard" / "train_inner")).Reload()
    found = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert len(found["loss"]) == 4 and found["lr"] == pytest.approx([1e-3] * 4)
    rows = [row for row in read_record(tmp_path / "record") if row["place"] == "input"]
    for name in ("mean_discrepancy", "variance_discrepancy", "square_mean_discrepancy"):
        expected = [np.mean([row[name] for row in rows if row["update"] == update]) for update in range(1, 5)]
        assert found[f"norm_{name}"] == pytest.approx(expected, abs=1e-5)
