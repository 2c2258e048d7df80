"""``record=true`` of a recipe: where the record lies, and that it makes no other run."""

from omegaconf import OmegaConf

from fairseq_powernorm.pipeline.commands import generate_arguments, train_arguments
from fairseq_powernorm.pipeline.configuration import compose_run, run_folder, suffix_of
from fairseq_powernorm.pipeline.run_folder import check_same_run, flat_settings


def test_recording_is_no_part_of_a_run(tmp_path):
    plain = compose_run("smoke_de_en")
    recorded = compose_run("smoke_de_en", overrides=["record=true", "record_interval=5", "track=tensorboard"])
    assert flat_settings(plain, trained=False) == flat_settings(recorded, trained=False)
    assert suffix_of(["record=true", "record_interval=5", "track=tensorboard"]) == ""
    assert run_folder(plain, tmp_path) == run_folder(recorded, tmp_path)
    OmegaConf.save(plain, tmp_path / "config.yaml")
    (tmp_path / "run.json").touch()
    check_same_run(recorded, tmp_path)

    words, more = train_arguments(plain, "F"), train_arguments(recorded, "F")
    assert more == [
        *words,
        "--norm-record",
        "F/norm_record",
        "--norm-record-interval",
        "5",
        "--tensorboard-logdir",
        "F/tensorboard",
    ]
    assert generate_arguments(plain, "P", "test") == generate_arguments(recorded, "P", "test")


def test_runs_of_before_have_no_such_setting():
    config = compose_run("smoke_de_en")
    del config.record, config.record_interval, config.track
    assert not {"--norm-record", "--tensorboard-logdir"} & set(train_arguments(config, "F"))
