"""Former name of ``powernorm-run``, for one release: ``python -m fairseq_powernorm.launch VERB …``."""

from .pipeline.__main__ import command

if __name__ == "__main__":
    command()
