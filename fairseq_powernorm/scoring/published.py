"""Figures that others published, to stand beside ours in the table."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(frozen=True)
class Published:
    """Scores from elsewhere, BLEU or perplexity. Decimals, since they are shown with the digits of their publication.

    Attributes:
        test_set: the test set that they are of.
        source: where they are from.
        bleu: by norm.
        notes: by norm, what has to be said of its figure.
    """

    test_set: str
    source: str
    bleu: Mapping[str, Decimal]
    notes: Mapping[str, str] = field(default_factory=dict)

    def difference(self, norm: str, baseline: str) -> Decimal | None:
        """Published BLEU of a norm minus the baseline's; None for the baseline, or if either was not published."""
        if norm == baseline or norm not in self.bleu or baseline not in self.bleu:
            return None
        return self.bleu[norm] - self.bleu[baseline]


def choose_published(
    figures: Sequence[str],
    source: str | None,
    test_set: str | None,
    test_sets: Sequence[str],
    notes: Sequence[str] = (),
    kind: str = "BLEU",
) -> Published | None:
    """What the options of the command line say; None if they say nothing.

    Args:
        figures: each ``NORM=BLEU``, or several with commas in between.
        source: where they are from.
        test_set: the test set that they are of; None for the only one.
        test_sets: those of the table.
        notes: each ``NORM=TEXT``.
        kind: of score, ``BLEU`` or ``perplexity``.

    Raises:
        ValueError: something other than ``NORM=BLEU``, a norm given twice, a BLEU above 100, a note of a norm
            without a figure, figures without source or a source without figures, an unknown test set, or none chosen of
            several.
    """
    if not figures:
        if source is not None or test_set is not None or notes:
            raise ValueError(
                "a source, note or test set of published figures is given, but no figure; give --published"
            )
        return None
    bleu: dict[str, Decimal] = {}
    for figure in ",".join(figures).split(","):
        norm, _, value = figure.strip().partition("=")
        if not norm or not value:
            raise ValueError(f"published figure {figure!r}; expected NORM=BLEU, such as power=35.9")
        if norm in bleu:
            raise ValueError(f"published figures of {norm} are {bleu[norm]} and {value}; one is allowed")
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) or (kind == "BLEU" and Decimal(value) > 100):
            allowed = "from 0 to 100, such as 35.9" if kind == "BLEU" else "such as 35.9"
            raise ValueError(f"published {kind} of {norm} is {value!r}, expected a number {allowed}")
        bleu[norm] = Decimal(value)
    if source is None or not source.strip():
        raise ValueError("published figures need a source; give --published-source")
    if test_set is None and len(test_sets) > 1:
        raise ValueError(f"published figures are of one test set; give --published-test-set: {', '.join(test_sets)}")
    chosen = test_sets[0] if test_set is None else test_set
    if chosen not in test_sets:
        raise ValueError(f"published figures are of {chosen!r}, not a test set here; there are: {', '.join(test_sets)}")
    said = dict(note.partition("=")[::2] for note in notes)
    if unknown := [norm for norm, text in said.items() if norm not in bleu or not text.strip()]:
        raise ValueError(f"note {unknown[0]!r}: expected NORM=TEXT of a published figure: {', '.join(bleu)}")
    return Published(chosen, source.strip(), bleu, said)
