"""Random choices that come out the same in every Python version.

``random.Random.random`` is the only method whose sequence Python promises to keep, so every choice goes through it.
"""

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def choose(generator: random.Random, items: Sequence[Item]) -> Item:
    """One of ``items``, each equally likely; ``items`` must not be empty."""
    return items[int(generator.random() * len(items))]


def choose_weighted(generator: random.Random, weights: Mapping[Item, float]) -> Item:
    """One of the keys of ``weights``, in proportion to its weight; the order of the keys matters."""
    remaining = generator.random() * sum(weights.values())
    for item, weight in weights.items():
        remaining -= weight
        if remaining < 0:
            return item
    return item  # rounding left a remainder of about 1e-16


def choose_integer(generator: random.Random, low: int, high: int) -> int:
    """An integer from ``low`` to ``high``, both included."""
    return low + int(generator.random() * (high - low + 1))


def happens(generator: random.Random, probability: float) -> bool:
    """True with the given probability."""
    return generator.random() < probability
