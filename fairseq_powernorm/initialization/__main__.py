"""Prints the table of schemes for docs/initialization.md: ``python -m fairseq_powernorm.initialization``."""

import sys

from .schemes import markdown_table

sys.stdout.write(markdown_table())
