"""The bound of Theorem 4 (Shen et al. 2020) along a real training with ``power``.

With X̂ = x/√(ψ² + ε), g = γ ⊙ dY and Γ = mean X̂², ν is at most B = the largest rms(g)/√Γ of the batches so far, channel
by channel, and so |dX| ≤ (|g| + B |X̂|)/√(ψ² + ε) for every token (docs/guarantees.md derives it).
"""

import functools

import torch
from torch import Tensor, nn

from ..norms.power_norm import PowerNorm

Row = dict[str, float | str]


class BoundObserver:
    """Compares ‖dX‖ of every ``power`` of a model with its bound, in every backward pass from now on.

    Attributes:
        rows: a row for each norm and backward pass: ``gradient``, ‖dX‖ over all real tokens and channels; ``bound``,
            the norm of the bounds of all of them; ``largest_share``, the largest |dX| by its own bound, at most 1;
            ``projection_share``, the largest |ν|/B at the end of the pass: ν of the updates so far (``one_update``
            moves it later), B of the batches up to this one.
    """

    def __init__(self, model: nn.Module):
        """Args:
            model: its ``power`` are observed; those that scale tokens first are not, as the bound is that of the scaled
                tokens' gradient. Activations come without padding.

        Raises:
            ValueError: no such norm.
        """
        self.rows: list[Row] = []
        self.norms = {
            name: norm for name, norm in model.named_modules() if isinstance(norm, PowerNorm) and not norm.group_scaling
        }
        if not self.norms:
            raise ValueError(f"{type(model).__name__} has no norm 'power' without scaling, which the bound is of")
        self._seen: dict[str, tuple[Tensor, Tensor]] = {}
        self._bounds: dict[str, Tensor] = {}
        for name, norm in self.norms.items():
            norm.register_forward_pre_hook(functools.partial(self._before, name))
            norm.register_full_backward_hook(functools.partial(self._compare, name))

    def _before(self, name: str, norm: PowerNorm, given: tuple[Tensor, ...]) -> None:
        if norm.training:
            rows = given[0].detach().double().flatten(0, -2)
            square_mean = rows.square().mean(dim=0) if norm.warming_up else norm.running_square_mean.double()
            self._seen[name] = rows, (square_mean + norm.eps).sqrt()

    def _compare(
        self, name: str, norm: PowerNorm, grad_input: tuple[Tensor, ...], grad_output: tuple[Tensor, ...]
    ) -> None:
        assert norm.weight is not None
        rows, root = self._seen[name]
        grad = grad_output[0].movedim(norm.channel_dim, -1).flatten(0, -2)
        normalized, g = rows / root, grad.double() * norm.weight.detach().double()
        own = g.square().mean(dim=0).sqrt() / normalized.square().mean(dim=0).clamp(min=1e-300).sqrt()
        before = self._bounds.get(name, torch.zeros_like(own))
        # In a warm-up ν is the batch's own Λ, which is at most this batch's B.
        limit = (g.abs() + (own if norm.warming_up else before) * normalized.abs()) / root
        gradient, self._bounds[name] = grad_input[0].double().flatten(0, -2), torch.maximum(before, own)
        tiny = torch.finfo(torch.float64).tiny
        self.rows.append(
            {
                "norm": name,
                "gradient": gradient.norm().item(),
                "bound": limit.norm().item(),
                "largest_share": (gradient.abs() / limit.clamp(min=tiny)).max().item(),
                "projection_share": (norm.gradient_projection.abs() / self._bounds[name].clamp(min=tiny)).max().item(),
            }
        )
