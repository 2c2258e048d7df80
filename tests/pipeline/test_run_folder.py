"""Whether a run that was begun is the one that is asked for."""

import pytest
from omegaconf import OmegaConf

from fairseq_powernorm.pipeline import run_folder
from fairseq_powernorm.pipeline.configuration import compose_run


def begun(tmp_path, config, *, checkpoint=False, record=False):
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    run_folder.store_config(config, folder)
    if checkpoint:
        (folder / "checkpoints" / "checkpoint_last.pt").touch()
    if record:
        (folder / "run.json").touch()
    return folder


@pytest.mark.parametrize("override", ["train.lr=1", "generate.beam=3", "average.last=5", "recalibrate.batches=7"])
@pytest.mark.parametrize("state", [{"checkpoint": True}, {"record": True}])
def test_a_run_that_was_begun_or_finished_is_not_taken_for_another(tmp_path, state, override):
    folder = begun(tmp_path, compose_run("iwslt14_de_en"), **state)
    run_folder.check_same_run(compose_run("iwslt14_de_en"), folder)
    key = override.split("=")[0]
    with pytest.raises(ValueError, match=rf"is of another configuration: {key} is .*, asked for .*; give another"):
        run_folder.check_same_run(compose_run("iwslt14_de_en", overrides=[override]), folder)
    with pytest.raises(ValueError, match=r"norm\.name is power, asked for layer"):
        run_folder.check_same_run(compose_run("iwslt14_de_en", "layer"), folder)


def test_a_trained_run_may_be_looked_at_on_other_hardware_a_begun_one_may_not_go_on_there(tmp_path):
    config, other = compose_run("iwslt14_de_en"), compose_run("iwslt14_de_en", hardware="gpu_fp16")
    run_folder.check_same_run(other, begun(tmp_path / "finished", config, record=True))
    with pytest.raises(ValueError, match=r"is of another configuration: generate\.cpu"):
        run_folder.check_same_run(other, begun(tmp_path / "begun", config, checkpoint=True))


def test_a_run_goes_on_where_its_machines_meet_elsewhere(tmp_path):
    machines = ["hardware.devices=4", "hardware.nodes=2"]
    configs = [compose_run("demo_de_en", overrides=[*machines, f"hardware.master={each}:1"]) for each in ("a", "b")]
    folder = begun(tmp_path, configs[0], checkpoint=True)
    run_folder.check_same_run(configs[1], folder)
    with pytest.raises(ValueError, match=r"hardware.devices is 4, asked for 1"):
        run_folder.check_same_run(compose_run("demo_de_en", overrides=["train.ddp-backend=null"]), folder)


def test_a_setting_without_a_value_is_as_good_as_none(tmp_path):
    config = compose_run("demo_de_en")
    assert config.train["ddp-backend"] is None
    earlier = OmegaConf.create(OmegaConf.to_container(config))
    del earlier.train["ddp-backend"], earlier.hardware["master"]
    run_folder.check_same_run(config, begun(tmp_path, earlier, checkpoint=True))


def test_a_run_that_failed_before_its_first_checkpoint_binds_nobody(tmp_path):
    folder = begun(tmp_path, compose_run("iwslt14_de_en", overrides=["train.lr=abc"]))
    run_folder.check_same_run(compose_run("iwslt14_de_en"), folder)


def test_a_damaged_configuration_is_named(tmp_path):
    for content, message in (("a: [1, 2\nb: }", "config.yaml: not YAML"), ("- 1", "config.yaml is no configuration")):
        (tmp_path / "config.yaml").write_text(content)
        with pytest.raises(ValueError, match=message):
            run_folder.load_config(tmp_path)


def test_runs_of_other_data_are_other_runs(tmp_path):
    composed = compose_run("multi30k_de_en", overrides=[f"recipe.binarized='{tmp_path}/none'"])
    config = OmegaConf.create(OmegaConf.to_container(composed))
    folder = begun(tmp_path, OmegaConf.merge(config, {"data": {"sha256": "a"}}), record=True)
    run_folder.check_same_run(OmegaConf.merge(config, {"data": {"sha256": "a"}}), folder)
    run_folder.check_same_run(config, folder)  # the data is gone since
    with pytest.raises(ValueError, match=r"data.sha256 is a, asked for b"):
        run_folder.check_same_run(OmegaConf.merge(config, {"data": {"sha256": "b"}}), folder)


