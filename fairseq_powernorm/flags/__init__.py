"""The flags that the plugin adds to fairseq's command line: norms, a norm's own settings, initializations.

Flags are stored in checkpoints: they hold primitives only and are never renamed. (In this folder no ``from __future__
import annotations``, and no ``X | None``: fairseq evaluates annotations of the files that declare its flags.)
"""
