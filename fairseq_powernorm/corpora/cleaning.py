"""Which sentence pairs Moses' ``clean-corpus-n.perl`` keeps, and what it prints for them, without Perl.

Equal byte for byte to the script of https://github.com/moses-smt/mosesdecoder with its options ``min``, ``max`` and
``-ratio``. Words are what spaces separate, and lengths are in characters.
"""

import re
from collections.abc import Iterable, Iterator

# Perl's \s+: Python's \s also takes the separators U+001C to U+001F for spaces.
_SPACES = re.compile(r"[^\S\x1c-\x1f]+")
_LONG_WORD = re.compile(r"[^ |]{1001}")
_BLANK_FACTOR = re.compile(r"[ |]\|")


def _clean_line(line: str, factored: bool) -> str:
    if not factored:
        line = line.replace("|", "")
    if line.isprintable():  # of spaces, only U+0020 is printable
        return " ".join(line.split())
    return _SPACES.sub(" ", line).removeprefix(" ").removesuffix(" ")


def clean_pair(
    source: str, target: str, minimum: int, maximum: float, ratio: float = 9.0, factored: bool = False
) -> tuple[str, str] | None:
    """What the script prints for a pair, or None if it drops the pair.

    Runs of spaces, tabs and all else that Unicode calls space become one space, and those at the ends go. Kept is a
    pair of which both sides have ``minimum`` to ``maximum`` words, neither has more than ``ratio`` times the words of
    the other, and no word has more than 1000 characters. Empty sides are dropped even with a minimum of 0.

    Args:
        source: a line without its line end.
        target: the line that belongs to it.
        minimum: the fewest words that are kept.
        maximum: the most words that are kept.
        ratio: the largest quotient of the numbers of words that is kept, either way round.
        factored: words are made of factors as in ``house|noun``, and a factor has at most 1000 characters; otherwise
            vertical bars are deleted.

    Raises:
        ValueError: a factor of a pair that would be kept is empty.
    """
    sides = _clean_line(source, factored), _clean_line(target, factored)
    if "" in sides:
        return None
    shorter, longer = sorted(side.count(" ") + 1 for side in sides)
    if shorter < minimum or longer > maximum or longer / shorter > ratio:
        return None
    if any(len(side) > 1000 and _LONG_WORD.search(side) for side in sides):
        return None
    for side in sides:
        if factored and _BLANK_FACTOR.search(side):
            raise ValueError(f"an empty factor in {side!r}; no bar may follow a space or a bar")
    return sides


def clean_pairs(
    pairs: Iterable[tuple[str, str]], minimum: int, maximum: int, ratio: float = 9.0
) -> Iterator[tuple[str, str]]:
    """The pairs that the script keeps, as it prints them, one at a time; see :func:`clean_pair`.

    As in the script, the corpus has factors if there is a vertical bar in its first pair.

    Raises:
        ValueError: a factor is empty; the message names the number of the pair.
    """
    factored = False
    for number, (source, target) in enumerate(pairs, start=1):
        if number == 1:
            factored = "|" in source or "|" in target
        try:
            cleaned = clean_pair(source, target, minimum, maximum, ratio, factored)
        except ValueError as error:
            raise ValueError(f"pair {number}: {error}") from None
        if cleaned is not None:
            yield cleaned
