"""Which backend takes a tensor, by its device and the environment variable ``FAIRSEQ_POWERNORM_KERNELS``."""

import functools
import importlib
import os
from types import ModuleType

import torch
from torch import Tensor

from . import cpu

VARIABLE = "FAIRSEQ_POWERNORM_KERNELS"
MODES = ("auto", "off", "force")
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def mode() -> str:
    """The variable's value: ``auto`` (the default, an empty one too: kernels where there are any, plain torch
    elsewhere), ``off`` (plain torch) or ``force`` (an error where there is no kernel).

    Raises:
        ValueError: another value.
    """
    value = os.environ.get(VARIABLE) or "auto"
    if value not in MODES:
        raise ValueError(f"{VARIABLE} is {value!r}; it takes {', '.join(MODES)}")
    return value


def backend_for(rows: Tensor) -> ModuleType | None:
    """The module whose functions take ``rows``, or None for plain torch: always in a graph that ``torch.compile`` or
    ``torch.export`` traces, as the compiler fuses torch's own operators.

    Raises:
        ValueError: the variable asks for kernels (``force``), and there are none for this device and dtype.
    """
    if torch.compiler.is_compiling():
        return None
    chosen = mode()
    if chosen == "off" or rows.device.type == "meta":  # shapes without values
        return None
    found, reason = None, f"no kernels for {rows.dtype}"
    if rows.dtype in DTYPES:
        found, reason = _of_device(rows.device.type)
    if found is None and chosen == "force":
        raise ValueError(f"{VARIABLE} is force, but there are {reason}")
    return found


def describe(device_type: str) -> str:
    """What computes the batch norms' training passes on a device, in words: for logs and records of runs.

    Raises:
        ValueError: a wrong value of the variable, or it asks for kernels and there are none.
    """
    chosen = mode()
    if chosen == "off":
        return f"plain torch ({VARIABLE} is off)"
    found, reason = _of_device(device_type)
    if found is None and chosen == "force":
        raise ValueError(f"{VARIABLE} is force, but there are {reason}")
    return f"kernels ({'C++' if device_type == 'cpu' else 'Triton'})" if found else f"plain torch ({reason})"


def _of_device(device_type: str) -> tuple[ModuleType | None, str]:
    """A device's backend, or None and why there is none."""
    if device_type == "cpu":
        return (cpu, "") if cpu.is_available() else (None, cpu.reason())
    if device_type == "cuda":
        return _triton_rows()
    return None, f"no kernels for the device {device_type}"


@functools.cache
def _triton_rows() -> tuple[ModuleType | None, str]:
    """The Triton backend, imported when the first tensor on a CUDA device comes."""
    try:
        return importlib.import_module(".triton_rows", __package__), ""
    except ImportError as error:
        return None, f"no kernels for CUDA devices, as Triton cannot be imported ({error})"
