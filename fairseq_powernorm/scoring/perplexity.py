"""Perplexities: what fairseq-eval-lm prints, and the file that a run keeps of it.

| protocol | the text is cut into | scored |
|---|---|---|
| segments | segments of L tokens | every token; the first of a segment sees the token before it, no more |
| context | segments of L tokens that overlap in W | the last L − W of each, which see W tokens or more |

``segments`` is how Ma et al. 2019 evaluate, but for the last segment, which has fewer tokens and which they drop. A
perplexity compares only within one text, dictionary and protocol.
"""

import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ..files import atomic_write

LOSS = re.compile(r"Loss \(base 2\): (\S+), Perplexity: \S+$")
TOKENS = re.compile(r"Evaluated ([\d,]+) tokens in ")


@dataclass(frozen=True)
class Perplexity:
    """A language model's score on one text.

    Attributes:
        perplexity: 2 to the cross-entropy, base 2, by token.
        tokens: scored, the ends of lines among them.
        protocol: ``segments`` or ``context``.
        tokens_per_sample: L.
        context_window: W; 0 for ``segments``.
    """

    perplexity: float
    tokens: int
    protocol: str
    tokens_per_sample: int
    context_window: int

    def __str__(self) -> str:
        window = f", of which {self.context_window} are context" if self.context_window else ""
        return (
            f"perplexity {self.perplexity:.2f} ({self.tokens} tokens in segments of {self.tokens_per_sample}{window})"
        )


def read_evaluation(lines: Sequence[str], protocol: str, tokens_per_sample: int, context_window: int) -> Perplexity:
    """The score that fairseq-eval-lm has printed, by its cross-entropy, which has four digits behind the point.

    Raises:
        ValueError: there is none, or it is of no token, or not finite.
    """
    losses = [found[1] for line in lines if (found := LOSS.search(line))]
    tokens = [int(found[1].replace(",", "")) for line in lines if (found := TOKENS.search(line))]
    if not losses or not tokens:
        raise ValueError("fairseq-eval-lm printed no perplexity")
    loss = float(losses[-1])
    if not tokens[-1] or not math.isfinite(loss) or loss >= sys.float_info.max_exp:
        raise ValueError(f"fairseq-eval-lm scored {tokens[-1]} tokens with a loss of {losses[-1]}")
    return Perplexity(2**loss, tokens[-1], protocol, tokens_per_sample, context_window)


def write_perplexity(score: Perplexity, path: Path) -> None:
    """Writes a score, whole."""
    with atomic_write(path) as stream:
        json.dump(asdict(score), stream, indent=2)


def read_perplexity(path: Path) -> Perplexity:
    """Reads what :func:`write_perplexity` wrote.

    Raises:
        ValueError: not such a file.
    """
    names = {field.name for field in fields(Perplexity)}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(values, dict) or set(values) != names:
        raise ValueError(f"{path}: not a perplexity, which has {', '.join(sorted(names))}")
    found = values["perplexity"]
    if not isinstance(found, int | float) or not math.isfinite(found):
        raise ValueError(f"{path}: perplexity is {found!r}, expected a finite number")
    return Perplexity(**values)
