"""How large activations and gradients are, layer by layer, at the start of a training or at any other moment.

For any model: forward hooks look at what its modules give, and a backward pass at the gradients of that. A scale that
grows or falls geometrically with depth is what initializations and norms are there to prevent (Glorot and Bengio 2010).
"""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass

import torch
from cycler import cycler
from matplotlib import rcParams
from matplotlib.figure import Figure
from torch import Tensor, nn

from .bar_chart import DOTS_PER_INCH

QUANTITIES = ("activation", "gradient")
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))


@dataclass(frozen=True)
class LayerScale:
    """One module of one model.

    Attributes:
        module: its name in the model.
        activation: root mean square of its output, over all elements.
        gradient: root mean square of the loss's gradient with respect to its output; NaN where none arrives.
    """

    module: str
    activation: float
    gradient: float


def layer_names(model: nn.Module) -> list[str]:
    """The members of a model's outermost lists of modules, such as ``encoder.layers.0``: its layers, as a rule."""
    names: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(f"{name}.".startswith(f"{outer}.") for outer in names):
            names += [f"{name}.{child}" for child, _ in module.named_children()]
    return names


def measure_scales(
    model: nn.Module, loss: Callable[[], Tensor], modules: Sequence[str] | None = None
) -> list[LayerScale]:
    """Runs one forward and one backward pass and measures what comes out of modules.

    The model's parameters are left as they are, their gradients are put back; a module in training mode has its dropout
    and, if it has any, changes its running statistics as in every pass.

    Args:
        model: any.
        loss: computes the loss on a batch, by a forward pass of the model.
        modules: names of the modules to look at; None for :func:`layer_names`. A module that gives several values is
            measured by the first tensor among them.

    Returns:
        One for each module that the forward pass went through, in the order in which it did.

    Raises:
        ValueError: no such module, none to look at, or one that gives no tensor.
    """
    names = layer_names(model) if modules is None else list(modules)
    known = dict(model.named_modules())
    if not names or (unknown := [name for name in names if name not in known]):
        raise ValueError(f"the model has no module {unknown[0]!r}" if names else "the model has no list of layers")
    activations: dict[str, float] = {}
    gradients: dict[str, float] = {}

    def look(name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple, output) -> None:
            values = output if isinstance(output, (tuple, list)) else (output,)
            found = next((value for value in values if isinstance(value, Tensor)), None)
            if found is None:
                raise ValueError(f"{name} gives no tensor")
            if name in activations:  # a layer that is called again; both numbers are those of the first call
                return
            activations[name] = root_mean_square(found)
            if found.requires_grad:
                found.register_hook(lambda gradient: gradients.__setitem__(name, root_mean_square(gradient)))

        return hook

    before = {parameter: parameter.grad for parameter in model.parameters()}
    try:
        for parameter in before:
            parameter.grad = None
        with contextlib.ExitStack() as hooks, torch.enable_grad():
            for name in names:
                hooks.enter_context(known[name].register_forward_hook(look(name)))
            loss().backward()
    finally:
        for parameter, gradient in before.items():
            parameter.grad = gradient
    return [LayerScale(name, activation, gradients.get(name, math.nan)) for name, activation in activations.items()]


def root_mean_square(values: Tensor) -> float:
    """√(mean of the squares), in float64."""
    return values.detach().double().square().mean().sqrt().item()


def to_rows(models: Mapping[str, Sequence[LayerScale]]) -> list[tuple]:
    """The scales of several models, a row a module, with the heading: ``model,module,activation,gradient``."""
    heading = ("model", "module", *QUANTITIES)
    return [heading, *((model, *astuple(scale)) for model, scales in models.items() for scale in scales)]


def draw(models: Mapping[str, Sequence[LayerScale]], title: str = "") -> Figure:
    """A chart of the scales of several models: activations and gradients, a line a model, logarithmic.

    Modules stand in the order of the first model that has them; a value of 0 or none is left out.

    Args:
        models: scales by what a model is called.
        title: above the chart.
    """
    figure = Figure(figsize=(12, 5), dpi=DOTS_PER_INCH, layout="constrained")
    order = list(dict.fromkeys(scale.module for scales in models.values() for scale in scales))
    lines = {}
    for axes, quantity in zip(figure.subplots(1, 2), QUANTITIES, strict=True):
        axes.set_prop_cycle(cycler(linestyle=DASHES) * rcParams["axes.prop_cycle"])
        for model, scales in models.items():
            shown = [(order.index(scale.module), value) for scale in scales if (value := getattr(scale, quantity)) > 0]
            lines[model] = axes.plot([x for x, _ in shown], [y for _, y in shown], linewidth=1.4)[0]
        axes.set_yscale("log")
        axes.set_title(f"root mean square of the {quantity}s", loc="left", fontsize=10, fontweight="bold")
        axes.set_xticks(range(len(order)), order, rotation=90, fontsize=6 if len(order) > 20 else 8)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(lines.values(), lines.keys(), frameon=False, loc="outside right center")
    if title:
        figure.suptitle(title, fontsize=12, parse_math=False)
    return figure
