"""A training that is started again goes on as if it had not been interrupted: what fairseq forgets, or breaks.

These wrap functions of fairseq's, once a process and in each of several (fairseq starts its own on several devices), so
plain ``fairseq-train --user-dir fairseq_powernorm`` has them too.
"""

import functools
import logging
import os
import shutil
import sys
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from fairseq import checkpoint_utils, file_io
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.optim.lr_scheduler.reduce_lr_on_plateau import ReduceLROnPlateauLRSchedule
from fairseq.tasks.fairseq_task import FairseqTask
from fairseq.trainer import Trainer
from torch.distributed import ProcessGroup

from ..checkpoints.resume import (
    LAST_NAME,
    PATIENCE,
    CannotResume,
    Patience,
    check_loadable,
    read_patience,
    repair_last_checkpoint,
)
from ..norms.distributed import number_of_ranks
from .norm_flags_of_checkpoints import check_same_norms

logger = logging.getLogger(__name__)

COUNTERS = "powernorm_counters"
"""Where a checkpoint's ``extra_state`` has the :func:`counters`."""


def copy_whole(source: str, destination: str, overwrite: bool = False) -> bool:
    """Copies a file; at ``destination`` there is either what was there or all of the copy.

    fairseq copies an epoch's checkpoint to ``checkpoint_last.pt``; a training that is killed meanwhile would leave half
    of it.
    """
    if os.path.exists(destination) and not overwrite:
        return False
    temporary = f"{destination}.tmp"
    shutil.copyfile(source, temporary)
    os.replace(temporary, destination)
    return True


def broadcast_object(value: Any, source: int, group: ProcessGroup, device: torch.device | None = None) -> Any:
    """``value`` of rank ``source``, on every rank.

    So the first rank's checkpoint comes to the others, which since torch 2.6 refuse it when fairseq sends it: its
    settings are objects that ``torch.load`` does not know. The bytes come from a rank of this very training, so they
    are unpickled as torch's own function for the purpose does it.
    """
    values = [value]
    dist.broadcast_object_list(values, src=source, group=group, device=device)
    return values[0]


def keep_batches_of_the_first_epoch() -> None:
    """Makes a restarted training go through the very batches that it began with.

    fairseq makes its batches once, and draws the order of equally long sentences by the seed plus the epoch that the
    process begins with. A training that is started again in epoch 3 so has other batches from there on, and ends with
    another model. Here every start draws by the first epoch, as an undisturbed training does; where fairseq makes new
    batches in every epoch, nothing changes.
    """
    stock = FairseqTask.get_batch_iterator

    @functools.wraps(stock)
    def get_batch_iterator(self, dataset, *args, epoch=1, **options):
        made_once = self.can_reuse_epoch_itr(dataset) and not (
            options.get("disable_iterator_cache") or options.get("update_epoch_batch_itr")
        )
        if not made_once or dataset in self.dataset_to_epoch_iter:
            return stock(self, dataset, *args, epoch=epoch, **options)
        iterator = stock(self, dataset, *args, epoch=1, **options)
        iterator.epoch = epoch
        dataset.set_epoch(epoch)
        return iterator

    FairseqTask.get_batch_iterator = get_batch_iterator


def training_programs() -> list[ModuleType]:
    """``fairseq_cli.train`` wherever it is loaded; under ``python -m`` it is ``__main__``."""
    names = ("fairseq_cli.train", "__main__")
    return [module for name in names if hasattr(module := sys.modules.get(name), "should_stop_early")]


def patience() -> dict[str, float | int]:
    """What ``--patience`` has counted so far; fairseq keeps it in two attributes of a function."""
    for program in training_programs():
        count = program.should_stop_early
        if hasattr(count, "best"):
            return {"best": count.best, "validations_since": count.num_runs}
    return {}


def restore_patience(cfg, extra_state: dict[str, Any] | None) -> None:
    """Lets ``--patience`` count on from where the checkpoint was saved."""
    if cfg.patience <= 0 or not extra_state:
        return
    if extra_state.get(PATIENCE):
        state = Patience(**extra_state[PATIENCE])
    else:  # a checkpoint that was saved without
        state = read_patience(cfg.save_dir) if cfg.restore_file == LAST_NAME else None
    if state is None:
        return
    for program in training_programs():
        program.should_stop_early.best, program.should_stop_early.num_runs = state.best, state.validations_since
    logger.info("early stopping goes on: best %s, %d validations since", state.best, state.validations_since)


