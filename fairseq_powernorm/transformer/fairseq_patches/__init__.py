"""All functions of fairseq's that this package wraps: what each wrapper does, and what happens without it.

Plain ``fairseq-train --user-dir fairseq_powernorm`` has them, in each of several processes, as soon as
``fairseq_powernorm.transformer`` is imported. With the environment variable ``FAIRSEQ_POWERNORM_PATCHES=off``, read
once at that moment, fairseq stays as it is: then batch norms train as if each pass were an update, and none of the
promises about restarts holds.
"""

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fairseq import checkpoint_utils, file_io
from fairseq.data import TokenBlockDataset
from fairseq.distributed import utils as distributed_utils
from fairseq.models.ema.ema import EMA
from fairseq.tasks.fairseq_task import FairseqTask
from fairseq.tasks.language_modeling import LanguageModelingTask
from fairseq.trainer import Trainer

from . import checkpointing, forgotten_state, language_modeling, launching, penalties, plain_settings, updates

SWITCH = "FAIRSEQ_POWERNORM_PATCHES"
STOCK = "_powernorm_stock"
"""Attribute of a wrapper: fairseq's own function."""


@dataclass(frozen=True)
class Patch:
    """One function of fairseq's.

    Attributes:
        owner: the class or module that it is an attribute of.
        name: of the attribute.
        replacement: what is called in its place: with fairseq's own function, and then what that is called with.
        why: what the replacement does.
        without: what happens in fairseq as it is.
    """

    owner: Any
    name: str
    replacement: Callable[..., Any]
    why: str
    without: str

    @property
    def current(self) -> Callable:
        """The function that fairseq calls now."""
        return getattr(self.owner, self.name)

    def install(self) -> None:
        """Puts the replacement in its place; a second call does nothing."""
        stock = self.current
        if hasattr(stock, STOCK):
            return

        @functools.wraps(stock)
        def wrapper(*args, **kwargs):
            return self.replacement(stock, *args, **kwargs)

        setattr(wrapper, STOCK, stock)
        static = isinstance(inspect.getattr_static(self.owner, self.name), staticmethod)
        setattr(self.owner, self.name, staticmethod(wrapper) if static else wrapper)


PATCHES = (
    Patch(
        Trainer,
        "train_step",
        updates.train_step,
        why="tells the norms, and a recorder of them (--norm-record), where an update begins and ends, and by which "
        "factor the loss is scaled; adds their penalties to the criterion's loss",
        without="each micro-batch updates the statistics, and so does an update that is left out; regularized-batch "
        "is BatchNorm",
    ),
    Patch(
        FairseqTask,
        "reduce_metrics",
        penalties.reduce_metrics,
        why="logs the penalties apart from the loss",
        without="nobody sees them",
    ),
    Patch(
        Trainer,
        "set_num_updates",
        updates.set_num_updates,
        why="ends the norms' update once the optimizer has made its own, before the average of the model takes it in",
        without="the average of --store-ema has the statistics of the update before",
    ),
    Patch(
        EMA,
        "_step_internal",
        updates.average_step,
        why="gives the average of --store-ema the newest model's counters",
        without="--store-ema ends with an error where a norm has a counter",
    ),
    Patch(
        Trainer,
        "_prepare_sample",
        updates.prepare_sample,
        why="tells the norms that a batch is the dummy of a rank that has run out of data, and a recorder how many "
        "tokens a batch has",
        without="the dummy batch counts in the statistics",
    ),
    Patch(
        Trainer,
        "begin_valid_epoch",
        updates.begin_valid_epoch,
        why="gives all ranks the mean of their statistics before they validate",
        without="the ranks validate with different models",
    ),
    Patch(
        Trainer,
        "get_valid_iterator",
        updates.get_valid_iterator,
        why="validates on every sentence",
        without="up to 7 sentences are left out, by --required-batch-size-multiple",
    ),
    Patch(
        Trainer,
        "load_checkpoint",
        checkpointing.load_state,
        why="refuses a checkpoint of other norms than the command line's",
        without="a model silently goes on as another one, where the tensors have the same shapes",
    ),
    Patch(
        checkpoint_utils,
        "load_checkpoint",
        checkpointing.load_checkpoint,
        why="replaces a last checkpoint that is cut off, stops before one that cannot be read, and restores what "
        "fairseq forgets: early stopping and other counters",
        without="a restart dies of half a file, or trains anew over a checkpoint that it may not look at; --patience "
        "counts anew",
    ),
    Patch(
        checkpoint_utils,
        "save_checkpoint",
        checkpointing.save_checkpoint,
        why="gives all ranks the mean of their statistics, and stores the counters, and beside a record the recorder's "
        "averages",
        without="the first rank's statistics are saved, the counters are not",
    ),
    Patch(
        file_io.PathManager,
        "copy",
        checkpointing.copy_whole,
        why="renames a copy into place",
        without="a training that is killed while it copies leaves half of checkpoint_last.pt",
    ),
    Patch(
        distributed_utils,
        "_broadcast_object_slow",
        checkpointing.broadcast_object,
        why="sends the first rank's checkpoint to the others by torch's own function",
        without="on torch 2.6 and newer no training on several devices can be started again",
    ),
    Patch(
        distributed_utils,
        "infer_init_method",
        launching.infer_init_method,
        why="makes one training of the processes that torchrun has started, on CPUs too",
        without="on machines with one CUDA device each trains alone, and all write the same checkpoints, unless "
        "--distributed-world-size is given; on CPUs that divides by zero",
    ),
    Patch(
        FairseqTask,
        "get_batch_iterator",
        forgotten_state.get_batch_iterator,
        why="makes the batches of the first epoch, whichever epoch a restart begins with",
        without="a restarted training goes through other batches from there on",
    ),
    Patch(
        TokenBlockDataset,
        "_build_slice_indices",
        language_modeling.sentences_as_blocks,
        why="makes blocks of one sentence without a type that numpy 2 has not got",
        without="--sample-break-mode eos and fairseq-interactive with a language model die",
    ),
    Patch(
        LanguageModelingTask,
        "eval_lm_dataloader",
        language_modeling.eval_lm_dataloader,
        why="refuses segments that are longer than the model's positions",
        without="fairseq-eval-lm leaves them out without a word, and calls a perplexity of 1 where all of them are",
    ),
)


def install() -> None:
    """Installs all patches, and the reader of plain settings in the place of ``eval``; a second call does nothing.

    Raises:
        ValueError: the environment variable holds something else than ``on`` or ``off``.
    """
    choice = os.environ.get(SWITCH, "on")
    if choice not in ("on", "off"):
        raise ValueError(f"{SWITCH}={choice}: expected on or off")
    if choice == "off":
        return
    for patch in PATCHES:
        patch.install()
    plain_settings.forbid_eval()
