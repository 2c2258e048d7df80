"""What fairseq's trainer knows and its models do not: where an update begins and ends, and whose data is a stopgap.

fairseq has no place for a model to hear of these, so this wraps methods of its ``Trainer`` and functions that save
checkpoints, once a process; for a model without batch statistics the first three do nothing. The last two are defects
of fairseq's that a training would otherwise lose its work by.

- ``train_step`` is an update: all its micro-batches count as one batch, and where fairseq leaves the update out (an
  overflow under ``--fp16`` or ``--amp``, no memory) no statistic moves.
- ``_prepare_sample`` finds that a rank has no data left and gives it a batch that it has seen: its gradient counts for
  nothing, and here its statistics too.
- ``begin_valid_epoch`` and ``save_checkpoint``: every rank has statistics of its own without ``--norm-sync``, and the
  first one's would be saved. All ranks get their mean first, and go on from it, as a restarted training does.
- ``PathManager.copy`` makes ``checkpoint_last.pt`` of an epoch's checkpoint: under a temporary name that is renamed,
  so that a training killed in that moment leaves no truncated file.
- ``_broadcast_object_slow`` takes the first rank's checkpoint to the others, and since torch 2.6 they refuse it: its
  settings are objects that ``torch.load`` does not know. A training on several devices could not go on.
"""

import functools
import os
import shutil
from typing import Any

import torch
import torch.distributed as dist
from fairseq import checkpoint_utils, file_io
from fairseq.distributed import utils as distributed_utils
from fairseq.trainer import Trainer
from torch.distributed import ProcessGroup

from ..norms.update import average_over_ranks, one_update

CURRENT = "_powernorm_update"
"""Attribute of a trainer: the latest update that it began."""
MOVED = "_powernorm_moved"
"""Attribute of a trainer: whether it trained since its ranks' statistics were averaged."""


def loss_scale(trainer: Trainer) -> float:
    """The factor that the trainer's optimizer multiplies the loss by (``--fp16``, ``--amp``)."""
    scaler = getattr(trainer.optimizer, "scaler", None)
    if scaler is None:
        return 1.0
    return scaler.loss_scale if hasattr(scaler, "loss_scale") else scaler.get_scale()


def share_statistics(trainer: Trainer) -> None:
    """Gives all ranks the mean of their statistics, unless nothing was trained since they got it."""
    if getattr(trainer, MOVED, False):
        average_over_ranks(trainer.get_model())
        setattr(trainer, MOVED, False)


def copy_whole(source: str, destination: str, overwrite: bool = False) -> bool:
    """Copies a file; at ``destination`` there is either what was there or all of the copy."""
    if os.path.exists(destination) and not overwrite:
        return False
    temporary = f"{destination}.tmp"
    shutil.copyfile(source, temporary)
    os.replace(temporary, destination)
    return True


def broadcast_object(value: Any, source: int, group: ProcessGroup, device: torch.device | None = None) -> Any:
    """``value`` of rank ``source``, on every rank. The bytes come from a rank of this very training, so they are
    unpickled as torch's own function for the purpose does it."""
    values = [value]
    dist.broadcast_object_list(values, src=source, group=group, device=device)
    return values[0]


def install() -> None:
    """Wraps them; a second call does nothing."""
    if getattr(Trainer.train_step, "tells_norms", False):
        return
    stock_step, stock_sample, stock_valid = Trainer.train_step, Trainer._prepare_sample, Trainer.begin_valid_epoch
    stock_save = checkpoint_utils.save_checkpoint

    @functools.wraps(stock_step)
    def train_step(self, samples, *args, **kwargs):
        updates = self.get_num_updates()
        with one_update(self.get_model(), loss_scale(self)) as update:
            setattr(self, CURRENT, update)
            setattr(self, MOVED, True)
            output = stock_step(self, samples, *args, **kwargs)
            # Under --amp the trainer calls itself after an overflow: then the inner update is the one that counts.
            update.taken = getattr(self, CURRENT) is update and self.get_num_updates() > updates
        return output

    @functools.wraps(stock_sample)
    def prepare_sample(self, sample, is_dummy=False):
        prepared, ignored = stock_sample(self, sample, is_dummy)
        if hasattr(self, CURRENT):
            getattr(self, CURRENT).ignored = ignored
        return prepared, ignored

    @functools.wraps(stock_valid)
    def begin_valid_epoch(self, epoch):
        share_statistics(self)
        return stock_valid(self, epoch)

    @functools.wraps(stock_save)
    def save_checkpoint(cfg, trainer, *args, **kwargs):
        share_statistics(trainer)
        return stock_save(cfg, trainer, *args, **kwargs)

    train_step.tells_norms = True
    Trainer.train_step, Trainer._prepare_sample, Trainer.begin_valid_epoch = (
        train_step,
        prepare_sample,
        begin_valid_epoch,
    )
    checkpoint_utils.save_checkpoint = save_checkpoint
    if file_io.IOPathManager is None:  # iopath has storage of its own, not on this machine
        file_io.PathManager.copy = staticmethod(copy_whole)
    distributed_utils._broadcast_object_slow = broadcast_object
