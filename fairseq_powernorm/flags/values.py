"""Values of flags: how they are read, and the error of one that contradicts another."""

import argparse

AUTO = "auto"
"""``--norm-group-scaling`` and ``--norm-warmup-updates``: as the rows of the paper's Table 1 had it. Of a norm's own
setting: its authors' share of the training."""


class FlagError(ValueError, SystemExit):
    """A flag that contradicts another one. Caught or not, it is a ``ValueError``; a command that nobody guards ends
    with its one line and exit status 1 rather than with a traceback (Python treats ``SystemExit`` so)."""

    def __init__(self, message: str):
        super().__init__(message)
        self.code = f"fairseq_powernorm: error: {message}"


def epsilon(text: str) -> float:
    """Parses ``--norm-eps``: a number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def decay(text: str) -> float:
    """Parses ``--norm-alpha-fwd`` and ``--norm-alpha-bwd``: a number in [0, 1)."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a number in [0, 1), got {text}")
    return value


def updates(text: str) -> int | str:
    """Parses ``--norm-warmup-updates``: ``auto``, or an integer, 0 or more."""
    if text == AUTO:
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number of updates, 0 or more, or 'auto', got {text}")
    return int(text)


def interval(text: str) -> int:
    """Parses ``--norm-record-interval``: an integer, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of updates, 1 or more, got {text}")
    return int(text)


def groups(text: str) -> str:
    """Parses ``--norm-group-scaling``: ``auto``, ``heads``, or an integer, 0 or more, kept as text."""
    if text not in (AUTO, "heads") and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number of groups, 'heads' or 'auto', got {text}")
    return text
