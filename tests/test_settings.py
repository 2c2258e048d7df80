"""Whether a run that was begun is the one that is asked for."""

import pytest

from fairseq_powernorm import settings
from fairseq_powernorm.recipes import compose_run


def begun(tmp_path, config, *, checkpoint=False, record=False):
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    settings.store_config(config, folder)
    if checkpoint:
        (folder / "checkpoints" / "checkpoint_last.pt").touch()
    if record:
        (folder / "run.json").touch()
    return folder


@pytest.mark.parametrize("override", ["train.lr=1", "generate.beam=3", "average.last=5", "recalibrate.batches=7"])
@pytest.mark.parametrize("state", [{"checkpoint": True}, {"record": True}])
def test_a_run_that_was_begun_or_finished_is_not_taken_for_another(tmp_path, state, override):
    folder = begun(tmp_path, compose_run("iwslt14_de_en"), **state)
    settings.check_same_run(compose_run("iwslt14_de_en"), folder)
    key = override.split("=")[0]
    with pytest.raises(ValueError, match=rf"is of another configuration: {key} is .*, asked for .*; give another"):
        settings.check_same_run(compose_run("iwslt14_de_en", overrides=[override]), folder)
    with pytest.raises(ValueError, match=r"norm\.name is power, asked for layer"):
        settings.check_same_run(compose_run("iwslt14_de_en", "layer"), folder)


def test_a_trained_run_may_be_looked_at_on_other_hardware_a_begun_one_may_not_go_on_there(tmp_path):
    config, other = compose_run("iwslt14_de_en"), compose_run("iwslt14_de_en", hardware="gpu_fp16")
    settings.check_same_run(other, begun(tmp_path / "finished", config, record=True))
    with pytest.raises(ValueError, match=r"is of another configuration: generate\.cpu"):
        settings.check_same_run(other, begun(tmp_path / "begun", config, checkpoint=True))


def test_a_run_that_failed_before_its_first_checkpoint_binds_nobody(tmp_path):
    folder = begun(tmp_path, compose_run("iwslt14_de_en", overrides=["train.lr=abc"]))
    settings.check_same_run(compose_run("iwslt14_de_en"), folder)
