"""T-Fixup's learning rate (Huang et al. 2020, the authors' code): full from the first update, then falling.

(No ``from __future__ import annotations`` here: fairseq evaluates the annotations of a configuration.)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import List  # noqa: UP035 (the only list that fairseq makes a flag of)

from fairseq.dataclass import FairseqDataclass
from fairseq.optim.lr_scheduler import FairseqLRScheduler, register_lr_scheduler
from omegaconf import II


@dataclass
class TFixupScheduleConfig(FairseqDataclass):
    """Flags of ``--lr-scheduler t_fixup``."""

    decay_updates: int = field(
        default=4000,
        metadata={"help": "after how many updates the learning rate is lr/√2; T-Fixup has no warm-up"},
    )
    lr: List[float] = II("optimization.lr")  # noqa: UP006, RUF009 (as fairseq writes it)


@register_lr_scheduler("t_fixup", dataclass=TFixupScheduleConfig)
class TFixupSchedule(FairseqLRScheduler):
    """lr·√(K/(K + t)) at update t, K = ``--decay-updates``, 4000 in the paper's code."""

    def __init__(self, cfg: TFixupScheduleConfig, optimizer):
        """Args:
        cfg: K and the learning rate.
        optimizer: fairseq's.

        Raises:
            ValueError: several learning rates, or K below 1.
        """
        super().__init__(cfg, optimizer)
        rates = list(cfg.lr) if isinstance(cfg.lr, Sequence) else [cfg.lr]
        if len(rates) != 1:
            raise ValueError(f"--lr-scheduler t_fixup takes one learning rate, got --lr {rates}")
        if cfg.decay_updates < 1:
            raise ValueError(f"--lr-scheduler t_fixup takes --decay-updates of 1 or more, got {cfg.decay_updates}")
        self.start = rates[0]
        self.step_update(0)

    def step_update(self, num_updates: int) -> float:
        """Sets and gives the learning rate after a number of updates."""
        self.optimizer.set_lr(self.start * math.sqrt(self.cfg.decay_updates / (self.cfg.decay_updates + num_updates)))
        return self.optimizer.get_lr()

    def step(self, epoch: int, val_loss: float | None = None) -> float:
        """The learning rate at the end of an epoch, which changes nothing."""
        super().step(epoch, val_loss)
        return self.optimizer.get_lr()
