"""CIFAR-10 as scripts/prepare_cifar10.sh leaves it, and its batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..recording.averages import read_arrays

MEAN = (0.4914, 0.4822, 0.4465)
DEVIATION = (0.2023, 0.1994, 0.2010)
PADDING = 4  # of the random crops


@dataclass(frozen=True)
class Images:
    """A set of images.

    Attributes:
        pixels: (N, 3, 32, 32), uint8.
        labels: (N,), int64.
        source: whose images they are, in words, for tables.
    """

    pixels: Tensor
    labels: Tensor
    source: str

    def __len__(self) -> int:
        return len(self.labels)


def read_images(folder: str | Path, split: str, count: int | None = None) -> Images:
    """Reads ``train`` or ``test``.

    Args:
        folder: ``data/cifar10``.
        split: as above.
        count: the first images; they are in an order in which every multiple of 10 has as many of each class.

    Raises:
        ValueError: no prepared data there, or fewer images.
    """
    path = Path(folder) / f"{split}.npz"
    if not path.is_file():
        raise ValueError(f"{folder} has no {path.name}; scripts/prepare_cifar10.sh makes it")
    arrays = read_arrays(path)
    if missing := [name for name in ("pixels", "labels", "source") if name not in arrays]:
        raise ValueError(f"{path} is not what scripts/prepare_cifar10.sh makes (no {missing[0]} in it)")
    pixels, labels, source = arrays["pixels"], arrays["labels"], str(arrays["source"])
    if count is not None and count > len(labels):
        raise ValueError(f"{path} has {len(labels)} images, asked for {count}")
    return Images(torch.from_numpy(pixels[:count]), torch.from_numpy(labels[:count]), source)


def normalized(pixels: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) → float32, each channel minus its mean, divided by its standard deviation."""
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    return (pixels.float() / 255 - mean) / deviation


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """A crop of 32 × 32 at a random place of each image with a border of 4 zeros, and every second one mirrored."""
    count, channels, height, width = images.shape
    padded = F.pad(images, (PADDING,) * 4)
    down, right = (torch.randint(2 * PADDING + 1, (2, count), generator=generator)).unsqueeze(-1).unbind()
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    each, channel = torch.arange(count).view(-1, 1, 1, 1), torch.arange(channels).view(1, -1, 1, 1)
    return padded[each, channel, rows.view(count, 1, height, 1), columns.view(count, 1, 1, width)]


def batches(images: Images, size: int, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """An epoch's training batches in a random order, which seed and epoch determine.

    What does not fill a batch is left out, so that no batch statistic is one of a few images: at 10,000 images and
    batches of 128 the last would have 16, and be most of what a record calls a jump.
    """
    generator = torch.Generator().manual_seed(1_000_003 * seed + epoch)
    size = min(size, len(images))
    order = torch.randperm(len(images), generator=generator)
    for chosen in order[: len(images) // size * size].split(size):
        yield augmented(normalized(images.pixels[chosen]), generator), images.labels[chosen]
