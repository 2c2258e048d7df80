"""``python -m fairseq_powernorm.pipeline VERB …``, the console script ``powernorm-run``."""

import sys

try:
    from .command_line import command
except ModuleNotFoundError as error:  # the wrong Python, or nothing installed yet
    sys.exit(f"{sys.executable}: {error}; run 'make install' first")

if __name__ == "__main__":
    command()
