"""Running statistics as buffers: their dtype, their start, and what averaging and casts do to them."""

from typing import Unpack

import torch
from torch import Tensor, nn

from .declaration import Statistic
from .token_norm import ModuleOptions, TokenNorm


def dtype_for(statistic: Statistic, dtype: torch.dtype) -> torch.dtype:
    """``dtype`` where the statistic may have it; otherwise the nearest one that it may: float32 or wider."""
    if statistic.counter:
        return torch.int64
    return torch.promote_types(dtype, torch.float32) if dtype.is_floating_point else torch.float32


class RunningStatistics(TokenNorm):
    """A norm with the buffers that its class lists in ``statistics``.

    They are float32 or wider, in whatever way the module comes by its dtype: ``dtype=``, ``torch.set_default_dtype``,
    casts, ``load_state_dict`` with or without ``assign``. ``double()`` takes them along.
    """

    def __init__(self, channels: int, eps: float = 1e-5, **options: Unpack[ModuleOptions]):
        """Args and errors as in :class:`TokenNorm`."""
        super().__init__(channels, eps, **options)
        device, dtype = options.get("device"), options.get("dtype") or torch.get_default_dtype()
        for name, statistic in self.statistics.items():
            shape: tuple[int, ...] = () if statistic.counter else (channels,)
            if statistic.slots:
                shape = (getattr(self, statistic.slots), channels)
            start = torch.full(shape, statistic.start, dtype=dtype_for(statistic, dtype), device=device)
            self.register_buffer(name, start)

    def reset_parameters(self) -> None:
        """Puts γ at 1, β at 0 and every statistic at its start, as torch's norms do."""
        super().reset_parameters()
        self.reset_statistics()

    def reset_statistics(self) -> None:
        """Puts every statistic at its start."""
        for name, statistic in self.statistics.items():
            nn.init.constant_(getattr(self, name), statistic.start)

    def statistic(self, name: str) -> Tensor:
        """A statistic, for what every pass asks: ``getattr`` of an ``nn.Module`` takes as long as an operator."""
        return self._buffers[name]  # type: ignore[return-value]

    def check_statistics(self) -> None:
        """Raises ``ValueError`` if a training pass was lent a statistic that it cannot keep
        (``torch.func.functional_call``)."""
        for name, statistic in self.statistics.items():
            dtype = self.statistic(name).dtype
            if (dtype is not torch.float32 or statistic.counter) and dtype != dtype_for(statistic, dtype):
                raise ValueError(f"{name} is {dtype}; training keeps it in {dtype_for(statistic, dtype)} or wider")

    def _apply(self, fn, recurse=True):
        """Casts and moves the module, but keeps statistics in dtypes that they may have."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, statistic in self.statistics.items():
            cast = self.get_buffer(name)
            if cast.dtype != dtype_for(statistic, cast.dtype):
                self._buffers[name] = before[name].to(cast.device)  # type: ignore[union-attr]  # not widened again: nothing was rounded
        return self

    def _load_from_state_dict(self, *args, **keywords) -> None:
        """Loads, and widens what ``assign`` has put in place of a statistic."""
        super()._load_from_state_dict(*args, **keywords)
        for name, statistic in self.statistics.items():
            loaded = self.get_buffer(name)
            self._buffers[name] = loaded.to(dtype_for(statistic, loaded.dtype))
