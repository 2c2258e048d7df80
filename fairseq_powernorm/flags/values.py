"""Values of flags: how they are read, and the error of one that contradicts another."""

import argparse
import contextlib
import math
from collections.abc import Callable
from typing import Any

AUTO = "auto"
"""``--norm-group-scaling`` and ``--norm-warmup-updates``: as the rows of the paper's Table 1 had it. Of a norm's own
setting: its authors' share of the training."""


class FlagError(ValueError, SystemExit):
    """A flag that contradicts another one, or asks for what there is not. Caught or not, it is a ``ValueError``; a
    command that nobody guards, such as plain ``fairseq-train``, ends with its one line and exit status 1 rather than
    with a traceback (Python treats ``SystemExit`` so)."""

    def __init__(self, message: str):
        super().__init__(message)
        self.code = f"fairseq_powernorm: error: {message}"


def reader(
    kind: Callable[[str], Any], expected: str, accepts: Callable[[Any], bool], word: str | None = None
) -> Callable[[str], Any]:
    """A parser for argparse.

    Args:
        kind: makes a value of the text, such as ``float``.
        expected: which values are allowed, in words.
        accepts: whether a value is.
        word: what is taken besides, and kept as it is.
    """

    def read(text: str) -> Any:
        if text == word:
            return text
        with contextlib.suppress(ValueError):
            if accepts(value := kind(text)):
                return value
        also = "" if word is None else f", or {word!r}"
        raise argparse.ArgumentTypeError(f"expected {expected}{also}, got {text}")

    return read


epsilon = reader(float, "a number above 0", lambda value: 0 < value < math.inf)
decay = reader(float, "a number in [0, 1)", lambda value: 0 <= value < 1)
updates = reader(int, "a number of updates, 0 or more", lambda value: value >= 0, AUTO)
interval = reader(int, "a number of updates, 1 or more", lambda value: value >= 1)


def groups(text: str) -> str:
    """Parses ``--norm-group-scaling``: ``auto``, ``heads``, or an integer, 0 or more, kept as text."""
    if text not in (AUTO, "heads") and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number of groups, 'heads' or 'auto', got {text}")
    return text
