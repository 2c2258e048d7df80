"""Prints the table of norms for docs/norms.md: ``python -m fairseq_powernorm.norms``."""

import sys

from .registry import markdown_table

sys.stdout.write(markdown_table())
