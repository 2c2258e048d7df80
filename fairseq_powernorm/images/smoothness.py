"""How smooth the loss is along its gradient, as Santurkar et al. (2018) measure it: "How does batch normalization help
optimization?", figure 4, there of VGG; Lemma 2 of the PowerNorm paper says that PN-V keeps BatchNorm's smoothness.

At a point of a training the weights are moved by several steps along the negative gradient of the batch's loss, and
loss and gradient are looked at again on the same batch:

- the range of the loss over the steps;
- gradient predictiveness: ‖∇L(w) − ∇L(w − η ∇L(w))‖, its range over the steps η;
- effective β-smoothness: the largest ‖∇L(w) − ∇L(w − η ∇L(w))‖ / ‖η ∇L(w)‖.
"""

import csv
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ..files import atomic_write, run_command_line
from ..norms.power_norm import PowerNorm
from ..norms.registry import available_norms
from ..norms.update import one_update
from ..options import Parser, number
from ..recording.bound import BoundObserver
from .data import Images, batches, read_images
from .resnet import NONE, ResNet20

logger = logging.getLogger(__name__)

PROGRAM = "smoothness_study.sh"
NORMS = (NONE, "batch", "pn-v", "layer", "power")
STEPS = (0.5, 1.0, 2.0, 4.0)
"""Steps along the gradient, in learning rates; the range that Santurkar et al. take."""
COLUMNS = (
    *("step", "loss", "gradient_norm", "loss_lowest", "loss_highest"),
    *("gradient_distance_lowest", "gradient_distance_highest", "effective_smoothness", "images"),
)


def loss_and_gradient(
    model: nn.Module, inputs: Tensor, labels: Tensor, num_updates: int
) -> tuple[Tensor, list[Tensor]]:
    """The loss in training mode and its gradient; no statistic of a norm changes."""
    with one_update(model, num_updates=num_updates) as update:
        loss = F.cross_entropy(model(inputs), labels)
        gradient = torch.autograd.grad(loss, list(model.parameters()))
        update.taken = False
    return loss.detach(), list(gradient)


def norm_of(vectors: Sequence[Tensor]) -> float:
    """The length of a gradient or weights, all tensors together."""
    return torch.stack([vector.double().square().sum() for vector in vectors]).sum().sqrt().item()


def measure(
    model: nn.Module, inputs: Tensor, labels: Tensor, learning_rate: float, num_updates: int = 0
) -> dict[str, float]:
    """Looks along the gradient from where the model is; its weights and statistics are as before then.

    Args:
        model: in training mode.
        inputs: a batch.
        labels: of it.
        learning_rate: the unit of the steps.
        num_updates: of the training so far.

    Returns:
        :data:`COLUMNS` but the first and the last.
    """
    loss, gradient = loss_and_gradient(model, inputs, labels, num_updates)
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    length, losses, distances, smoothness = norm_of(gradient), [], [], []
    for step in STEPS:
        size = step * learning_rate
        with torch.no_grad():
            for parameter, weight, direction in zip(model.parameters(), weights, gradient, strict=True):
                parameter.copy_(weight - size * direction)
        there, gradient_there = loss_and_gradient(model, inputs, labels, num_updates)
        losses.append(there.item())
        distances.append(norm_of([one - other for one, other in zip(gradient, gradient_there, strict=True)]))
        smoothness.append(distances[-1] / (size * length))
    with torch.no_grad():
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            parameter.copy_(weight)
    values = (loss.item(), length, min(losses), max(losses), min(distances), max(distances), max(smoothness))
    return dict(zip(COLUMNS[1:-1], values, strict=True))


