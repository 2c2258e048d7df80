"""Which sentence pairs Moses' ``clean-corpus-n.perl`` keeps, and what it prints for them, without Perl.

Equal byte for byte to the script of https://github.com/moses-smt/mosesdecoder with its options ``min``, ``max`` and
``-ratio``, for text whose first pair has no vertical bar: else the script takes words for factors (``house|noun``).
Words are what spaces separate, and lengths are in characters.
"""

import re

# Perl's \s+: Python's \s also takes the separators U+001C to U+001F for spaces.
_SPACES = re.compile(r"[^\S\x1c-\x1f]+")
_LONG_WORD = re.compile("[^ ]{1001}")


def _clean_line(line: str) -> str:
    line = line.replace("|", "")
    if line.isprintable():  # of spaces, only U+0020 is printable
        return " ".join(line.split())
    return _SPACES.sub(" ", line).removeprefix(" ").removesuffix(" ")


def clean_pair(source: str, target: str, minimum: int, maximum: float, ratio: float = 9.0) -> tuple[str, str] | None:
    """What the script prints for a pair, or None if it drops the pair.

    Runs of spaces, tabs and all else that Unicode calls space become one space, and those at the ends go. Kept is a
    pair of which both sides have ``minimum`` to ``maximum`` words, neither has more than ``ratio`` times the words of
    the other, and no word has more than 1000 characters. Empty sides are dropped even with a minimum of 0, and vertical
    bars are deleted.

    Args:
        source: a line without its line end.
        target: the line that belongs to it.
        minimum: the fewest words that are kept.
        maximum: the most words that are kept.
        ratio: the largest quotient of the numbers of words that is kept, either way round.
    """
    sides = _clean_line(source), _clean_line(target)
    if "" in sides:
        return None
    shorter, longer = sorted(side.count(" ") + 1 for side in sides)
    if shorter < minimum or longer > maximum or longer / shorter > ratio:
        return None
    if any(len(side) > 1000 and _LONG_WORD.search(side) for side in sides):
        return None
    return sides
