"""The stages of a run apart from fairseq: texts for every protocol, the end of a training, room on the disk."""

import os
import shutil

import pytest
import torch

from fairseq_powernorm.files import read_lines
from fairseq_powernorm.pipeline import processes, stages
from fairseq_powernorm.pipeline.configuration import compose_run


def generating(*translations):
    """Stands in for fairseq-generate: writes what it would have printed."""

    def run_fairseq(program, arguments, log, *others):
        assert program == "generate" and "averaged.pt" in " ".join(arguments)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(f"D-{number}\t-1.0\t{text}\n" for number, text in enumerate(translations)))

    return run_fairseq


def recipe_with(tmp_path, name, **references):
    """A recipe whose data lies in ``tmp_path``; references by the folder that they are in."""
    (tmp_path / "bin").mkdir()
    config = compose_run(name)
    for language in ("de", "en"):
        (tmp_path / "bin" / f"dict.{language}.txt").touch()
        (tmp_path / "bin" / f"test.{config.recipe.source}-{config.recipe.target}.{language}.idx").touch()
    overrides = [f"recipe.binarized={tmp_path}/bin"]
    for key, lines in references.items():
        (tmp_path / key).mkdir()
        (tmp_path / key / f"test.{config.recipe.target}").write_text("".join(f"{line}\n" for line in lines))
        overrides.append(f"recipe.{key}={tmp_path}/{key}")
    return compose_run(name, overrides=overrides)


def test_iwslt14_is_scored_on_tokens_and_on_detokenised_text(tmp_path, monkeypatch):
    config = recipe_with(
        tmp_path, "iwslt14_de_en", raw=["It’s Dr. Miller's cat."], tokenized=["it &apos;s dr. miller &apos;s cat ."]
    )
    monkeypatch.setattr(processes, "run_fairseq", generating("it &apos;s dr. miller &apos;s cat ."))
    stages.translate(config, tmp_path / "run")
    folder = tmp_path / "run" / "test"
    assert read_lines(folder / "hypothesis.txt") == read_lines(folder / "reference.txt")
    assert read_lines(folder / "hypothesis.detokenized.txt") == ["it's dr. miller's cat."]
    stages.score(config, tmp_path / "run")
    assert '"protocol": "tokenized-lowercase"' in (folder / "score.json").read_text(encoding="utf-8")
    assert '"chrf": ' in (folder / "score.detokenized-lowercase.json").read_text(encoding="utf-8")


def test_wmt14_s_hyphens_are_joined_before_it_is_scored(tmp_path, monkeypatch):
    config = recipe_with(tmp_path, "wmt14_en_de", raw=["Die Ein-Euro-Frage."], tokenized=["Die Ein-Euro-Frage ."])
    monkeypatch.setattr(processes, "run_fairseq", generating("Die Ein @-@ Euro @-@ Frage ."))
    stages.translate(config, tmp_path / "run")
    folder = tmp_path / "run" / "test"
    assert read_lines(folder / "hypothesis.txt") == ["Die Ein-Euro-Frage ."] == read_lines(folder / "reference.txt")
    assert read_lines(folder / "hypothesis.detokenized.txt") == ["Die Ein-Euro-Frage."]


@pytest.mark.parametrize(("since", "over"), [(4, False), (5, True)])
def test_a_training_that_ran_out_of_patience_is_over(tmp_path, since, over):
    for epoch in range(1, since + 2):
        state = {
            "model": {"weight": torch.zeros(1)},
            "extra_state": {"train_iterator": {"epoch": epoch + 1}, "val_loss": 3.0 + epoch, "best": 4.0},
        }
        torch.save(state, tmp_path / f"checkpoint{epoch}.pt")
    last = shutil.copy(tmp_path / f"checkpoint{since + 1}.pt", tmp_path / "checkpoint_last.pt")
    assert stages.training_is_over(compose_run("iwslt14_de_en"), last) is over
    assert stages.training_is_over(compose_run("iwslt14_de_en"), None) is False


def test_a_gpu_recipe_without_a_gpu_ends_before_it_writes(tmp_path, monkeypatch):
    config = recipe_with(tmp_path, "iwslt14_de_en", raw=["a"], tokenized=["a"])
    config.hardware.name = "gpu"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ValueError, match="this one has 0; --hardware cpu trains without one"):
        stages.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_disk_too_small_for_the_checkpoints_ends_before_the_training(tmp_path, limit_disk):
    config = recipe_with(tmp_path, "iwslt14_de_en", raw=["a"], tokenized=["a"])
    limit_disk(5 * 10**9)
    with pytest.raises(OSError, match=r"not enough room on the disk: 6.000 GB needed, 5.000 GB free"):
        stages.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_translations_of_another_text_are_not_taken_for_those_of_the_mended_one(tmp_path, monkeypatch):
    config = recipe_with(tmp_path, "demo_de_en", raw=["a cat ."])
    monkeypatch.setattr(processes, "run_fairseq", generating("a dog ."))
    stages.translate(config, tmp_path / "run")
    stages.translate(config, tmp_path / "run")
    (tmp_path / "raw" / "test.en").write_text("a mended cat .\n")
    with pytest.raises(ValueError, match=r"run/test has translations of another text than test set test; remove it"):
        stages.translate(config, tmp_path / "run")
    (tmp_path / "run" / "test" / "text.sha256").unlink()  # as runs of before have none
    stages.translate(config, tmp_path / "run")


@pytest.mark.parametrize(("nodes", "given", "rank"), [(1, None, 0), (2, None, 1), (2, 0, 0), (1, 3, 3)])
def test_slurms_number_counts_where_a_run_has_several_machines(monkeypatch, nodes, given, rank):
    monkeypatch.setenv("SLURM_NODEID", "1")
    assert stages.node_rank_of(compose_run("demo_de_en", overrides=[f"hardware.nodes={nodes}"]), given) == rank


def test_another_machine_joins_no_training_that_is_over(tmp_path, monkeypatch):
    config = compose_run("demo_de_en", overrides=["hardware.devices=2", "hardware.nodes=2", "hardware.master=a:1"])
    started = []
    monkeypatch.setattr(processes, "run_fairseq", lambda *arguments, **_: started.append(arguments))
    monkeypatch.setattr(stages, "check_data", lambda _: None)
    last = tmp_path / "checkpoints" / "checkpoint_last.pt"
    last.parent.mkdir()
    stages.run_stages(config, tmp_path, node_rank=1)
    for updates, whole in [(1000, False), (999, True), (1000, True)]:
        torch.save({"model": {}, "optimizer_history": [{"num_updates": updates}]}, last)
        if not whole:
            os.truncate(last, last.stat().st_size // 2)
        stages.run_stages(config, tmp_path, node_rank=1)
    assert len(started) == 3
    last.unlink()
    (tmp_path / "run.json").touch()
    stages.run_stages(config, tmp_path, node_rank=1)
    assert len(started) == 3


def test_a_machine_that_a_run_does_not_have(tmp_path):
    with pytest.raises(ValueError, match="expected a node rank from 0 to 0, got 3"):
        stages.run_stages(compose_run("demo_de_en"), tmp_path / "run", node_rank=3)
    assert not (tmp_path / "run").exists()
