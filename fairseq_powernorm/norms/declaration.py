"""What a norm declares in its class; flags, help, tests, tables and charts derive from it."""

import dataclasses
from collections.abc import Callable
from typing import Literal

BufferPolicy = Literal["mean", "newest"]
"""How the average of several checkpoints gets a buffer: the float64 mean, or the newest checkpoint's value."""


@dataclasses.dataclass(frozen=True)
class Statistic:
    """A buffer that training passes change.

    Attributes:
        start: the value that it starts at and is reset to.
        average: how checkpoint averaging treats it.
        in_evaluation: whether evaluation uses it.
        counter: whether it is an int64 scalar rather than a floating-point value per channel.
    """

    start: float
    average: BufferPolicy = "mean"
    in_evaluation: bool = True
    counter: bool = False


@dataclasses.dataclass(frozen=True)
class Declaration:
    """A norm as the rest of the package knows it. (Its settings are those of its constructor, its statistics those of
    its class, its place in tables and charts that in the registry.)

    Attributes:
        name: by which flags, checkpoints and configurations choose it. Never changed: checkpoints hold it.
        short_name: as papers write it, for tables; the name itself where they do not.
        color: in charts, ``#RRGGBB``; one of its own. Those so far are of the palette of Okabe and Ito (2008), told
            apart by the colour-blind.
        source: the paper.
        training: the normalised activations in training, for the documents' table of norms.
        gradient: likewise the backward pass.
        evaluation: likewise what evaluation uses.
        reference: its definition in :mod:`fairseq_powernorm.functional.reference`, which the tests compare with. It is
            called with x, padding, weight and bias, and those of ``state``, ``eps``, ``alpha_fwd``, ``alpha_bwd`` and
            ``warming_up`` that it takes. None where recorded runs of somebody's code are the definition.
        exact_gradient: whether the backward pass is the derivative of the forward pass.
        ignores_padding: whether padding is left out of the backward pass.
        auto_group_scaling: ``--norm-group-scaling auto`` for it: the scaling that it has in the paper's experiments.
            Never changed: checkpoints say ``auto``.
        normalizes: what γ and β are applied to: each token at quadratic mean or variance 1 over its channels
            (``"token"``), or each channel at mean 0 and variance 1 over the batch's tokens (``"channel"``). Between
            norms that agree :func:`~fairseq_powernorm.norms.replace.replace_norms` keeps γ and β. None: something else.
    """

    name: str
    short_name: str
    color: str
    source: str
    training: str
    gradient: str
    evaluation: str
    reference: Callable | None
    exact_gradient: bool = True
    ignores_padding: bool = True
    auto_group_scaling: str = "0"
    normalizes: Literal["token", "channel"] | None = None
