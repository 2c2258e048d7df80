"""fairseq_powernorm: the normalization of a translation Transformer, chosen by flag.

As a fairseq plugin (``--user-dir fairseq_powernorm``) importing this package registers the architectures. fairseq has
loaded itself by then; where it has not, nothing here loads it, so that the norms stay plain torch modules and the
tools that need no model start at once. A program that wants both imports ``fairseq_powernorm.transformer``.
"""

import importlib
import sys

__version__ = "0.1.0"
__all__ = ["available_norms", "build_norm"]

if "fairseq" in sys.modules:
    importlib.import_module(".transformer", __name__)


def __getattr__(name: str):
    if name in __all__:
        return getattr(importlib.import_module(".norms.registry", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
