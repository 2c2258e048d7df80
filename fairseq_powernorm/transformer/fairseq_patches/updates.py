"""What fairseq's trainer knows and its models do not: where an update begins and ends, and which batch is a dummy.

- ``train_step`` is an update: all its micro-batches count as one batch. ``set_num_updates`` says that the optimizer has
  made it; where fairseq leaves the update out (an overflow under ``--fp16`` or ``--amp``, no memory) no statistic
  changes.
- ``_prepare_sample`` finds that a rank has no data left and gives it a batch that it has seen: its gradient counts for
  nothing, and here its statistics too.
- Without ``--norm-sync`` every rank has statistics of its own, and the first one's would be saved. All ranks get their
  mean before validation and saving, and go on from it, as a restarted training does.
"""

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


def train_step(stock: Callable, trainer, samples, *args, **kwargs):
    """A training step that is one update of the norms, with their penalties in its loss."""
    with (
        one_update(trainer.get_model(), loss_scale(trainer)) as update,
        penalties_added(trainer.criterion),
        recording(trainer, update),
    ):
        update.taken = False  # unless set_num_updates says so
        # Under --amp the trainer calls itself after an overflow: then the inner update is the one that counts.
        setattr(trainer, CURRENT, update)
        setattr(trainer, CHANGED, True)
        try:
            return stock(trainer, samples, *args, **kwargs)
        finally:
            setattr(trainer, CURRENT, None)


def set_num_updates(stock: Callable, trainer, num_updates):
    """The optimizer has made its update: so do the norms."""
    output = stock(trainer, num_updates)
    if getattr(trainer, CURRENT, None) is not None:
        getattr(trainer, CURRENT).finish()
    return output


def average_step(stock: Callable, average, new_model, *args, **kwargs):
    """The average of the model has the counters of the newest: of integers there is no moving average."""
    buffers = new_model.named_buffers()
    average.skip_keys |= {name for name, buffer in buffers if not buffer.is_floating_point()}
    return stock(average, new_model, *args, **kwargs)


def prepare_sample(stock: Callable, trainer, sample, is_dummy=False):
    """A batch whose gradient fairseq ignores has no influence on the statistics either."""
    prepared, ignored = stock(trainer, sample, is_dummy)
    if getattr(trainer, CURRENT, None) is not None:
        getattr(trainer, CURRENT).ignored = ignored
        note_tokens(trainer, prepared)
    return prepared, ignored


def begin_valid_epoch(stock: Callable, trainer, epoch):
    """All ranks validate the same model."""
    share_statistics(trainer)
    return stock(trainer, epoch)


def get_valid_iterator(stock: Callable, trainer, *args, **kwargs):
    """Validation batches of any size. fairseq drops the last one where its size is no multiple of
    ``--required-batch-size-multiple``, 8 by default. Training batches stay as they are."""
    dataset = trainer.cfg.dataset
    multiple, dataset.required_batch_size_multiple = dataset.required_batch_size_multiple, 1
    try:
        return stock(trainer, *args, **kwargs)
    finally:
        dataset.required_batch_size_multiple = multiple
