"""Trainings from other initializations: interrupted and started again, averaged, and translated with."""

import argparse
import shutil

import pytest
import torch
from fairseq import checkpoint_utils

from fairseq_powernorm.checkpoints.average import average_checkpoints
from fairseq_powernorm.checkpoints.io import load_checkpoint, save_checkpoint
from fairseq_powernorm.checkpoints.select import select_in_folder

pytestmark = pytest.mark.slow

MODEL = [
    *("--source-lang", "de", "--target-lang", "en", "--cpu", "--num-workers", "0", "--seed", "1"),
    *("--arch", "powernorm_tiny", "--encoder-embed-dim", "8", "--encoder-ffn-embed-dim", "8", "--encoder-layers", "2"),
    *("--encoder-attention-heads", "2", "--decoder-embed-dim", "8", "--decoder-ffn-embed-dim", "8"),
    *("--decoder-layers", "2", "--decoder-attention-heads", "2", "--share-all-embeddings"),
    *("--max-tokens", "150", "--save-interval-updates", "3", "--max-epoch", "2", "--no-progress-bar"),
    *("--optimizer", "adam", "--lr", "0.01", "--criterion", "label_smoothed_cross_entropy"),
]
NONE, POST = ["--norm-type", "none", "--decoder-norm-type", "none"], ["--norm-position", "post"]
SCHEMES = {  # each with the ends of the names of what it adds to a checkpoint, and how many there are
    "ds": (POST, {}),
    "ds-released": (POST, {}),
    "fixup": (
        ["--lr-scheduler", "inverse_sqrt", "--warmup-updates", "4", *NONE],
        {".scale": 11, "_layer_norm.bias": 10, ".shift.bias": 8, "layer_norm.bias": 12},
    ),
    "t-fixup": (["--lr-scheduler", "t_fixup", "--decay-updates", "5", *NONE], {}),
    "admin": (["--init-omega", "trainable", *POST], {".omega": 10}),
    "rezero": (NONE, {".alpha": 4}),
    "deepnet": (POST, {".constant": 0}),
    "truncated-normal": ([], {}),
}


def translate(path, data):
    """Token numbers of translations by fairseq's own loading and search."""
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(path)], {"data": str(data)})
    task.load_dataset("valid")
    generator = task.build_generator(models, argparse.Namespace(beam=2, max_len_b=5))
    sample = task.dataset("valid").collater([task.dataset("valid")[number] for number in range(4)])
    found = task.inference_step(generator, [model.eval() for model in models], sample)
    return models[0], [best[0]["tokens"].tolist() for best in found]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_restart_average_and_translation(scheme, trainings, tmp_path):
    flags, additional = SCHEMES[scheme]
    cfg, whole, parts = (
        trainings.configuration([*MODEL, "--init-scheme", scheme, *flags]),
        tmp_path / "1",
        tmp_path / "2",
    )
    trainings.train(cfg, whole)
    parts.mkdir()
    shutil.copy(whole / "checkpoint_1_3.pt", parts / "checkpoint_last.pt")
    trainings.train(cfg, parts)
    one, other = (load_checkpoint(folder / "checkpoint_last.pt") for folder in (whole, parts))
    assert one["model"].keys() == other["model"].keys()
    assert all(torch.equal(value, other["model"][key]) for key, value in one["model"].items())
    assert all(value.isfinite().all() for value in one["model"].values())
    for end, count in additional.items():
        assert len([key for key in one["model"] if key.endswith(end)]) == count, end

    paths = select_in_folder(whole, last=2)
    first, second = (load_checkpoint(path)["model"] for path in paths)
    averaged = average_checkpoints(paths)
    for key, value in averaged["model"].items():
        if not key.endswith("version"):
            torch.testing.assert_close(value, (first[key] + second[key]) / 2)
    save_checkpoint(averaged, tmp_path / "averaged.pt")
    model, translations = translate(tmp_path / "averaged.pt", trainings.data)
    assert len(translations) == 4
    assert all(torch.equal(value, averaged["model"][key]) for key, value in model.state_dict().items())
    if scheme == "fixup":
        assert not [key for key in averaged["model"] if key.endswith(("proj.bias", "fc1.bias", "fc2.bias"))]


def test_another_scheme_stops_before_anything_is_written(trainings, tmp_path):
    trainings.train(trainings.configuration([*MODEL, "--init-scheme", "rezero", *NONE]), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    cfg = trainings.configuration([*MODEL, "--init-scheme", "t-fixup", *NONE, "--max-epoch", "3"])
    with pytest.raises(ValueError, match="to go on, add --init-scheme rezero; for a new training"):
        trainings.train(cfg, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