def study(
    norm: str, images: Images, steps: int, every: int, learning_rate: float, seed: int, batch: int = 128
) -> list[dict]:
    """Trains ResNet20 with a norm for some steps of SGD with momentum, and measures on the way.

    Args:
        norm: a name, or ``none``.
        images: to train on.
        steps: of the training.
        every: steps from one measurement to the next.
        learning_rate: constant.
        seed: of everything.
        batch: images a step.

    Returns:
        A row of :data:`COLUMNS` for each measurement; for ``power``, whose gradient is not that of its loss, the rows
        of :class:`~fairseq_powernorm.recording.bound.BoundObserver` for each step.
    """
    torch.manual_seed(seed)
    model = ResNet20(norm)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9, weight_decay=1e-4)
    observer = BoundObserver(model) if norm == PowerNorm.declaration.name else None
    whose = images_of(images)
    rows: list[dict] = []
    model.train()
    done, epoch = 0, 0
    bar = tqdm(total=steps, desc=norm, unit=" steps", leave=False, disable=None)
    while done < steps:
        for inputs, labels in batches(images, batch, seed, epoch):
            if done == steps:
                break
            if observer is None and done % every == 0:
                found = measure(model, inputs, labels, learning_rate, done)
                rows.append({"step": done, **found, "images": whose})
            with one_update(model, num_updates=done):
                loss = F.cross_entropy(model(inputs), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if observer is not None:
                rows += [{"step": done, **row, "images": whose} for row in observer.rows]
                observer.rows.clear()
            done += 1
            bar.update()
        epoch += 1
        logger.info("%s: %d of %d steps, loss %.3f", norm, done, steps, loss.item())
    bar.close()
    return rows


def images_of(images: Images) -> str:
    """How many of whose images, in words."""
    return f"{len(images)} of {images.source}"


def check_settings(path: Path, settings: Mapping[str, str]) -> None:
    """Raises ``ValueError`` if a table was made by other settings than these."""
    with open(path, newline="", encoding="utf-8") as stream:
        row = next(csv.DictReader(stream), {})
    for name, value in settings.items():
        if (made := row.get(name)) != value:
            raise ValueError(
                f"{path} was made with {name} {made or 'not known'}, asked for {value}; give another --output, or "
                "--force to make it again"
            )


def write_study(folder: Path, norms: Sequence[str], images: Images, force: bool, **settings: Any) -> list[Path]:
    """Makes ``smoothness_NORM.csv`` for every norm (``bound_power.csv`` for ``power``); what is there is kept. Every
    row says by which settings it was made.

    Args:
        folder: for the files.
        norms: names.
        images: to train on.
        force: make all of them again.
        **settings: of :func:`study`.

    Returns:
        The files that were written.

    Raises:
        ValueError: a file is there that was made by other settings.
    """
    paths = []
    own = {name: str(value) for name, value in settings.items()} | {"images": images_of(images)}
    for norm in norms:
        kind = "bound" if norm == PowerNorm.declaration.name else "smoothness"
        path = folder / f"{kind}_{norm}.csv"
        if path.exists() and not force:
            check_settings(path, own)
            logger.info("%s is there already", path)
            continue
        paths.append(path)
        rows = [{**row, **settings} for row in study(norm, images, **settings)]
        with atomic_write(path) as stream:
            writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return paths


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the measurements; see ``--help``."""
    text = "How smooth the loss of ResNet20 is along its gradient by norm, and Theorem 4's bound along a training."
    parser = Parser(prog=PROGRAM, description=text)
    parser.add_argument("--data", type=Path, default=Path("data/cifar10"), help="of prepare_cifar10.sh (data/cifar10)")
    parser.add_argument("--output", type=Path, default=Path("runs/cifar10/smoothness"), help="folder for the tables")
    parser.add_argument("--norms", default=",".join(NORMS), metavar="LIST", help="(default %(default)s)")
    parser.add_argument("--images", type=number(int, 1), default=2000, help="the first so many (default 2000)")
    parser.add_argument("--steps", type=number(int, 1), default=200, help="of the training (default 200)")
    parser.add_argument("--every", type=number(int, 1), default=10, help="steps between measurements (default 10)")
    parser.add_argument("--learning-rate", type=number(float, 1e-9), default=0.01, help="(default 0.01)")
    parser.add_argument("--seed", type=int, default=1, help="(default 1)")
    parser.add_argument("--force", action="store_true", help="make again what is there")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    norms, known = options.norms.split(","), available_norms()
    if unknown := [norm for norm in norms if norm not in known]:
        parser.error(f"argument --norms: takes {', '.join(known)}, got {', '.join(unknown)}")
    images = read_images(options.data, "train", options.images)
    logger.info("%d images of %s", len(images), images.source)
    settings = {name: getattr(options, name) for name in ("steps", "every", "learning_rate", "seed")}
    for path in write_study(options.output, norms, images, options.force, **settings):
        logger.info("wrote %s", path)


if __name__ == "__main__":
    sys.argv[0] = PROGRAM
    run_command_line(main)
