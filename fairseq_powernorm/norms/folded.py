"""The module in place of a norm whose constants were folded into the linear layers after it."""

from torch import Tensor, nn


class FoldedNorm(nn.Module):
    """y = x. No parameters, no statistics; evaluation only.

    :mod:`fairseq_powernorm.checkpoints.fold` puts it in. It is no choice of ``--norm-type``; to train without a norm,
    that is ``none``.
    """

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Gives ``x`` back.

        Raises:
            ValueError: in training mode, as the statistics are gone.
        """
        if self.training:
            raise ValueError("a folded model cannot be trained: go back to the checkpoint that it was made from")
        return x
