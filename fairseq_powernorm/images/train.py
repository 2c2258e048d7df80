"""Trains ResNet20 on CIFAR-10 with a norm of this package, and records its norms.

The settings are those of He et al. 2016: SGD with momentum 0.9, weight decay 1e-4, batches of 128, learning rate 0.1,
divided by 10 after one half and three quarters of the epochs (there 82 and 123 of 164). A training that was interrupted
continues after its last epoch, and ends as one that was not, to the bit.
"""

import contextlib
import csv
import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..files import atomic_write, exclusive
from ..norms.update import OneUpdate, one_update
from ..recording.recorder import NormRecorder
from .data import Images, batches, normalized
from .resnet import ResNet20

logger = logging.getLogger(__name__)

CHECKPOINT, METRICS, SETTINGS, RECORD = "checkpoint.pt", "metrics.csv", "config.json", "norm_record"
COLUMNS = (
    "epoch",
    "updates",
    "learning_rate",
    "train_loss",
    "train_error",
    "test_loss",
    "test_error",
    "seconds",
    "images",
)


@dataclass(frozen=True)
class Settings:
    """All that a training's result depends on.

    Attributes:
        norm: a name, or ``none``.
        images: how many of the training set, the first ones.
        test_images: likewise of the test set.
        epochs: passes over them.
        seed: of initialization, order and crops.
        batch: images an update.
        learning_rate: at the start.
        alpha: decay of the norms' running statistics and of ν; torch's momentum is 1 − α.
        warmup_updates: of ``power``.
        source: whose images.
    """

    norm: str
    images: int
    test_images: int
    epochs: int
    seed: int
    batch: int
    learning_rate: float
    alpha: float
    warmup_updates: int
    source: str


def learning_rate(settings: Settings, epoch: int) -> float:
    """That of an epoch, from 0."""
    passed = (epoch >= settings.epochs / 2) + (epoch >= settings.epochs * 3 / 4)
    return settings.learning_rate / 10**passed


def build_model(settings: Settings) -> ResNet20:
    """The network at its start."""
    torch.manual_seed(settings.seed)
    alpha, warmup_updates = settings.alpha, settings.warmup_updates
    return ResNet20(settings.norm, alpha_fwd=alpha, alpha_bwd=alpha, warmup_updates=warmup_updates)


def recording(recorder: NormRecorder | None, update: OneUpdate, number: int) -> contextlib.AbstractContextManager:
    """Within the block an update is recorded, where there is a recorder."""
    return contextlib.nullcontext() if recorder is None else recorder.record(update, number)


