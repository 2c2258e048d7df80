"""Former name of :mod:`fairseq_powernorm.pipeline.sweep`, for one release."""

from .pipeline.sweep import command

if __name__ == "__main__":
    command()
