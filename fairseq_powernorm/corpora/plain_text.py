"""One idea of a space, of a line and of a word, for every tool that a text goes through.

| who | takes for a space |
|---|---|
| fairseq, and the sacreBLEU protocols of detokenised text | what ``str.isspace`` says, 29 characters |
| multi-bleu.perl, and the protocols of tokenised text | U+0020 and five of ASCII's control characters |
| subword-nmt | U+0020 |
| sentencepiece | U+0020 and its own sign for it, U+2581 |

For a line end ``str.splitlines`` takes ten of these characters, and fairseq a lone carriage return. So what one tool
calls a word is two to the next, and a line two lines. :func:`single_spaces` leaves U+0020 alone, at which all agree.
"""

import re
from collections.abc import Sequence

import regex

SENTENCEPIECE_SPACE = "\u2581"
CONTROL_SYMBOLS = ("<s>", "<pad>", "</s>", "<unk>")  # of fairseq's dictionaries: a word like these is read as one

OTHER_SPACES = re.compile(rf"[^\S ]|{SENTENCEPIECE_SPACE}")
_INVISIBLE = regex.compile(r"[\s\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]*")


def single_spaces(line: str) -> str:
    """The words of a line with one U+0020 between them, none at the ends; words are what any tool's spaces separate."""
    return " ".join(line.replace(SENTENCEPIECE_SPACE, " ").split())


def is_blank(line: str) -> bool:
    """Whether a line has nothing to be seen in it but spaces, control and format characters, byte order marks."""
    return _INVISIBLE.fullmatch(line) is not None


def names_control_symbol(line: str) -> bool:
    """Whether one of :data:`CONTROL_SYMBOLS` stands in a line, as a word or in one, of which it may become a piece."""
    return "<" in line and any(symbol in line for symbol in CONTROL_SYMBOLS)


def split_control_symbols(pieces: Sequence[str], mark: str) -> list[str]:
    """Subwords of which none is one of fairseq's control symbols: those that are, are two, ``<`` and the rest.

    Joined again, they are the same word, so there is nothing to undo in translations.

    Args:
        pieces: the subwords of a line.
        mark: what the subword tool writes behind a piece that its word goes on after: ``"@@"``, or nothing.
    """
    if not any(piece in CONTROL_SYMBOLS for piece in pieces):
        return list(pieces)
    parted = ([f"<{mark}", piece[1:]] if piece in CONTROL_SYMBOLS else [piece] for piece in pieces)
    return [part for parts in parted for part in parts]