def train_epoch(
    model: ResNet20,
    optimizer: torch.optim.Optimizer,
    images: Images,
    settings: Settings,
    epoch: int,
    updates: int,
    recorder: NormRecorder | None,
) -> tuple[float, float, int]:
    """One pass over the images; mean loss, share of errors, and the updates done by then."""
    model.train()
    loss_sum, errors, seen = torch.zeros(()), torch.zeros((), dtype=torch.int64), 0
    shown = {"desc": f"epoch {epoch + 1}", "unit": " batches", "leave": False, "disable": None}
    shuffled = batches(images, settings.batch, settings.seed, epoch)
    for inputs, labels in tqdm(shuffled, total=max(1, len(images) // settings.batch), **shown):
        with one_update(model, num_updates=updates) as update, recording(recorder, update, updates + 1):
            logits = model(inputs)
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        updates += 1
        seen += len(labels)
        loss_sum += loss.detach() * len(labels)
        errors += (logits.argmax(dim=1) != labels).sum()
    return loss_sum.item() / seen, errors.item() / seen, updates


@torch.no_grad()
def evaluate(model: ResNet20, images: Images, size: int = 500) -> tuple[float, float]:
    """Mean loss and share of errors, in evaluation mode."""
    model.eval()
    loss_sum, errors = 0.0, 0
    for start in range(0, len(images), size):
        labels = images.labels[start : start + size]
        logits = model(normalized(images.pixels[start : start + size]))
        loss_sum += F.cross_entropy(logits, labels, reduction="sum").item()
        errors += int((logits.argmax(dim=1) != labels).sum())
    return loss_sum / len(images), errors / len(images)


def load_state(folder: Path, settings: Settings) -> dict[str, Any] | None:
    """The state after the last epoch of an interrupted training, or None; stores the settings of a new one.

    Raises:
        ValueError: the folder has a training with other settings, or a checkpoint that cannot be read.
    """
    path, checkpoint = folder / SETTINGS, folder / CHECKPOINT
    if checkpoint.exists():
        stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for key, value in asdict(settings).items():
            if stored.get(key) != value:
                raise ValueError(
                    f"{folder} has a training with another {key} ({stored.get(key)}, asked for {value}); give another "
                    "--output, or remove it"
                )
        try:
            return torch.load(checkpoint, weights_only=True)
        except Exception as error:  # whatever torch raises for a file that is none of its own
            raise ValueError(f"{checkpoint} cannot be read ({error}); remove {folder} to train anew") from None
    with atomic_write(path) as stream:
        json.dump(asdict(settings), stream, indent=2)
        stream.write("\n")
    return None


def write_metrics(metrics: Sequence[dict], folder: Path) -> None:
    """Writes losses and errors by epoch."""
    with atomic_write(folder / METRICS) as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(metrics)


def train(settings: Settings, training: Images, test: Images, folder: Path, interval: int | None = None) -> list[dict]:
    """Trains, or goes on after the last epoch that was done.

    Args:
        settings: see there.
        training: as many images as they say.
        test: likewise.
        folder: of ``config.json``, ``checkpoint.pt``, ``metrics.csv`` (a line an epoch) and ``norm_record``.
        interval: updates from one record of the norms to the next; None records nothing.

    Returns:
        The lines of ``metrics.csv``.

    Raises:
        ValueError: another training's folder, an unknown norm, or a loss that is not finite.
    """
    model = build_model(settings)
    optimizer = torch.optim.SGD(model.parameters(), lr=settings.learning_rate, momentum=0.9, weight_decay=1e-4)
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder):
        state = load_state(folder, settings)
        metrics: list[dict] = []
        if state is not None:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            metrics = state["metrics"]
            write_metrics(metrics, folder)
            logger.info("going on after epoch %d", len(metrics))
        updates = metrics[-1]["updates"] if metrics else 0
        recorder = None
        if interval is not None and len(metrics) < settings.epochs:
            recorder = NormRecorder(model, folder / RECORD, interval, updates, asdict(settings))
        for epoch in range(len(metrics), settings.epochs):
            began = time.monotonic()
            rate = learning_rate(settings, epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate
            train_loss, train_error, updates = train_epoch(
                model, optimizer, training, settings, epoch, updates, recorder
            )
            if not math.isfinite(train_loss):
                raise ValueError(
                    f"{settings.norm} diverged in epoch {epoch + 1} (loss {train_loss}); try a smaller "
                    f"--learning-rate, and for power --warmup-updates; its record is kept in {folder}"
                )
            test_loss, test_error = evaluate(model, test)
            values = (epoch + 1, updates, rate, train_loss, train_error, test_loss, test_error)
            seconds, whose = time.monotonic() - began, f"{settings.images} of {settings.source}"
            metrics.append(dict(zip(COLUMNS, (*values, seconds, whose), strict=True)))
            if recorder is not None:
                recorder.save(updates)
            with atomic_write(folder / CHECKPOINT, "wb") as stream:
                torch.save(
                    {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "metrics": metrics}, stream
                )
            write_metrics(metrics, folder)
            logger.info(
                "%s, epoch %d of %d: training loss %.3f, error %.1f %%; test loss %.3f, error %.1f %%; %.0f s",
                *(settings.norm, epoch + 1, settings.epochs, train_loss, 100 * train_error),
                *(test_loss, 100 * test_error, seconds),
            )
    return metrics
