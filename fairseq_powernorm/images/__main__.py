"""Trains ResNet20 on CIFAR-10: ``scripts/train_cifar10.sh``.

python -m fairseq_powernorm.images --norm batch --images 10000 --epochs 10 --output runs/cifar10/batch/seed1
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ..files import run_command_line
from ..norms.registry import available_norms
from ..options import Parser, number
from .data import read_images
from .resnet import NONE
from .train import Settings, train

PROGRAM = "train_cifar10.sh"


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(
        prog=PROGRAM, description="Trains ResNet20 on CIFAR-10 with a norm, and records what its norms see."
    )
    names = available_norms()
    parser.add_argument("--norm", default="batch", choices=names, help="in BatchNorm's place (default batch)")
    parser.add_argument("--data", type=Path, default=Path("data/cifar10"), help="of prepare_cifar10.sh (data/cifar10)")
    parser.add_argument("--output", type=Path, help="folder of the run (default runs/cifar10/NORM/seedN)")
    parser.add_argument("--images", type=number(int, 1), help="the first so many of the training set (default all)")
    parser.add_argument("--test-images", type=number(int, 1), help="likewise of the test set (default all)")
    parser.add_argument("--epochs", type=number(int, 1), default=164, help="(default 164)")
    parser.add_argument("--seed", type=int, default=1, help="(default 1)")
    parser.add_argument("--batch", type=number(int, 1), default=128, help="images an update (default 128)")
    parser.add_argument("--learning-rate", type=number(float, 1e-9), default=0.1, help="at the start (default 0.1)")
    parser.add_argument(
        "--alpha", type=number(float, 0, 1), default=0.9, help="decay of running statistics (default 0.9)"
    )
    parser.add_argument("--warmup-updates", type=number(int, 0), default=0, help="of power (default 0)")
    parser.add_argument(
        "--record-interval", type=number(int, 1), default=10, help="updates between records (default 10)"
    )
    parser.add_argument("--no-record", action="store_true", help="record nothing")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains one norm; see ``--help``."""
    options = make_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    training = read_images(options.data, "train", options.images)
    test = read_images(options.data, "test", options.test_images)
    given = {each.name: getattr(options, each.name) for each in fields(Settings) if each.name in options}
    data = {"images": len(training), "test_images": len(test), "source": training.source}
    settings = Settings(**{**given, **data})
    output = options.output or Path("runs") / "cifar10" / options.norm / f"seed{options.seed}"
    record = not options.no_record and options.norm != NONE
    train(settings, training, test, output, options.record_interval if record else None)


if __name__ == "__main__":
    sys.argv[0] = PROGRAM
    run_command_line(main)
