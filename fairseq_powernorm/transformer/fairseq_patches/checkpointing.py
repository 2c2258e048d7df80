"""Loading and saving: a training that is started again goes on as if it had not been interrupted."""

import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from fairseq.file_io import IOPathManager, PathManager
from torch.distributed import ProcessGroup

from ...checkpoints.resume import LAST_NAME, PATIENCE, CannotResume, check_loadable, repair_last_checkpoint
from ...norms.distributed import number_of_ranks
from ..norm_flags_of_checkpoints import check_same_norms
from .forgotten_state import (
    COUNTERS,
    counters,
    forget_earlier_trainings,
    patience,
    restore_counters,
    restore_patience,
)
from .recording import recorder_of, save_averages
from .updates import share_statistics


def copy_whole(stock: Callable, source: str, destination: str, overwrite: bool = False) -> bool:
    """A copy that is renamed into place: at its destination there is what was there, or all of the copy.

    fairseq copies an epoch's checkpoint to ``checkpoint_last.pt``; a training that is killed meanwhile would leave half
    of it.
    """
    if IOPathManager is not None:  # iopath has storage of its own, not on this machine
        return stock(source, destination, overwrite)
    if os.path.exists(destination) and not overwrite:
        return False
    temporary = f"{destination}.tmp"
    shutil.copyfile(source, temporary)
    os.replace(temporary, destination)
    return True


def broadcast_object(
    stock: Callable, value: Any, source: int, group: ProcessGroup, device: torch.device | None = None
) -> Any:
    """The first rank's checkpoint, on every rank, which since torch 2.6 refuse it when fairseq sends it: its settings
    are objects that ``torch.load`` does not know. The bytes come from a rank of this very training, so they are
    unpickled as torch's own function for the purpose does it."""
    values = [value]
    dist.broadcast_object_list(values, src=source, group=group, device=device)
    return values[0]


def prepare_checkpoint(cfg, trainer) -> bool:
    """Makes sure that the checkpoint that a training would continue from can be read, if there is one.

    Returns:
        Whether there is a checkpoint of this training (and not one to fine-tune from, or none).

    Raises:
        CannotResume: it cannot be read, on every rank alike; nothing was changed.
    """
    own = cfg.restore_file == LAST_NAME
    suffix = trainer.checkpoint_suffix or ""
    path = os.path.join(cfg.save_dir, f"checkpoint_last{suffix}.pt") if own else cfg.restore_file
    outcome: list[Any] = [False, None]
    if trainer.data_parallel_rank == 0 and not PathManager.path_requires_pathmanager(path):
        try:
            # Shards (a suffix) belong together: none of them is replaced by itself.
            outcome[0] = bool(repair_last_checkpoint(cfg.save_dir) if own and not suffix else check_loadable(path))
        except CannotResume as error:
            outcome[1] = str(error)
    if number_of_ranks() > 1:
        dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise CannotResume(outcome[1])
    return outcome[0]


def load_checkpoint(stock: Callable, cfg, trainer, **kwargs):
    """Continues from a checkpoint that can be read, with what fairseq forgets."""
    found = prepare_checkpoint(cfg, trainer)
    forget_earlier_trainings()
    extra_state, iterator = stock(cfg, trainer, **kwargs)
    # What resets the best metric in fairseq resets the count that goes with it.
    fine_tuning = cfg.finetune_from_model and not found
    if not (fine_tuning or cfg.reset_meters or cfg.reset_optimizer):
        restore_patience(cfg, extra_state)
    if not fine_tuning:
        restore_counters(cfg, trainer, extra_state)
    recorder_of(trainer)  # what is wrong with its folder is said before anything is trained
    return extra_state, iterator


def save_checkpoint(stock: Callable, cfg, trainer, *args, **kwargs):
    """Saves the mean of all ranks' statistics, and what fairseq forgets."""
    share_statistics(trainer)
    if not cfg.no_save:
        save_averages(trainer)
    # What a task says that a checkpoint should hold besides; translation says nothing.
    others = getattr(trainer.task, "get_checkpoint_dict", dict)
    trainer.task.get_checkpoint_dict = lambda: {
        **others(),
        PATIENCE: patience(),
        COUNTERS: counters(trainer),
    }
    try:
        return stock(cfg, trainer, *args, **kwargs)
    finally:
        del trainer.task.get_checkpoint_dict


def load_state(stock: Callable, trainer, filename, reset_optimizer=False, *args, **kwargs):
    """The trainer's own loading, of a checkpoint of the same norms."""
    if hasattr(trainer.cfg.model, "norm_type") and os.path.isfile(filename):
        check_same_norms(trainer.cfg.model, filename, fine_tuning=reset_optimizer)
    return stock(trainer, filename, reset_optimizer, *args, **kwargs)
