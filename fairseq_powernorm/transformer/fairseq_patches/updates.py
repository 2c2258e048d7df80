"""What fairseq's trainer knows and its models do not: where an update begins and ends, and which batch is a dummy.

- ``train_step`` is an update: all its micro-batches count as one batch. ``set_num_updates`` says that the optimizer has
  made it; where fairseq leaves the update out (an overflow under ``--fp16`` or ``--amp``, no memory) no statistic
  changes.
- ``_prepare_sample`` finds that a rank has no data left and gives it a batch that it has seen: its gradient counts for
  nothing, and here its statistics too.
- Without ``--norm-sync`` every rank has statistics of its own, and the first one's would be saved. All ranks get their
  mean before validation and saving, and go on from it, as a restarted training does.
"""

import functools
from collections.abc import Callable

from fairseq.trainer import Trainer

from ...norms.update import average_over_ranks, one_update
from .penalties import penalties_added
from .recording import average_averages, note_tokens, recording

CURRENT = "_powernorm_update"
"""Attribute of a trainer: the update that is under way, or None."""
CHANGED = "_powernorm_changed"
"""Attribute of a trainer: whether it trained since its ranks' statistics were averaged."""


def loss_scale(trainer: Trainer) -> float:
    """The factor that the trainer's optimizer multiplies the loss by (``--fp16``, ``--amp``)."""
    scaler = getattr(trainer.optimizer, "scaler", None)
    if scaler is None:
        return 1.0
    return scaler.loss_scale if hasattr(scaler, "loss_scale") else scaler.get_scale()


def share_statistics(trainer: Trainer) -> None:
    """Gives all ranks the mean of their statistics, unless nothing was trained since they got it."""
    if getattr(trainer, CHANGED, False):
        average_over_ranks(trainer.get_model())
        average_averages(trainer)
        setattr(trainer, CHANGED, False)


def train_step(stock: Callable) -> Callable:
    """A training step that is one update of the norms, with their penalties in its loss."""

    @functools.wraps(stock)
    def wrapper(self, samples, *args, **kwargs):
        with (
            one_update(self.get_model(), loss_scale(self)) as update,
            penalties_added(self.criterion),
            recording(self, update),
        ):
            update.taken = False  # unless set_num_updates says so
            # Under --amp the trainer calls itself after an overflow: then the inner update is the one that counts.
            setattr(self, CURRENT, update)
            setattr(self, CHANGED, True)
            try:
                return stock(self, samples, *args, **kwargs)
            finally:
                setattr(self, CURRENT, None)

    return wrapper


def set_num_updates(stock: Callable) -> Callable:
    """The optimizer has made its update: so do the norms."""

    @functools.wraps(stock)
    def wrapper(self, num_updates):
        output = stock(self, num_updates)
        if getattr(self, CURRENT, None) is not None:
            getattr(self, CURRENT).finish()
        return output

    return wrapper


def average_step(stock: Callable) -> Callable:
    """The average of the model has the counters of the newest: of integers there is no moving average."""

    @functools.wraps(stock)
    def wrapper(self, new_model, *args, **kwargs):
        buffers = new_model.named_buffers()
        self.skip_keys |= {name for name, buffer in buffers if not buffer.is_floating_point()}
        return stock(self, new_model, *args, **kwargs)

    return wrapper


def prepare_sample(stock: Callable) -> Callable:
    """A batch whose gradient fairseq ignores has no influence on the statistics either."""

    @functools.wraps(stock)
    def wrapper(self, sample, is_dummy=False):
        prepared, ignored = stock(self, sample, is_dummy)
        if getattr(self, CURRENT, None) is not None:
            getattr(self, CURRENT).ignored = ignored
            note_tokens(self, prepared)
        return prepared, ignored

    return wrapper


def begin_valid_epoch(stock: Callable) -> Callable:
    """All ranks validate the same model."""

    @functools.wraps(stock)
    def wrapper(self, epoch):
        share_statistics(self)
        return stock(self, epoch)

    return wrapper


def get_valid_iterator(stock: Callable) -> Callable:
    """Validation batches of any size. fairseq drops the last one where its size is no multiple of
    ``--required-batch-size-multiple``, 8 by default. Training batches stay as they are."""

    @functools.wraps(stock)
    def wrapper(self, *args, **kwargs):
        dataset = self.cfg.dataset
        multiple, dataset.required_batch_size_multiple = dataset.required_batch_size_multiple, 1
        try:
            return stock(self, *args, **kwargs)
        finally:
            dataset.required_batch_size_multiple = multiple

    return wrapper