def counters(trainer) -> dict[str, Any]:
    """What fairseq counts between two checkpoints and stores in none: updates since the average of the model took one
    in (``--ema-update-freq``), and validations since the learning rate was reduced (``reduce_lr_on_plateau``)."""
    found: dict[str, Any] = {}
    if trainer.cfg.ema.store_ema:
        found["ema"] = trainer.ema.update_freq_counter
    if isinstance(trainer.lr_scheduler, ReduceLROnPlateauLRSchedule):
        plateau = trainer.lr_scheduler.lr_scheduler
        found["plateau"] = {"num_bad_epochs": plateau.num_bad_epochs, "last_epoch": plateau.last_epoch}
    return found


def restore_counters(cfg, trainer, extra_state: dict[str, Any] | None) -> None:
    """Lets the :func:`counters` go on, each where fairseq restores what it belongs to.

    fairseq saves a checkpoint at the end of an epoch before the learning rate hears of the epoch's validation loss, and
    a restart forgets to tell it; so that is done here too.
    """
    found = (extra_state or {}).get(COUNTERS) or {}
    if "ema" in found and trainer.cfg.ema.store_ema:
        trainer.ema.update_freq_counter = found["ema"]
    kept = not (cfg.reset_lr_scheduler or cfg.reset_optimizer)
    if "plateau" in found and kept and isinstance(trainer.lr_scheduler, ReduceLROnPlateauLRSchedule):
        vars(trainer.lr_scheduler.lr_scheduler).update(found["plateau"])
        iterator = extra_state["train_iterator"]
        if iterator["iterations_in_epoch"] == 0 and extra_state["val_loss"] is not None:
            trainer.lr_step(iterator["epoch"] - 1, extra_state["val_loss"])


def forget_earlier_trainings() -> None:
    """fairseq keeps the best metric and the count of ``--patience`` in attributes of functions, so that a second
    training of the same process (a sweep, a test) would go by the first one's."""
    vars(checkpoint_utils.save_checkpoint).pop("best", None)
    for program in training_programs():
        for name in ("best", "num_runs"):
            vars(program.should_stop_early).pop(name, None)


def prepare_checkpoint(cfg, trainer) -> bool:
    """Sees to it that the checkpoint that a training would continue from can be read, if there is one.

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


def install() -> None:
    """Wraps fairseq's functions; a second call does nothing."""
    stock_load = checkpoint_utils.load_checkpoint
    if getattr(stock_load, "goes_on", False):
        return
    stock_save = checkpoint_utils.save_checkpoint

    @functools.wraps(stock_load)
    def load_checkpoint(cfg, trainer, **kwargs):
        found = prepare_checkpoint(cfg, trainer)
        forget_earlier_trainings()
        extra_state, iterator = stock_load(cfg, trainer, **kwargs)
        # What resets the best metric in fairseq resets the count that goes with it.
        fine_tuning = cfg.finetune_from_model and not found
        if not (fine_tuning or cfg.reset_meters or cfg.reset_optimizer):
            restore_patience(cfg, extra_state)
        if not fine_tuning:
            restore_counters(cfg, trainer, extra_state)
        return extra_state, iterator

    @functools.wraps(stock_save)
    def save_checkpoint(cfg, trainer, *args, **kwargs):
        # What a task says that a checkpoint should hold besides; translation says nothing.
        others = getattr(trainer.task, "get_checkpoint_dict", dict)
        trainer.task.get_checkpoint_dict = lambda: {
            **others(),
            PATIENCE: patience(),
            COUNTERS: counters(trainer),
        }
        try:
            return stock_save(cfg, trainer, *args, **kwargs)
        finally:
            del trainer.task.get_checkpoint_dict

    stock_restore = Trainer.load_checkpoint

    @functools.wraps(stock_restore)
    def restore(self, filename, reset_optimizer=False, *args, **kwargs):
        if hasattr(self.cfg.model, "norm_type") and os.path.isfile(filename):
            check_same_norms(self.cfg.model, filename, fine_tuning=reset_optimizer)
        return stock_restore(self, filename, reset_optimizer, *args, **kwargs)

    Trainer.load_checkpoint = restore
    load_checkpoint.goes_on = True
    checkpoint_utils.load_checkpoint, checkpoint_utils.save_checkpoint = load_checkpoint, save_checkpoint
    if file_io.IOPathManager is None:  # iopath has storage of its own, not on this machine
        file_io.PathManager.copy = staticmethod(copy_whole)
    distributed_utils._broadcast_object_slow = broadcast_object
    keep_batches_of_the_first_epoch()
