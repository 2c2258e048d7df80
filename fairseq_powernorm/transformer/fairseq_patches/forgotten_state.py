"""What fairseq forgets between a checkpoint and the training that continues from it."""

import logging
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from fairseq import checkpoint_utils
from fairseq.optim.dynamic_loss_scaler import DynamicLossScaler
from fairseq.optim.lr_scheduler.reduce_lr_on_plateau import ReduceLROnPlateauLRSchedule

from ...checkpoints.resume import LAST_NAME, PATIENCE, Patience, read_patience

logger = logging.getLogger(__name__)

COUNTERS = "powernorm_counters"
"""Where a checkpoint's ``extra_state`` has the :func:`counters`."""


def get_batch_iterator(stock: Callable, task, dataset, *args, epoch=1, **options):
    """The very batches that a training began with, whichever epoch a restart begins with.

    fairseq makes its batches once, and draws the order of equally long sentences by the seed plus the epoch that the
    process begins with. A training that is started again in epoch 3 so has other batches from there on, and ends with
    another model. Here every start draws by the first epoch, as an undisturbed training does; where fairseq makes new
    batches in every epoch, nothing changes.
    """
    made_once = task.can_reuse_epoch_itr(dataset) and not (
        options.get("disable_iterator_cache") or options.get("update_epoch_batch_itr")
    )
    if not made_once or dataset in task.dataset_to_epoch_iter:
        return stock(task, dataset, *args, epoch=epoch, **options)
    iterator = stock(task, dataset, *args, epoch=1, **options)
    iterator.epoch = epoch
    dataset.set_epoch(epoch)
    return iterator


def training_programs() -> list[ModuleType]:
    """``fairseq_cli.train`` wherever it is loaded; under ``python -m`` it is ``__main__``."""
    names = ("fairseq_cli.train", "__main__")
    return [sys.modules[name] for name in names if hasattr(sys.modules.get(name), "should_stop_early")]


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
    state: Patience | None
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
    """What fairseq counts between two checkpoints and stores in none.

    These are the updates since the average of the model took one in (``--ema-update-freq``), the validations since the
    learning rate was reduced (``reduce_lr_on_plateau``), and, for the loss scale, the updates since an overflow.
    """
    found: dict[str, Any] = {}
    if trainer.cfg.ema.store_ema:
        found["ema"] = trainer.ema.update_freq_counter
    if isinstance(trainer.lr_scheduler, ReduceLROnPlateauLRSchedule):
        plateau = trainer.lr_scheduler.lr_scheduler
        found["plateau"] = {"num_bad_epochs": plateau.num_bad_epochs, "last_epoch": plateau.last_epoch}
    scaler = getattr(trainer.optimizer, "scaler", None)
    if isinstance(scaler, DynamicLossScaler):  # --fp16
        found["loss scale"] = {name: value for name, value in vars(scaler).items() if name.startswith("_")}
    elif scaler is not None:  # --amp, which stores not even the scale itself
        found["loss scale"] = scaler.state_dict()
    return found


def restore_counters(cfg, trainer, extra_state: dict[str, Any] | None) -> None:
    """Lets the :func:`counters` go on, each where fairseq restores what it belongs to.

    fairseq saves a checkpoint at the end of an epoch before the learning rate hears of the epoch's validation loss, and
    a restart forgets to tell it; so that is done here too.
    """
    found = (extra_state or {}).get(COUNTERS) or {}
    if "ema" in found and trainer.cfg.ema.store_ema:
        trainer.ema.update_freq_counter = found["ema"]
    scaler = None if cfg.reset_optimizer else getattr(trainer.optimizer, "scaler", None)
    if isinstance(scaler, DynamicLossScaler):
        vars(scaler).update(
            {name: value for name, value in found.get("loss scale", {}).items() if name in vars(scaler)}
        )
    elif scaler is not None and found.get("loss scale"):
        scaler.load_state_dict(found["loss scale"])
    kept = not (cfg.reset_lr_scheduler or cfg.reset_optimizer)
    if extra_state and "plateau" in found and kept and isinstance(trainer.lr_scheduler, ReduceLROnPlateauLRSchedule):
        vars(trainer.lr_scheduler.lr_scheduler).update(found["plateau"])
        iterator = extra_state["train_iterator"]
        if iterator["iterations_in_epoch"] == 0 and extra_state["val_loss"] is not None:
            trainer.lr_step(iterator["epoch"] - 1, extra_state["val_loss"])


def forget_earlier_trainings() -> None:
    """fairseq keeps the best metric and the count of ``--patience`` in attributes of functions, so that a second
    training of the same process (a sweep, a test) would continue the first one's."""
    vars(checkpoint_utils.save_checkpoint).pop("best", None)
    for program in training_programs():
        for name in ("best", "num_runs"):
            vars(program.should_stop_early).pop(name, None)
