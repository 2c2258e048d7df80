"""What a norm declares in its class; flags, help, tests, tables and charts derive from it."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

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
        slots: for a window of several values per channel (slots, C), the norm's attribute that says how many.
    """

    start: float
    average: BufferPolicy = "mean"
    in_evaluation: bool = True
    counter: bool = False
    slots: str | None = None


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting that one norm alone has: a keyword of its constructor, where its default is, and a flag named after
    norm and keyword (``--norm-unified-window`` is ``window`` of ``unified`` and of ``unified-released``).

    Attributes:
        help: for ``--help``.
        kind: int, float, str or bool.
        expected: what it may be, in words.
        accepts: whether a value of that kind is allowed.
        choices: the words that are, of a ``str``.
        share_of_training: the flag's default, ``auto``: this share of ``--max-update``.
        otherwise: what ``auto`` is where ``--max-update`` is not given; None makes that an error.
        heads: whether the flag's default is ``heads``, as many as the stack's attention has.
    """

    help: str
    kind: type
    expected: str
    accepts: Callable[[Any], bool]
    choices: tuple[str, ...] = ()
    share_of_training: float | None = None
    otherwise: int | None = None
    heads: bool = False

    @property
    def word(self) -> str | None:
        """What the flag takes besides values, and has by default: ``auto``, ``heads`` or nothing."""
        return "heads" if self.heads else "auto" if self.share_of_training is not None else None

    def check(self, name: str, value: Any) -> None:
        """Raises ``ValueError`` unless ``value`` is allowed; ``name`` is what the message calls it."""
        kinds = (int, float) if self.kind is float else self.kind
        of_kind = isinstance(value, kinds) and (self.kind is bool or not isinstance(value, bool))
        if not (of_kind and self.accepts(value)):
            raise ValueError(f"expected {name} to be {self.expected}, got {value!r}")


def whole_number(help: str, minimum: int = 0, **further: Any) -> Setting:
    """A setting that is a whole number, ``minimum`` or more."""
    return Setting(help, int, f"a whole number, {minimum} or more", lambda value: value >= minimum, **further)


def number(help: str) -> Setting:
    """A setting that is a finite number."""
    return Setting(help, float, "a finite number", math.isfinite)


def positive_number(help: str, zero: bool = False) -> Setting:
    """A setting that is a finite number above 0, or also 0."""
    words = "a finite number, 0 or more" if zero else "a finite number above 0"
    return Setting(help, float, words, lambda value: math.isfinite(value) and (value > 0 or (zero and value == 0)))


def choice(help: str, choices: tuple[str, ...]) -> Setting:
    """A setting that is one of some words."""
    return Setting(help, str, f"one of {', '.join(choices)}", lambda value: value in choices, choices)


def switch(help: str) -> Setting:
    """A setting that is off unless it is asked for."""
    return Setting(help, bool, "True or False", lambda value: True)


@dataclasses.dataclass(frozen=True)
class Declaration:
    """A norm as the rest of the package knows it. (Its settings are those of its constructor, its statistics and the
    settings that it alone has those of its class, its place in tables and charts that in the registry.)

    Attributes:
        name: by which flags, checkpoints and configurations choose it. Never changed: checkpoints hold it.
        short_name: as papers write it, for tables; the name itself where they do not.
        color: in charts, ``#RRGGBB``; one of its own. Those so far are of the palette of Okabe and Ito (2008), told
            apart by the colour-blind.
        source: the paper.
        training: the normalised activations in training, for the documents' table of norms.
        reference: its definition in :mod:`fairseq_powernorm.functional.reference` or a file beside it, which the tests
            compare with. It is called with x, padding, weight and bias, and those of ``state``, ``eps``,
            ``alpha_fwd``, ``alpha_bwd``, ``warming_up``, the norm's own settings and its further parameters that it
            takes. None where recorded runs of somebody's code are the definition.
        gradient: the backward pass, for the table.
        evaluation: likewise what evaluation uses.
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
    reference: Callable | None
    gradient: str = "exact"
    evaluation: str = "the same"
    exact_gradient: bool = True
    ignores_padding: bool = True
    auto_group_scaling: str = "0"
    normalizes: Literal["token", "channel"] | None = None
