"""Options of commands: a parser whose errors are one line, and the types of values that several commands take."""

import argparse
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

MESSAGES = (  # argparse's, and ours
    (r"^the following arguments are required: (.*)", r"\1 is missing"),
    (r"^argument (--[a-z-]+)\S*: expected one argument", r"\1 needs a value"),
    (r"^argument (--[a-z-]+)\S*: ", r"\1 "),
)


class Parser(argparse.ArgumentParser):
    """argparse's, whose errors are one line and end with status 1; no abbreviations."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def parse_known_args(self, args=None, namespace=None):
        """argparse's; an unknown option is said before one that is missing."""
        for word in args or ():
            if word.startswith("--") and word.split("=")[0] not in self._option_string_actions and not self._subparsers:
                self.error(f"unknown option {word}")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Ends the program with one line."""
        for pattern, replacement in MESSAGES:
            message = re.sub(pattern, replacement, message)
        sys.exit(f"{Path(self.prog.split()[0]).name}: error: {message}; see --help")


def whole_number(text: str) -> int:
    """A whole number above 0."""
    if not re.fullmatch("[1-9][0-9]*", text):
        raise argparse.ArgumentTypeError(f"takes a number above 0, got {text}")
    return int(text)


def listed(what: str, pattern: str, convert: Callable = str) -> Callable[[str], list]:
    """A type of option: values separated by commas, none twice."""

    def values(text: str) -> list:
        found = text.split(",")
        if not all(re.fullmatch(pattern, each) for each in found):
            raise argparse.ArgumentTypeError(f"takes {what} separated by commas, got '{text}'")
        converted = [convert(each) for each in found]
        if len(set(converted)) < len(converted):
            raise argparse.ArgumentTypeError(f"names one twice: {text}")
        return converted

    return values


def folder(text: str) -> Path:
    """A path, absolute by the folder that the caller stands in."""
    return Path(text).absolute()


def number(kind: type, least: float, below: float = math.inf) -> Callable[[str], float]:
    """A type of option: a number from ``least`` to below ``below``."""

    def parse(text: str) -> float:
        value = kind(text)
        if not least <= value < below:
            raise argparse.ArgumentTypeError(f"takes a number from {least:g} to below {below:g}, got {text}")
        return value

    parse.__name__ = "number"  # argparse's "invalid number value"
    return parse
