"""Updates counted in a buffer: for norms whose arithmetic changes with every update."""

from typing import ClassVar

from torch import Tensor

from .declaration import Statistic

NUM_UPDATES = Statistic(0, "newest", in_evaluation=False, counter=True)
"""Of the buffer ``num_updates``."""


class UpdateCounter:
    """Mixed into a norm that counts its updates in ``num_updates``, as a tensor: a Python number that changes all the
    time would have a compiled graph made anew all the time.

    The norm counts by itself, so a training loop need not. Where ``set_num_updates`` is called, as by fairseq, the
    buffer follows it, so that fine-tuning starts anew and ranks without data keep up.
    """

    joins_updates: ClassVar[bool]
    num_updates: Tensor

    def set_num_updates(self, num_updates: int) -> None:
        """Tells the norm how many optimizer updates are done; fairseq does so before each training step."""
        if self.joins_updates:
            self.num_updates.fill_(num_updates)
