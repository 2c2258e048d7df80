"""``--norm-record DIR``: fairseq's trainer tells a recorder of the norms what it knows.

The flag is looked at by trainers alone: a model that is loaded to translate or validate records nothing, whatever its
checkpoint's flags say.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from fairseq.logging import metrics
from fairseq.trainer import Trainer

from ...flags.values import FlagError
from ...norms.update import OneUpdate
from ...recording.recorder import NormRecorder

RECORDER = "_powernorm_recorder"
"""Attribute of a trainer: its recorder, once it has one."""


def recorder_of(trainer: Trainer) -> NormRecorder | None:
    """The trainer's recorder, made when it is first asked for; None without the flag.

    Raises:
        FlagError: the folder holds the record of another training, or the model has no norm to record.
    """
    flags = trainer.cfg.model
    folder = getattr(flags, "norm_record", None)
    if not folder:
        return None
    if getattr(trainer, RECORDER, None) is None:
        save_dir = os.path.relpath(trainer.cfg.checkpoint.save_dir, folder)  # the two may be moved together
        run = {"checkpoints": save_dir, "seed": trainer.cfg.common.seed}
        interval = getattr(flags, "norm_record_interval", 10)
        try:
            recorder = NormRecorder(trainer.get_model(), folder, interval, trainer.get_num_updates(), run)
        except (ValueError, OSError) as error:
            raise FlagError(f"--norm-record: {error}") from None
        setattr(trainer, RECORDER, recorder)
    return getattr(trainer, RECORDER)


@contextlib.contextmanager
def recording(trainer: Trainer, update: OneUpdate) -> Iterator[None]:
    """Within the block the trainer's passes belong to its next update. What is recorded is logged too, as a mean over
    all norms: ``norm_mean_discrepancy`` and the like."""
    recorder = recorder_of(trainer)
    if recorder is None:
        yield
        return
    recorder.latest = {}
    with recorder.record(update, trainer.get_num_updates() + 1):
        yield
    for name, value in recorder.latest.items():
        metrics.log_scalar(f"norm_{name}", value, round=5)


def note_tokens(trainer: Trainer, sample: Any) -> None:
    """Tells the recorder how many target tokens the loss of a micro-batch is summed over."""
    recorder = getattr(trainer, RECORDER, None)
    if recorder is not None and isinstance(sample, dict):
        recorder.summed_over = sample.get("ntokens", 1)


def average_averages(trainer: Trainer) -> None:
    """Gives all ranks the mean of their recorders' averages."""
    recorder = getattr(trainer, RECORDER, None)
    if recorder is not None:
        recorder.average_over_ranks()


def save_averages(trainer: Trainer) -> None:
    """Keeps the recorder's averages for a training that goes on from the checkpoint of now."""
    recorder = getattr(trainer, RECORDER, None)
    if recorder is not None:
        recorder.save(trainer.get_num_updates())