def data(tmp_path, **files):
    """A recipe whose binary data are these files."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    for name, content in {"dict": "a 1\n", "train": "123", "valid": "4", "test": "56", **files}.items():
        path = "dict.de.txt" if name == "dict" else f"{name}.de-en.de.bin"
        (tmp_path / "bin" / path).write_text(content)
    return compose_run("demo_de_en", overrides=[f"recipe.binarized='{tmp_path / 'bin'}'"])


def test_the_fingerprint_is_of_the_training_data(tmp_path):
    assert "data" not in run_folder.with_fingerprint(
        compose_run("demo_de_en", overrides=[f"recipe.binarized='{tmp_path}/none'"])
    )
    first = run_folder.with_fingerprint(data(tmp_path)).data.training_sha256
    assert first == run_folder.with_fingerprint(data(tmp_path, test="another")).data.training_sha256
    changed = [{"dict": "b 1\n"}, {"train": "321"}, {"train": "1234"}, {"valid": "5"}]
    digests = [run_folder.with_fingerprint(data(tmp_path, **change)).data.training_sha256 for change in changed]
    assert len({first, *digests}) == 5


def test_runs_of_before_keep_their_fingerprint(tmp_path):
    """It is of all data: such a run goes on with them, and with no others."""
    config = data(tmp_path)
    old = run_folder.old_fingerprint(config)[run_folder.OLD_FINGERPRINT]
    assert old == "12f06d0b5a61743a71b13974f56b7458b111c68567028f8cb2333afbeb395be7"
    folder = begun(tmp_path, OmegaConf.create({**OmegaConf.to_container(config), "data": {"sha256": old}}), record=True)
    run_folder.check_same_run(run_folder.with_fingerprint(config), folder)
    with pytest.raises(ValueError, match=r"data.sha256 is .*, asked for"):
        run_folder.check_same_run(run_folder.with_fingerprint(data(tmp_path, train="longer")), folder)


@pytest.fixture
def trained(tmp_path):
    """A run that was trained and averaged."""
    folder = begun(tmp_path / "run", compose_run("multi30k_de_en"), record=True)
    (folder / "averaged.pt").write_bytes(b"weights")
    return folder


def test_a_second_ending_has_the_average_and_other_settings(trained, tmp_path):
    into = tmp_path / "other" / "seed1"
    for _ in range(2):
        run_folder.vary_run(trained, into, ["recalibrate.batches=7", "generate.beam=2"])
        config = run_folder.load_config(into)
        assert (config.recalibrate.batches, config.generate.beam) == (7, 2)
        assert config.train == run_folder.load_config(trained).train
        assert sorted(path.name for path in into.iterdir()) == ["averaged.pt", "config.yaml", "run.json"]
        assert (into / "averaged.pt").read_bytes() == b"weights"
    assert run_folder.load_config(trained).recalibrate.batches == 0
    with pytest.raises(ValueError, match=r"recalibrate.batches is 7, asked for 8"):
        run_folder.vary_run(trained, into, ["recalibrate.batches=8", "generate.beam=2"])


def test_a_run_from_before_there_was_recalibration(trained, tmp_path):
    path = trained / "config.yaml"
    config = run_folder.load_config(trained)
    del config["recalibrate"]
    path.write_text(OmegaConf.to_yaml(config))
    assert run_folder.vary_run(trained, tmp_path / "x", ["recalibrate.batches=7"]).recalibrate.batches == 7


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
        run_folder.vary_run(trained, tmp_path / "x", [override])
    assert not (tmp_path / "x").exists()


def test_a_second_ending_needs_an_average_and_another_folder(trained, tmp_path):
    with pytest.raises(ValueError, match="is the run itself"):
        run_folder.vary_run(trained, trained, [])
    (trained / "averaged.pt").unlink()
    with pytest.raises(ValueError, match=r"no averaged.pt"):
        run_folder.vary_run(trained, tmp_path / "x", [])
