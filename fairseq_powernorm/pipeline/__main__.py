"""``powernorm-run VERB …``, also ``python -m fairseq_powernorm.pipeline VERB …``."""

import os
import sys

from ..files import read_and_write_utf8, run_command_line


def command() -> None:
    """The console script ``powernorm-run``, in an environment that changes no result."""
    if sys.platform != "linux":
        sys.exit(
            f"powernorm-run: recipes need Linux (bash, flock, /proc), this is {sys.platform}; the norms, their flags "
            "and the single commands, powernorm-train, -average, -generate, are plain Python and torch"
        )
    os.umask(os.umask(0) & 0o077)  # what is written can be read again
    read_and_write_utf8()  # before anything large is imported
    try:
        from . import command_line
    except ModuleNotFoundError as error:  # the wrong Python, or nothing installed yet
        sys.exit(f"{sys.executable}: {error}; run 'make install' first")
    os.environ.pop("POWERNORM_SCRIPT", None)  # what is started from here has a name of its own
    sys.argv[0] = command_line.SCRIPT or "powernorm-run"
    run_command_line(command_line.main)


if __name__ == "__main__":
    command()
