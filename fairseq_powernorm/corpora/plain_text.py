"""One definition of white space, blank lines and control symbols for all tools that read the text.

| tool | white space |
|---|---|
| fairseq, and the protocols of detokenised text | ``str.isspace``: 29 characters |
| multi-bleu.perl, and the protocols of tokenised text | U+0020 and five control characters of ASCII |
| subword-nmt | U+0020 |
| sentencepiece | U+0020 and its own sign for it, U+2581 |

``str.splitlines`` ends lines at ten of these characters, and fairseq at a lone carriage return. So what is one word or
line to one tool is two to another. After :func:`single_spaces` a line has U+0020 alone, on which all agree.
"""

import re
from collections.abc import Sequence

import regex

SENTENCEPIECE_SPACE = "\u2581"
CONTROL_SYMBOLS = ("<s>", "<pad>", "</s>", "<unk>")  # of fairseq's dictionaries, where a word like these becomes one

FAIRSEQ_SPACES = re.compile(r"[^\S ]")  # other than U+0020
OTHER_SPACES = re.compile(rf"[^\S ]|{SENTENCEPIECE_SPACE}")  # and those of any tool
_INVISIBLE = regex.compile(r"[\s\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]*")


def single_spaces(line: str) -> str:
    """The words of a line with one U+0020 between them, none at the ends; words are what any tool's spaces separate."""
    return " ".join(line.replace(SENTENCEPIECE_SPACE, " ").split())


def is_blank(line: str) -> bool:
    """Whether a line has no visible character: only spaces, control and format characters, fillers."""
    return _INVISIBLE.fullmatch(line) is not None


def names_control_symbol(line: str) -> bool:
    """Whether a line contains one of :data:`CONTROL_SYMBOLS`, as a word or in one, where it may become a subword."""
    return "<" in line and any(symbol in line for symbol in CONTROL_SYMBOLS)


def split_control_symbols(pieces: Sequence[str], mark: str) -> list[str]:
    """Splits every subword that is one of fairseq's control symbols in two: ``<`` and the rest.

    Joined again they are the same word, so nothing has to be undone in translations.

    Args:
        pieces: the subwords of a line.
        mark: what the subword tool appends to all but the last piece of a word: ``"@@"``, or nothing.
    """
    if not any(piece in CONTROL_SYMBOLS for piece in pieces):
        return list(pieces)
    parted = ([f"<{mark}", piece[1:]] if piece in CONTROL_SYMBOLS else [piece] for piece in pieces)
    return [part for parts in parted for part in parts]
