"""What of fairseq's is wrapped: all that the table lists, once, whatever is imported first, unless switched off."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import fairseq
import pytest
import torch
from fairseq.data import Dictionary
from fairseq.dataclass.configs import DistributedTrainingConfig
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from omegaconf import OmegaConf

from fairseq_powernorm.checkpoints.io import load_checkpoint
from fairseq_powernorm.import_hooks import when_imported
from fairseq_powernorm.transformer import fairseq_patches
from fairseq_powernorm.transformer.fairseq_patches.plain_settings import MODULES_THAT_EVALUATE

STATE = """
import json, sys
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq_powernorm.transformer.fairseq_patches import PATCHES, STOCK, install
from fairseq_powernorm.transformer.fairseq_patches.plain_settings import plain_value

install()
patched = [patch.name for patch in PATCHES if hasattr(patch.current, STOCK)]
twice = [patch.name for patch in PATCHES if hasattr(getattr(patch.current, STOCK, 0), STOCK)]
plain = sorted(name for name, module in sys.modules.items() if getattr(module, "eval", None) is plain_value)
names = sorted(name for name in ARCH_MODEL_REGISTRY if name.startswith("powernorm_"))
print(json.dumps([patched, twice, plain, names]))
"""
USER_DIR = """
from argparse import Namespace
from fairseq.utils import import_user_module

import_user_module(Namespace(user_dir="fairseq_powernorm"))
"""
FAIRSEQ_FIRST = ["import fairseq; import fairseq_powernorm", USER_DIR]
FAIRSEQ_LAST = [
    "import fairseq_powernorm, sys; fairseq_powernorm.build_norm; assert 'fairseq' not in sys.modules; import fairseq",
    f"import fairseq_powernorm{USER_DIR}",
]


@pytest.mark.slow
def test_whatever_is_imported_first(root, run_programs):
    done = run_programs([("-c", statements + STATE) for statements in FAIRSEQ_FIRST])  # which start with fairseq there
    for statements in FAIRSEQ_LAST:
        command = [sys.executable, "-c", statements + STATE]
        done.append(subprocess.run(command, cwd=root, capture_output=True, text=True))
    for each in done:
        assert each.returncode == 0, each.stderr
    found = [json.loads(each.stdout.splitlines()[-1]) for each in done]
    patched, twice, plain, names = found[0]
    assert patched == [patch.name for patch in fairseq_patches.PATCHES] and not twice
    assert len(names) >= 4 and "fairseq.optim.adam" in plain and set(plain) <= set(MODULES_THAT_EVALUATE)
    assert all(other == found[0] for other in found), found


@pytest.mark.slow
def test_switched_off_fairseq_is_as_it_is(run_python, monkeypatch):
    monkeypatch.setenv("FAIRSEQ_POWERNORM_PATCHES", "off")
    done = run_python("-c", f"import fairseq_powernorm.transformer{STATE}")
    patched, _, plain, names = json.loads(done.stdout.splitlines()[-1])
    assert (patched, plain) == ([], []) and len(names) >= 4, done.stderr
    monkeypatch.setenv("FAIRSEQ_POWERNORM_PATCHES", "no")
    done = run_python("-c", "import fairseq_powernorm.transformer")
    assert "FAIRSEQ_POWERNORM_PATCHES=no: expected on or off" in done.stderr


def test_dictionaries_in_a_tasks_state(tmp_path):
    words = Dictionary()
    words.add_symbol("a")
    torch.save({"model": {}, "task_state": {"target_dictionary": words}}, tmp_path / "speech.pt")
    assert load_checkpoint(tmp_path / "speech.pt")["task_state"]["target_dictionary"] == words


def test_the_table_says_why():
    for patch in fairseq_patches.PATCHES:
        assert patch.why and patch.without and callable(getattr(patch.current, fairseq_patches.STOCK)), patch.name
    assert len({(patch.owner, patch.name) for patch in fairseq_patches.PATCHES}) == len(fairseq_patches.PATCHES)


def test_torchruns_processes_are_one_training_whatever_the_devices(monkeypatch):
    """fairseq trains each alone where the world's size is not given, and divides by zero without CUDA devices."""
    sections = {"common": {"tpu": False}, "distributed_training": DistributedTrainingConfig(distributed_world_size=1)}
    config = OmegaConf.create(sections).distributed_training
    distributed_utils.infer_init_method(config)
    assert config.distributed_init_method is None
    place = {"MASTER_ADDR": "a", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "x"}
    for name, value in {**place, "WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    distributed_utils.infer_init_method(config)
    assert (config.distributed_init_method, config.distributed_no_spawn) == ("env://", True)
    assert (config.distributed_world_size, config.distributed_rank, config.device_id) == (4, 3, 1)


def test_all_modules_of_fairseq_that_call_eval_are_known():
    folder = Path(fairseq.__file__).parent
    found = set()
    for path in folder.rglob("*.py"):
        calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        if any(isinstance(call.func, ast.Name) and call.func.id == "eval" for call in calls):
            found.add(".".join(["fairseq", *path.relative_to(folder).with_suffix("").parts]))
    assert found == set(MODULES_THAT_EVALUATE)


def test_modules_that_are_imported_later(tmp_path, monkeypatch):
    (tmp_path / "imported_later.py").write_text("value = 1")
    monkeypatch.syspath_prepend(tmp_path)
    seen = []
    for number in range(2):
        when_imported("imported_later", lambda module, number=number: seen.append((number, module.value)))
    when_imported("there_is_none", lambda module: seen.append(module))
    assert not seen
    import imported_later  # noqa: F401

    with pytest.raises(ModuleNotFoundError):
        import there_is_none  # noqa: F401
    when_imported("imported_later", lambda module: seen.append(("at once", module.value)))
    assert seen == [(0, 1), (1, 1), ("at once", 1)]


def test_a_copy_that_breaks_off_leaves_what_was_there(tmp_path, monkeypatch):
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
from fairseq_powernorm.transformer.fairseq_patches import forgotten_state

program.should_stop_early.best, program.should_stop_early.num_runs = 2.5, 3
saved = forgotten_state.patience()
del program.should_stop_early.best, program.should_stop_early.num_runs
assert forgotten_state.patience() == {}
cfg = Namespace(patience=5, save_dir=sys.argv[1], maximize_best_checkpoint_metric=False)
forgotten_state.restore_patience(cfg, {PATIENCE: saved})
count = program.should_stop_early
print(json.dumps([saved, count.best, count.num_runs]))
"""


def test_the_count_of_early_stopping_goes_through_a_checkpoint(tmp_path):
    done = subprocess.run([sys.executable, "-c", SPAWNED, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [{"best": 2.5, "validations_since": 3}, 2.5, 3]
