"""Command-line options as the scripts have them: one line of error."""

import argparse
import math
import sys
from collections.abc import Callable
from typing import NoReturn


def number(kind: type, least: float, below: float = math.inf) -> Callable[[str], float]:
    """A type of option: a number from ``least`` to below ``below``."""

    def parse(text: str) -> float:
        value = kind(text)
        if not least <= value < below:
            raise argparse.ArgumentTypeError(f"takes a number from {least:g} to below {below:g}, got {text}")
        return value

    parse.__name__ = "number"  # argparse's "invalid number value"
    return parse


class Parser(argparse.ArgumentParser):
    """argparse's, whose errors are one line and end with status 1, as those of all scripts do."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with one line."""
        sys.exit(f"{self.prog}: error: {message}; see --help")
