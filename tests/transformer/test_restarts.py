"""What a training that is started again needs of fairseq's functions."""

import json
import subprocess
import sys

import pytest
from fairseq.file_io import PathManager


def test_a_copy_that_breaks_off_leaves_what_was_there(trainers, tmp_path, monkeypatch):
    trainers.build()  # a model of ours is what wraps fairseq's copying
    source, destination = tmp_path / "checkpoint1.pt", tmp_path / "checkpoint_last.pt"
    source.write_bytes(b"new" * 1000)
    destination.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            PathManager.copy(str(source), str(destination), overwrite=True)
    assert destination.read_bytes() == b"old"
    assert not PathManager.copy(str(source), str(destination))
    assert PathManager.copy(str(source), str(destination), overwrite=True)
    assert destination.read_bytes() == b"new" * 1000


SPAWNED = """
import json, sys
from argparse import Namespace
import fairseq_cli.train as program
from fairseq_powernorm.checkpoints.resume import PATIENCE
from fairseq_powernorm.transformer import restarts

program.should_stop_early.best, program.should_stop_early.num_runs = 2.5, 3
saved = restarts.patience()
del program.should_stop_early.best, program.should_stop_early.num_runs
assert restarts.patience() == {}
cfg = Namespace(patience=5, save_dir=sys.argv[1], maximize_best_checkpoint_metric=False)
restarts.restore_patience(cfg, {PATIENCE: saved})
count = program.should_stop_early
print(json.dumps([saved, count.best, count.num_runs]))
"""


def test_the_count_of_early_stopping_goes_through_a_checkpoint(tmp_path):
    done = subprocess.run([sys.executable, "-c", SPAWNED, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [{"best": 2.5, "validations_since": 3}, 2.5, 3]
