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
from fairseq.tasks.fairseq_task import FairseqTask
from fairseq.trainer import Trainer
from torch.distributed import ProcessGroup

from ..checkpoints.resume import LAST_NAME, Patience, read_patience, repair_last_checkpoint
from ..distributed import number_of_ranks
from .norm_flags_of_checkpoints import check_same_norms

logger = logging.getLogger(__name__)

PATIENCE = "powernorm_patience"
"""Where a checkpoint's ``extra_state`` has the state of early stopping."""


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
        state = read_patience(cfg.save_dir, cfg.maximize_best_checkpoint_metric)
    if state is None:
        return
    for program in training_programs():
        program.should_stop_early.best, program.should_stop_early.num_runs = state.best, state.validations_since
    logger.info("early stopping goes on: best %s, %d validations since", state.best, state.validations_since)


def install() -> None:
    """Wraps fairseq's functions; a second call does nothing."""
    stock_load = checkpoint_utils.load_checkpoint
    if getattr(stock_load, "goes_on", False):
        return
    stock_save = checkpoint_utils.save_checkpoint

    @functools.wraps(stock_load)
    def load_checkpoint(cfg, trainer, **kwargs):
        if cfg.restore_file == LAST_NAME:
            if trainer.data_parallel_rank == 0:
                repair_last_checkpoint(cfg.save_dir)
            if number_of_ranks() > 1:
                dist.barrier()
        extra_state, iterator = stock_load(cfg, trainer, **kwargs)
        if cfg.restore_file == LAST_NAME and not cfg.finetune_from_model:
            restore_patience(cfg, extra_state)
        return extra_state, iterator

    @functools.wraps(stock_save)
    def save_checkpoint(cfg, trainer, *args, **kwargs):
        # What a task says that a checkpoint should hold besides; translation says nothing.
        others = getattr(trainer.task, "get_checkpoint_dict", dict)
        trainer.task.get_checkpoint_dict = lambda: {**others(), PATIENCE: patience()}
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
