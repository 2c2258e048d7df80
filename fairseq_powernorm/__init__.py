"""fairseq_powernorm: the normalization of a translation Transformer, chosen by flag.

As a fairseq plugin (``--user-dir fairseq_powernorm``) this package registers its architectures with fairseq, and wraps
the functions of fairseq's that are listed in ``fairseq_powernorm.transformer.fairseq_patches``: as soon as both are
imported, whichever comes first. By itself nothing here imports fairseq, so that the norms are plain torch modules and
the tools that need no model start at once.
"""

import importlib

from .import_hooks import when_imported

__version__ = "0.1.0"
__all__ = ["available_norms", "build_norm"]

when_imported("fairseq", lambda _: importlib.import_module(".transformer", __name__))


def __getattr__(name: str):
    if name in __all__:
        return getattr(importlib.import_module(".norms.registry", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
