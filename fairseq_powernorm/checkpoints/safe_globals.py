"""Which classes of a checkpoint may be unpickled: torch's check stays on, with harmless ones let through.

``torch.load(weights_only=True)`` calls nothing that was not let through. What fairseq writes beside tensors is plain
data: the model's flags (``argparse.Namespace``), numpy's numbers and arrays among the meters (``--eval-bleu``), and, in
checkpoints of fairseq 1.0.0a0, its configuration as omegaconf containers. Unpickling these sets attributes.

numpy's own constructors are not let through: an array of objects, or a structured dtype with forged flags, would have
numpy follow pointers that stand in the file. The constructors here take numbers and text alone.
"""

import argparse
import collections
import inspect
import math
import pathlib
import re
import typing
from typing import Any

import numpy as np
import torch
from omegaconf import base, dictconfig, listconfig, nodes

PLAIN_DTYPE = re.compile(r"[biufc]\d+|[SU]\d+")
"""Booleans, integers, floating-point and complex numbers, bytes and text, by numpy's names of a dtype's type."""


class PickledDtype:
    """What stands for a ``numpy.dtype`` while a file is read."""

    def __init__(self, name: Any, align: bool = False, copy: bool = False):
        if not (isinstance(name, str) and PLAIN_DTYPE.fullmatch(name)):
            raise TypeError(f"numpy's dtype {name!r} is none of plain numbers or text")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        byte_order, *structure = state[1:5]
        if byte_order not in ("<", ">", "=", "|") or any(part is not None for part in structure):
            raise TypeError(f"expected a plain dtype, got one with the state {state!r}")
        self.dtype = self.dtype.newbyteorder(byte_order)

    def __reduce__(self):
        return self.dtype.__reduce__()


def plain_dtype(dtype: Any) -> np.dtype:
    """The dtype that was pickled, if it is plain.

    Raises:
        TypeError: it is not.
    """
    found = dtype.dtype if isinstance(dtype, PickledDtype) else dtype
    if not isinstance(found, np.dtype) or found.kind not in "biufcSU":
        raise TypeError(f"expected a dtype of plain numbers or text, got {found!r}")
    return found


class PickledArray(np.ndarray):
    """An array that was read from a file; it is pickled as the ``numpy.ndarray`` that it is."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, pickled, fortran, data = state
        dtype = plain_dtype(pickled)
        if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
            raise TypeError(f"expected the bytes of {shape} values of {dtype}")
        super().__setstate__((1, tuple(shape), dtype, bool(fortran), data))  # type: ignore[arg-type]

    def __reduce__(self):
        return np.asarray(self).__reduce__()


def new_array(subtype: Any = None, shape: Any = None, dtype: Any = None) -> PickledArray:
    """What stands for ``numpy._core.multiarray._reconstruct``: an empty array, filled by its state."""
    return np.empty(0, dtype=np.int8).view(PickledArray)


def scalar(dtype: Any, data: bytes) -> np.generic:
    """What stands for ``numpy._core.multiarray.scalar``: a number from its bytes."""
    plain = plain_dtype(dtype)
    if not isinstance(data, bytes) or len(data) != plain.itemsize:
        raise TypeError(f"expected the {plain.itemsize} bytes of a {plain}")
    return np.frombuffer(data, dtype=plain)[0] if data else plain.type()


def plain_dict(*_: Any) -> dict:
    """What stands for ``collections.defaultdict``, whose factory nobody needs in a file."""
    return {}


NUMPY: list[Any] = [
    (constructor, f"numpy.{core}.multiarray.{name}")
    for core in ("core", "_core")  # before and since numpy 2
    for name, constructor in (("_reconstruct", new_array), ("scalar", scalar))
]
NUMPY += [(PickledArray, "numpy.ndarray"), (PickledDtype, "numpy.dtype")]

CONTAINERS = [argparse.Namespace, frozenset, (plain_dict, "collections.defaultdict"), collections.deque]
CONTAINERS += [pathlib.PosixPath, pathlib.PurePosixPath, pathlib.WindowsPath, pathlib.PureWindowsPath]

OMEGACONF: list[Any] = [
    class_
    for module in (base, nodes, dictconfig, listconfig)
    for class_ in vars(module).values()
    if inspect.isclass(class_) and class_.__module__ == module.__name__
]
# What omegaconf's containers name as the types of their keys and values.
TYPES: list[Any] = [dict, list, tuple, int, float, str, bool, bytes, (typing.Any, "typing.Any")]

HARMLESS = [*NUMPY, *CONTAINERS, *OMEGACONF, *TYPES]


def allow_checkpoint_classes(*others: type) -> None:
    """Lets ``torch.load(weights_only=True)``, torch's default since 2.6, read what fairseq-train writes.

    Args:
        others: classes to let through as well; unpickling one sets attributes, if it has no ``__setstate__``.
    """
    torch.serialization.add_safe_globals([*HARMLESS, *others])
