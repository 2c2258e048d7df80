"""Residual connections that an initialization has chosen, in the layers of a Transformer."""

from collections.abc import Iterable

from torch import Tensor, nn


class ChosenResidual(nn.Module):
    """A layer of fairseq's whose residual connections may be others than x + f(x).

    fairseq calls ``residual_connection`` once for each branch, in their order, and does not say for which; a layer says
    before its forward pass which branches will come.

    Attributes:
        residual: None for x + f(x); a module, called with f(x) and x, for all branches; or an ``nn.ModuleDict`` of
            such, by branch: ``self_attn``, ``encoder_attn``, ``ffn``.
    """

    residual: nn.Module | None

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.register_module("residual", None)

    def expect_branches(self, branches: Iterable[str]) -> None:
        """Says which branches the next forward pass has."""
        self._branches = list(branches)

    def residual_connection(self, x: Tensor, residual: Tensor) -> Tensor:
        """f(x) and x → the branch's result, all (T, B, C)."""
        if self.residual is None:
            return residual + x  # as stock fairseq
        branch = self._branches.pop(0)
        connection = self.residual[branch] if isinstance(self.residual, nn.ModuleDict) else self.residual
        return connection(x, residual)
