"""The protocols that BLEU is reported by: what is done to the text, and sacreBLEU's settings.

Figures compare only within one protocol; between two, the same translations differ by points of BLEU.

| protocol | text | BLEU as of | whose |
|---|---|---|---|
| detokenized | detokenised, cased | sacreBLEU's default (13a) | what papers should report today (Post 2018) |
| detokenized-lowercase | detokenised, case ignored | sacreBLEU -lc | the same for corpora without case (IWSLT14) |
| tokenized | Moses' tokens, cased | multi-bleu.perl | fairseq's ``BLEU4``, and most papers before 2018 |
| tokenized-lowercase | Moses' tokens, case ignored | multi-bleu.perl -lc | Shen et al. 2020 for IWSLT14 De-En |
| compounds | Moses' tokens, cased, compounds split | multi-bleu.perl | Shen et al. 2020 for WMT14 En-De |

The last one is from Vaswani et al. 2017 (tensor2tensor's get_ende_bleu.sh). It needs the tokenizer's aggressive ``@-@``
undone. fairseq's compound_split_bleu.sh does not undo it: on text with ``@-@`` it makes five tokens, ``a @
##AT##-##AT## @ b``, of what are three here, and its figures are higher. Papers seldom say which was run.

multi-bleu.perl does not smooth: BLEU is 0 where a precision is. It reads bytes: only ASCII white space parts tokens,
and -lc lower-cases ASCII letters alone ("Ä" and "ä" stay two words). On text that was lower-cased before, as IWSLT14's
is, -lc changes nothing.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

SMOOTHINGS = ("exp", "none")  # sacreBLEU's default, and multi-bleu.perl's
_JOINED_WORDS = re.compile(rb"(\S)-(\S)")  # \S of bytes is Perl's: ASCII white space alone does not match it
_PYTHON_SPACES = {code: 0xDC00 + code for code in range(0x1C, 0x20)}  # white space to Python, not to Perl


def join_hyphens(line: str) -> str:
    """Undoes the tokenizer's aggressive splitting: ``a @-@ b`` becomes ``a-b``, as in Moses' detokenizer."""
    return line.replace(" @-@ ", "-")


def split_compounds(line: str) -> str:
    """Splits compounds at hyphens: ``a-b`` becomes ``a ##AT##-##AT## b``, left to right, without overlap.

    Without overlap means that of ``a-b-c`` only the first hyphen is split: ``b`` belongs to the first match. Perl does
    this on bytes, where a letter of two bytes serves both matches, so that both hyphens of ``a-é-c`` are split.
    """
    return _JOINED_WORDS.sub(rb"\1 ##AT##-##AT## \2", line.encode()).decode()


def see_bytes(line: str) -> str:
    """The line as multi-bleu.perl sees it, in characters with which sacreBLEU does the same.

    Every byte beyond ASCII becomes a lone surrogate, which to Python has no case and is no white space. So
    ``str.split()`` leaves non-breaking and other Unicode spaces inside tokens, and ``str.lower()`` leaves other letters
    than ASCII's as they are. The four ASCII separators that Python alone takes for white space are hidden likewise.
    Different tokens stay different, so n-grams match exactly where they did.
    """
    return line.encode().decode("ascii", "surrogateescape").translate(_PYTHON_SPACES)


STEPS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {"join-hyphens": join_hyphens, "split-compounds": split_compounds, "bytes": see_bytes}
)
STEP_DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "join-hyphens": "`a @-@ b` is joined to `a-b`",
        "split-compounds": "`a-b` is split to `a ##AT##-##AT## b`",
        "bytes": "only ASCII white space parts tokens and only ASCII letters have case, as in multi-bleu.perl",
    }
)


@dataclass(frozen=True)
class Protocol:
    """What is done to the text, then sacreBLEU's settings.

    Attributes:
        lowercase: ignore case.
        tokenize: sacreBLEU's tokenizer; ``"none"`` for text that is tokenised already.
        smoothing: sacreBLEU's name of it, one of ``SMOOTHINGS``.
        steps: names of ``STEPS``, done to every line of translations and reference before sacreBLEU sees it.
    """

    lowercase: bool = False
    tokenize: str = "13a"
    smoothing: str = "exp"
    steps: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The kind of text that this is for: ``"tokenized"`` or ``"detokenized"``."""
        return "tokenized" if self.tokenize == "none" else "detokenized"

    def prepare(self, lines: Sequence[str]) -> list[str]:
        """The lines after all ``steps``, in order."""
        prepared = list(lines)
        for step in self.steps:
            prepared = [STEPS[step](line) for line in prepared]
        return prepared


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "detokenized": Protocol(),
        "detokenized-lowercase": Protocol(lowercase=True),
        "tokenized": Protocol(tokenize="none", smoothing="none", steps=("bytes",)),
        "tokenized-lowercase": Protocol(lowercase=True, tokenize="none", smoothing="none", steps=("bytes",)),
        "compounds": Protocol(tokenize="none", smoothing="none", steps=("join-hyphens", "split-compounds", "bytes")),
    }
)


def protocol_named(name: str) -> Protocol:
    """The settings of a protocol.

    Raises:
        ValueError: an unknown name; the message lists the known.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"protocol {name!r} is unknown; known are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def name_of(settings: Protocol) -> str | None:
    """The name of the protocol with these settings, or None where no protocol has them."""
    return next((name for name, protocol in PROTOCOLS.items() if protocol == settings), None)


def text_suffix(protocol: Protocol, main: Protocol) -> str:
    """What names the files of a further protocol's text: ``hypothesis{suffix}.txt`` and ``reference{suffix}.txt``.

    Empty where the text is that of the main protocol; else ``".detokenized"`` or ``".tokenized"``.
    """
    return "" if protocol.text == main.text else f".{protocol.text}"


def sign(signature: str, steps: Sequence[str]) -> str:
    """sacreBLEU's signature, and behind it what was done to the text before, ``|prep:STEP+STEP``."""
    return f"{signature}|prep:{'+'.join(steps)}" if steps else signature


def settings_of(signature: str) -> Protocol:
    """The settings that a signature names, from :func:`sign`; a signature without smoothing has sacreBLEU's default.

    Raises:
        ValueError: case, smoothing or a step is missing or unknown. The tokenizer is not checked here.
    """
    parts = dict(part.partition(":")[::2] for part in signature.split("|"))
    if parts.get("case") not in ("lc", "mixed"):
        raise ValueError(f"signature {signature!r} has no case:lc or case:mixed")
    smoothing = parts.get("smooth", "exp")
    if smoothing not in SMOOTHINGS:
        raise ValueError(f"signature {signature!r} has smooth:{smoothing}; known are {', '.join(SMOOTHINGS)}")
    steps = tuple(parts["prep"].split("+")) if "prep" in parts else ()
    unknown = [step for step in steps if step not in STEPS]
    if unknown:
        raise ValueError(f"signature {signature!r} has prep:{'+'.join(unknown)}; known are {', '.join(STEPS)}")
    return Protocol(parts["case"] == "lc", parts.get("tok", ""), smoothing, steps)
