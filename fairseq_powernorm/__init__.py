"""fairseq_powernorm: the normalization of a Transformer, chosen by flag, or put into any torch model.

As a fairseq plugin (``--user-dir fairseq_powernorm``) this package registers its architectures with fairseq, and wraps
the functions of fairseq's that are listed in ``fairseq_powernorm.transformer.fairseq_patches``: as soon as both are
imported, whichever comes first. By itself nothing here imports fairseq, so that the norms are plain torch modules and
the tools that need no model start at once.

The norms' classes (``PowerNorm``, ``BatchNorm``, … all of the registry's) can be imported from here by their names.
"""

import importlib

from .import_hooks import when_imported

__version__ = "0.1.0"
__all__ = [
    "available_norms",
    "average_over_ranks",
    "build_norm",
    "gather_statistics",
    "one_update",
    "padding_mask",
    "replace_norms",
]

_HOMES = {
    "available_norms": "registry",
    "average_over_ranks": "update",
    "build_norm": "registry",
    "gather_statistics": "recalibration",
    "one_update": "update",
    "padding_mask": "masks",
    "replace_norms": "replace",
}

when_imported("fairseq", lambda _: importlib.import_module(".transformer", __name__))


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f".norms.{_HOMES[name]}", __name__), name)
    if name[:1].isupper():  # a class: other names, which many tools ask for, do not load torch
        for norm in importlib.import_module(".norms.registry", __name__).NORMS.values():
            if norm.__name__ == name:
                return norm
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
