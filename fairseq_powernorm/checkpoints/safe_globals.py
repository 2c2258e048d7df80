"""Checkpoints from strangers: which classes may be unpickled, and no settings that are code.

torch's check stays on when fairseq's checkpoints are read, with a plain container let through. But some settings of
fairseq's models are Python expressions in a string (``--adaptive-softmax-cutoff``, the layers of convolutional models),
which fairseq hands to ``eval`` when it builds the model: a checkpoint could run code by them, whatever it is unpickled
with.
"""

import argparse
import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch


def allow_checkpoint_classes() -> None:
    """Lets ``torch.load(weights_only=True)``, torch's default since 2.6, read what fairseq-train writes.

    ``argparse.Namespace`` holds the model's flags. It is a plain container: unpickling one sets attributes and runs
    no code.
    """
    torch.serialization.add_safe_globals([argparse.Namespace])


def check_settings(path: str | Path, state: Mapping[str, Any]) -> None:
    """Looks for calls in the settings of a checkpoint.

    Args:
        path: the file, for the message.
        state: the checkpoint; its ``cfg`` and ``args`` are looked at.

    Raises:
        ValueError: a string among them is a Python expression that calls something.
    """
    for name, text in _strings("", [state.get("cfg"), state.get("args")]):
        if _calls(text):
            raise ValueError(f"{path}: holds code, its setting {name} is {text!r}")


def _strings(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every string within a value, with the name of the setting that it is in."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, argparse.Namespace):
        yield from _strings(name, vars(value))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _strings(str(key), inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(name, inner)


def _calls(text: str) -> bool:
    """Whether ``eval`` of the text would call something by it."""
    if "(" not in text:
        return False
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False  # eval refuses it as well
    return any(isinstance(node, ast.Call) for node in ast.walk(tree))
