"""Which classes of fairseq's checkpoints may be unpickled: torch's check stays on, with these few let through."""

import argparse

import torch


def allow_checkpoint_classes() -> None:
    """Lets ``torch.load(weights_only=True)``, torch's default since 2.6, read what fairseq-train writes.

    ``argparse.Namespace`` holds the model's flags. It is a plain container: unpickling one sets attributes and runs
    no code.
    """
    torch.serialization.add_safe_globals([argparse.Namespace])
