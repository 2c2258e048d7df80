"""What fairseq's trainer knows and its models do not: where an update begins and ends, and whose data is a stopgap.

fairseq has no place for a model to hear of these, so this wraps five methods of its ``Trainer`` and the function that
saves checkpoints, once a process; but for the last, they do nothing for a model without batch statistics.

- ``train_step`` is an update: all its micro-batches count as one batch. ``set_num_updates`` says that the optimizer has
  made it, in front of the trainer's average of the model (``--store-ema``); where fairseq leaves the update out (an
  overflow under ``--fp16`` or ``--amp``, no memory) no statistic moves.
- ``_prepare_sample`` finds that a rank has no data left and gives it a batch that it has seen: its gradient counts for
  nothing, and here its statistics too.
- ``begin_valid_epoch`` and ``save_checkpoint``: every rank has statistics of its own without ``--norm-sync``, and the
  first one's would be saved. All ranks get their mean first, and go on from it, as a restarted training does.
- ``get_valid_iterator`` validates on every sentence. fairseq drops the last batch where its size is no multiple of
  ``--required-batch-size-multiple``, 8 by default: up to 7 sentences. Training batches stay as they are.
"""

import functools

from fairseq import checkpoint_utils
from fairseq.trainer import Trainer

from ..norms.update import average_over_ranks, one_update

CURRENT = "_powernorm_update"
"""Attribute of a trainer: the update that is under way, or None."""
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


def install() -> None:
    """Wraps them; a second call does nothing."""
    if getattr(Trainer.train_step, "tells_norms", False):
        return
    stock_step, stock_number = Trainer.train_step, Trainer.set_num_updates
    stock_sample, stock_valid = Trainer._prepare_sample, Trainer.begin_valid_epoch
    stock_save, stock_valid_iterator = checkpoint_utils.save_checkpoint, Trainer.get_valid_iterator

    @functools.wraps(stock_step)
    def train_step(self, samples, *args, **kwargs):
        with one_update(self.get_model(), loss_scale(self)) as update:
            update.taken = False  # unless set_num_updates says so
            # Under --amp the trainer calls itself after an overflow: then the inner update is the one that counts.
            setattr(self, CURRENT, update)
            setattr(self, MOVED, True)
            try:
                return stock_step(self, samples, *args, **kwargs)
            finally:
                setattr(self, CURRENT, None)

    @functools.wraps(stock_number)
    def set_num_updates(self, num_updates):
        output = stock_number(self, num_updates)
        if getattr(self, CURRENT, None) is not None:
            getattr(self, CURRENT).finish()
        return output

    @functools.wraps(stock_sample)
    def prepare_sample(self, sample, is_dummy=False):
        prepared, ignored = stock_sample(self, sample, is_dummy)
        if getattr(self, CURRENT, None) is not None:
            getattr(self, CURRENT).ignored = ignored
        return prepared, ignored

    @functools.wraps(stock_valid)
    def begin_valid_epoch(self, epoch):
        share_statistics(self)
        return stock_valid(self, epoch)

    @functools.wraps(stock_valid_iterator)
    def get_valid_iterator(self, *args, **kwargs):
        dataset = self.cfg.dataset
        multiple, dataset.required_batch_size_multiple = dataset.required_batch_size_multiple, 1
        try:
            return stock_valid_iterator(self, *args, **kwargs)
        finally:
            dataset.required_batch_size_multiple = multiple

    @functools.wraps(stock_save)
    def save_checkpoint(cfg, trainer, *args, **kwargs):
        share_statistics(trainer)
        return stock_save(cfg, trainer, *args, **kwargs)

    train_step.tells_norms = True
    Trainer.train_step, Trainer.set_num_updates = train_step, set_num_updates
    Trainer._prepare_sample, Trainer.begin_valid_epoch = prepare_sample, begin_valid_epoch
    Trainer.get_valid_iterator = get_valid_iterator
    checkpoint_utils.save_checkpoint = save_checkpoint
