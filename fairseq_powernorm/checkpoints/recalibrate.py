"""The former place of :mod:`fairseq_powernorm.transformer.recalibrate`: ``python -m`` works for one more release."""

import importlib

if __name__ == "__main__":
    importlib.import_module("fairseq_powernorm.transformer.recalibrate").command()
