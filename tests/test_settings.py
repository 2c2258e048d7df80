"""Whether a run that was begun is the one that is asked for."""

import pytest
from omegaconf import OmegaConf

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


def test_runs_of_other_data_are_other_runs(tmp_path):
    config = OmegaConf.create(OmegaConf.to_container(compose_run("multi30k_de_en")))
    folder = begun(tmp_path, OmegaConf.merge(config, {"data": {"sha256": "a"}}), record=True)
    settings.check_same_run(OmegaConf.merge(config, {"data": {"sha256": "a"}}), folder)
    settings.check_same_run(config, folder)  # the data is gone since
    with pytest.raises(ValueError, match=r"data.sha256 is a, asked for b"):
        settings.check_same_run(OmegaConf.merge(config, {"data": {"sha256": "b"}}), folder)


@pytest.fixture
def trained(tmp_path):
    """A run that was trained and averaged."""
    folder = begun(tmp_path / "run", compose_run("multi30k_de_en"), record=True)
    (folder / "averaged.pt").write_bytes(b"weights")
    return folder


def test_a_second_ending_has_the_average_and_other_settings(trained, tmp_path):
    into = tmp_path / "other" / "seed1"
    for _ in range(2):
        settings.vary_run(trained, into, ["recalibrate.batches=7", "generate.beam=2"])
        config = settings.load_config(into)
        assert (config.recalibrate.batches, config.generate.beam) == (7, 2)
        assert config.train == settings.load_config(trained).train
        assert sorted(path.name for path in into.iterdir()) == ["averaged.pt", "config.yaml", "run.json"]
        assert (into / "averaged.pt").read_bytes() == b"weights"
    assert settings.load_config(trained).recalibrate.batches == 0
    with pytest.raises(ValueError, match=r"recalibrate.batches is 7, asked for 8"):
        settings.vary_run(trained, into, ["recalibrate.batches=8", "generate.beam=2"])


def test_a_run_from_before_there_was_recalibration(trained, tmp_path):
    path = trained / "config.yaml"
    config = settings.load_config(trained)
    del config["recalibrate"]
    path.write_text(OmegaConf.to_yaml(config))
    assert settings.vary_run(trained, tmp_path / "x", ["recalibrate.batches=7"]).recalibrate.batches == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lr=1", "SECTION one of recalibrate, generate, score"),
        ("recalibrate.batches", "expected SECTION.KEY=VALUE"),
        ("recalibrate.nothing=1", "Key 'nothing' is not in struct"),
    ],
)
def test_what_a_second_ending_cannot_vary(trained, tmp_path, override, message):
    with pytest.raises(ValueError, match=message):
        settings.vary_run(trained, tmp_path / "x", [override])
    assert not (tmp_path / "x").exists()


def test_a_second_ending_needs_an_average_and_another_folder(trained, tmp_path):
    with pytest.raises(ValueError, match="is the run itself"):
        settings.vary_run(trained, trained, [])
    (trained / "averaged.pt").unlink()
    with pytest.raises(ValueError, match=r"no averaged.pt"):
        settings.vary_run(trained, tmp_path / "x", [])
