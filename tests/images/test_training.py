"""The training loop: its batches, that it learns, and that it goes on where it stopped."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fairseq_powernorm.images import train as program
from fairseq_powernorm.images.__main__ import main
from fairseq_powernorm.images.data import MEAN, Images, augmented, batches, normalized, read_images
from fairseq_powernorm.images.resnet import ResNet20
from fairseq_powernorm.images.train import Settings, learning_rate, train
from fairseq_powernorm.recording.record import read_record

SETTINGS = Settings("batch", 40, 20, 2, 1, 16, 0.05, 0.9, 0, "generated")


def images(count, seed=0):
    """Images of noise whose brightness is their class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    pixels = torch.randint(0, 100, (count, 3, 32, 32), generator=generator) + 100 * labels.view(-1, 1, 1, 1)
    return Images(pixels.to(torch.uint8), labels, "generated")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A network of one block a width; tests of the loop need no more."""
    monkeypatch.setattr("fairseq_powernorm.images.resnet.BLOCKS", 1)


def test_an_epoch_has_an_image_once_at_most_and_is_drawn_by_seed_and_epoch():
    data = Images(torch.zeros(50, 3, 32, 32, dtype=torch.uint8), torch.arange(50), "numbers")

    def order(*seeds):
        return [labels.tolist() for _, labels in batches(data, 16, *seeds)]

    assert [len(batch) for batch in order(1, 0)] == [16, 16, 16]
    assert len({number for batch in order(1, 0) for number in batch}) == 48
    assert {number for epoch in range(9) for batch in order(1, epoch) for number in batch} == {*range(50)}
    assert [len(batch) for _, batch in batches(data, 64, 1, 0)] == [50]
    assert order(1, 0) == order(1, 0) and order(1, 0) != order(1, 1) and order(1, 0) != order(2, 0)


def test_crops_and_mirrors():
    """Against a loop over the same random numbers."""
    pixels = torch.randn(30, 3, 32, 32)
    found = augmented(pixels, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    places = torch.randint(9, (2, 30), generator=generator)
    mirrored = torch.rand(30, 1, generator=generator) < 0.5
    assert 0 < mirrored.sum() < 30
    for image, down, right, mirror, expected in zip(pixels, *places.tolist(), mirrored, found, strict=True):
        crop = F.pad(image, (4, 4, 4, 4))[:, down : down + 32, right : right + 32]
        assert torch.equal(crop.flip(2) if mirror else crop, expected)


def test_pixels_are_centred():
    grey = torch.tensor([round(255 * value) for value in MEAN], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    assert normalized(grey).abs().max() < 0.01


def test_the_learning_rate_falls_twice():
    settings = dataclasses.replace(SETTINGS, epochs=8, learning_rate=1.0)
    assert [learning_rate(settings, epoch) for epoch in range(8)] == [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]


@pytest.mark.parametrize("norm", ["batch", "power"])
def test_it_learns_and_records(tmp_path, norm):
    settings = dataclasses.replace(SETTINGS, norm=norm, epochs=5, learning_rate=0.02)
    metrics = train(settings, images(48), images(20, seed=1), tmp_path, interval=3)
    assert metrics[-1]["train_loss"] < 0.8 < metrics[0]["train_loss"] and metrics[-1]["train_error"] < 0.2
    rows = read_record(tmp_path / "norm_record")
    assert [*dict.fromkeys(row["update"] for row in rows)] == [3, 6, 9, 12, 15]
    assert rows[0]["norm"] == "stem_norm" and rows[0]["tokens"] == 16 * 1024
    assert (tmp_path / "metrics.csv").read_text().count("\n") == 6


def test_a_training_that_goes_on_ends_as_one_that_was_not_stopped(tmp_path, monkeypatch):
    """Bit for bit, with its record, and a training without a record is the same."""
    settings = dataclasses.replace(SETTINGS, epochs=3)
    for name, interval in (("whole", 2), ("unrecorded", None)):
        train(settings, images(48), images(20), tmp_path / name, interval)
    with monkeypatch.context() as patch:
        epochs = []
        evaluate = program.evaluate

        def killed_in_the_second(*arguments):
            epochs.append(arguments)
            if len(epochs) == 2:
                raise KeyboardInterrupt
            return evaluate(*arguments)

        patch.setattr(program, "evaluate", killed_in_the_second)
        with pytest.raises(KeyboardInterrupt):
            train(settings, images(48), images(20), tmp_path / "parts", 2)
    train(settings, images(48), images(20), tmp_path / "parts", 2)
    models = [torch.load(tmp_path / name / "checkpoint.pt")["model"] for name in ("whole", "parts", "unrecorded")]
    assert all(torch.equal(value, other[key]) for other in models[1:] for key, value in models[0].items())
    records = [(tmp_path / name / "norm_record" / "record.csv").read_text() for name in ("whole", "parts")]
    assert records[0] == records[1] and len(read_record(tmp_path / "parts" / "norm_record")) == 4 * 7
    metrics = tmp_path / "parts" / "metrics.csv"
    before = metrics.read_text()
    metrics.unlink()  # killed between the last checkpoint and this
    assert len(train(settings, images(48), images(20), tmp_path / "parts", 2)) == 3  # it is done
    assert metrics.read_text() == before


def test_bad_input(tmp_path):
    train(dataclasses.replace(SETTINGS, epochs=1), images(48), images(20), tmp_path / "run")
    other = dataclasses.replace(SETTINGS, epochs=1, seed=2)
    with pytest.raises(ValueError, match=r"has a training with another seed \(1, asked for 2\)"):
        train(other, images(48), images(20), tmp_path / "run")
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"checkpoint.pt cannot be read"):
        train(dataclasses.replace(SETTINGS, epochs=1), images(48), images(20), tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"^batch diverged in epoch 1 \(loss (nan|inf)\); try a smaller --learning-rate"
    ):
        train(dataclasses.replace(SETTINGS, learning_rate=1e30), images(48), images(20), tmp_path / "diverged")


def test_the_command_line(tmp_path):
    for split, count in (("train", 40), ("test", 20)):
        data = images(count)
        np.savez(tmp_path / f"{split}.npz", pixels=data.pixels, labels=data.labels, source="generated")
    words = ["--data", str(tmp_path), "--output", str(tmp_path / "run"), "--epochs", "1", "--batch", "16"]
    main([*words, "--images", "30", "--record-interval", "1", "--learning-rate", "0.01"])
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert settings["images"] == 30 and settings["source"] == "generated" and settings["norm"] == "batch"
    assert {row["update"] for row in read_record(tmp_path / "run" / "norm_record")} == {1}
    for wrong, message in (
        (["--norm", "bn"], "invalid choice: 'bn'"),
        (["--images", "0"], "--images takes a number from 1 to below inf, got 0"),
        (["--alpha", "1"], "--alpha takes a number from 0 to below 1, got 1"),
    ):
        with pytest.raises(SystemExit, match=message):
            main([*words, *wrong])
    with pytest.raises(ValueError, match=r"train.npz has 40 images, asked for 41"):
        main([*words, "--images", "41"])
    with pytest.raises(ValueError, match=r"has no train.npz; scripts/prepare_cifar10.sh makes it"):
        main([*words, "--data", str(tmp_path / "run")])
    for content in (b"", (tmp_path / "train.npz").read_bytes()[:-30], b"no archive"):
        (tmp_path / "test.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"test.npz is damaged, or no file of arrays"):
            read_images(tmp_path, "test")
    np.savez(tmp_path / "train.npz", jpeg=np.zeros(3))
    with pytest.raises(ValueError, match=r"is not what scripts/prepare_cifar10.sh makes"):
        read_images(tmp_path, "train")


def test_every_norm_s_name_is_known():
    assert ResNet20("none")(torch.randn(1, 3, 32, 32)).isfinite().all()
