"""What Moses' preparation scripts print for a line, without Perl: normalise, tokenise, detokenise, lower-case.

Equal byte for byte, for German and English, to normalize-punctuation.perl, remove-non-printing-char.perl,
tokenizer.perl, detokenizer.perl and lowercase.perl of https://github.com/moses-smt/mosesdecoder, with which IWSLT14 and
WMT14 are prepared. Every function takes one line without its line end and returns one. ``sacremoses`` supplies the
abbreviations, and the languages other than these two. Its own German and English differ from the scripts in final full
stops, CJK characters, quotation marks, spaces at the ends and double spaces, so their rules are written out here.

What a character is, Unicode says as the running Python knows it: version 14 in Python 3.11, as in Perl 5.36.
"""

import collections
import functools
import itertools
import re
import unicodedata
from collections.abc import Iterable

import regex
import sacremoses
from sacremoses.corpus import NonbreakingPrefixes

LANGUAGES = tuple(sorted(set(NonbreakingPrefixes().available_langs.values())))
EXACT_LANGUAGES = ("de", "en")  # byte for byte; the others are sacremoses' own

_SPACES = re.compile(r" {2,}")
# What counts as space in Perl: Python adds the separators U+001C to U+001F.
_SPACE_ONLY = re.compile(r"[^\S\x1c-\x1f]*")

# normalize-punctuation.perl reads bytes, so its digits, spaces and letters are ASCII's only.
_PERCENT = re.compile(r"(?<=[0-9]) %")
_CLOSED_BEFORE_MARK = re.compile(r"\) (?=[.!:?;,])")
_QUOTES_BETWEEN_LETTERS = tuple(re.compile(f"([a-zA-Z]){quote}([a-zA-Z])") for quote in "‘’")
_QUOTE_THEN_MARKS = re.compile(r'"([,.]+)')
_DOTS_THEN_QUOTE = re.compile(r'(\.+)"(\s*[^<])', re.ASCII)
_DIGIT_SPACE_DIGIT = re.compile("([0-9])\xa0([0-9])")
Replacements = tuple[tuple[str, str], ...]
_MARKS: Replacements = (("`", "'"), ("''", ' " '), ("„", '"'), ("“", '"'), ("”", '"'), ("–", "-"), ("—", " - "))
_SINGLE_QUOTES = (("‘", "'"), ("‚", "'"), ("’", '"'), ("''", '"'), ("…", "..."))
_GUILLEMETS = (("\xa0«\xa0", ' "'), ("«\xa0", '"'), ("«", '"'), ("\xa0»\xa0", '" '), ("\xa0»", '"'), ("»", '"'))
_NEAR_SPACES: Replacements = (("\xa0%", "%"), ("nº\xa0", "nº "), ("\xa0:", ":"), ("\xa0ºC", " ºC"), ("\xa0cm", " cm"))
_NEAR_SPACES += (("\xa0?", "?"), ("\xa0!", "!"), ("\xa0;", ";"), (",\xa0", ", "))

# What the tokenizer deletes: ASCII's control characters that do not count as space.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
_DOTS = re.compile(r"\.(\.+)")
_DOTS_STEP = re.compile(r"DOTMULTI\.([^.])")
_DOTS_WORD = re.compile(r"(?:DOT)+MULTI")
_NEAR_APOSTROPHES = re.compile("'.?'")
# Marks that became alphabetic with Unicode 16, which the regex library knows and Perl did not.
_ALPHABETIC_SINCE_16 = re.compile("[\u0363-\u036f\u0c04\u0f82\u0f83\u1dd3-\u1de6\U00011080\U00011081]")
_ESCAPES: Replacements = (("&", "&amp;"), ("|", "&#124;"), ("<", "&lt;"), (">", "&gt;"))
_ESCAPES += (("'", "&apos;"), ('"', "&quot;"), ("[", "&#91;"), ("]", "&#93;"))

_ENTITIES: Replacements = (("&bar;", "|"), ("&bra;", "["), ("&ket;", "]"))  # as Moses once escaped them
_ENTITIES += tuple((entity, character) for character, entity in reversed(_ESCAPES))  # the ampersand last
_CJK = re.compile(
    "[\u1100-\u11ff\u2e80-\ua4cf\ua840-\ua87f\uac00-\ud7af\uf900-\ufaff\ufe30-\ufe4f\uff65-\uffdc\U00020000-\U0002ffff]"
)


def _check_language(language: str) -> None:
    if language not in LANGUAGES:
        raise ValueError(f"no rules for language {language!r}; known are {', '.join(LANGUAGES)}")


def _replace(text: str, replacements: Iterable[tuple[str, str]]) -> str:
    for old, new in replacements:
        text = text.replace(old, new)
    return text


def _single_spaces(text: str) -> str:
    return _SPACES.sub(" ", text) if "  " in text else text


def normalize_punctuation(line: str, language: str) -> str:
    """What ``normalize-punctuation.perl LANGUAGE`` prints: one kind of quotation mark, dash and space.

    Exact for every language. Spaces at either end are kept, and a closing bracket leaves one behind.

    Raises:
        ValueError: the language is not one of :data:`LANGUAGES`.
    """
    _check_language(language)
    line = line.replace("\r", "")
    if "(" in line or ")" in line:
        line = line.replace("(", " (").replace(")", ") ")
    line = _CLOSED_BEFORE_MARK.sub(")", _single_spaces(line)).replace("( ", "(").replace(" )", ")")
    if " %" in line:
        line = _PERCENT.sub("%", line)
    line = line.replace(" :", ":").replace(" ;", ";")
    line = _single_spaces(_replace(line, _MARKS)).replace("´", "'")
    if "‘" in line or "’" in line:
        for pattern in _QUOTES_BETWEEN_LETTERS:
            line = pattern.sub(r"\1'\2", line)
    line = _replace(line, _SINGLE_QUOTES)
    if "«" in line or "»" in line:
        line = _replace(line, _GUILLEMETS)
    if "\xa0" in line:
        line = _replace(line, _NEAR_SPACES)
    line = _single_spaces(line)
    if language == "en":
        line = _QUOTE_THEN_MARKS.sub(r'\1"', line)
    elif language != "cs":
        line = line.replace(',"', '",')
        if '."' in line:  # in Perl the line end is there, and may be what follows the quotation mark
            line = _DOTS_THEN_QUOTE.sub(r'"\1\2', line + "\n")[:-1]
    if "\xa0" in line:
        line = _DIGIT_SPACE_DIGIT.sub(r"\1,\2" if language in ("de", "es", "cs", "fr") else r"\1.\2", line)
    return line


def remove_non_printing(line: str) -> str:
    """What ``remove-non-printing-char.perl`` prints: a space for every character of Unicode's category C.

    These are control and format characters (soft hyphen, zero-width space), private and unassigned ones.
    """
    if line.isprintable():  # asks for more than we do, and is fast
        return line
    return "".join(" " if unicodedata.category(character)[0] == "C" else character for character in line)


def lowercase(line: str) -> str:
    """What ``lowercase.perl`` prints; unlike Python's, Perl's lower case has no final sigma."""
    return line.replace("Σ", "σ").lower()


def _ranges(characters: Iterable[str]) -> str:
    """What to write between ``[`` and ``]`` for these letters and numbers."""
    groups = itertools.groupby(enumerate(sorted(map(ord, characters))), lambda pair: pair[1] - pair[0])
    runs = [[code_point for _, code_point in group] for _, group in groups]
    return "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)


class _Around:
    """Substitutions for a character, depending on its neighbours, in turn.

    The script's patterns use up the neighbours. Patterns that only look at them are many times faster, and do the same
    unless two such characters are so near each other that they would share a neighbour or be one.

    Args:
        mark: the character.
        rules: patterns of the character before and after it ("" is any), and what replaces it.
    """

    def __init__(self, mark: str, rules: list[tuple[str, str, str]]):
        self._looking = []
        for new, alike in itertools.groupby(rules, key=lambda rule: rule[2]):
            neighbours = "|".join(f"(?<={left}{mark})(?={right})" for left, right, _ in alike)
            self._looking.append((re.compile(f"{mark}(?:{neighbours})"), new))
        self._using = [(re.compile(f"({left}){mark}({right})"), rf"\1{new}\2") for left, right, new in rules]

    def substitute(self, text: str, near: bool) -> str:
        """Applies the substitutions; ``near`` says that some of the characters in the text are near each other."""
        for pattern, replacement in self._using if near else self._looking:
            text = pattern.sub(replacement, text)
        return text


class _Rules:
    """The patterns of tokenizer.perl that ask for ``\\p{IsAlpha}``, ``\\p{IsAlnum}`` or ``\\p{IsN}``."""

    def __init__(self):
        everything = _ALPHABETIC_SINCE_16.sub("", "".join(map(chr, range(0x110000))))
        kinds = {c: unicodedata.category(c) for c in regex.findall(r"[\p{Alphabetic}\p{N}]", everything)}
        alpha = _ranges(c for c, kind in kinds.items() if kind not in ("Nd", "No", "Cn"))
        alnum = _ranges(c for c, kind in kinds.items() if kind not in ("No", "Cn"))
        number = _ranges(c for c, kind in kinds.items() if kind[0] == "N")
        self.special = re.compile(rf"([^{alnum} .'`,\-])")
        self.hyphen = re.compile(f"-(?<=[{alnum}]-)(?=[{alnum}])")
        self.letter, self.alnum_end = re.compile(f"[{alpha}]"), re.compile(f"[{alnum}]$")
        letter, other, digit, no_digit, neither = (
            f"[{kind}]" for kind in (alpha, f"^{alpha}", number, f"^{number}", f"^{alpha}{number}")
        )
        self.commas = _Around(",", [(no_digit, "", " , "), ("", no_digit, " , "), (digit, "$", " , ")])
        separate = [(other, other, " ' "), (neither, letter, " ' "), (letter, other, " ' ")]
        self.apostrophes = _Around("'", [*separate, (letter, letter, " '"), (digit, "s", " '")])


_rules = functools.cache(_Rules)
_other_tokenizer = functools.cache(sacremoses.MosesTokenizer)
_other_detokenizer = functools.cache(sacremoses.MosesDetokenizer)


@functools.cache
def _abbreviations(language: str) -> dict[str, bool]:
    """What keeps its full stop, and whether only in front of a number (``No. 5``)."""
    entries = (entry.partition(" #NUMERIC_ONLY#") for entry in NonbreakingPrefixes().words(language))
    return {abbreviation: bool(numeric_only) for abbreviation, numeric_only, _ in entries}


def _hide_dots(text: str) -> str:
    """Turns a run of n > 1 dots into a word of n times DOT and MULTI, as the script does, which may be in the text."""
    text = _DOTS.sub(r" DOTMULTI\1", text)
    while "DOTMULTI." in text:
        text = _DOTS_STEP.sub(r"DOTDOTMULTI \1", text).replace("DOTMULTI.", "DOTDOTMULTI")
    return text


def _separate_full_stops(words: list[str], language: str) -> None:
    """Splits the full stop off words, in place, but for abbreviations and where the sentence goes on in lower case."""
    letter, abbreviations = _rules().letter, _abbreviations(language)
    for position, word in enumerate(words):
        if word[-1] != "." or word == ".":
            continue
        stem = word[:-1]
        if position < len(words) - 1:  # the last word is split whatever it is
            following = words[position + 1][0]
            numeric_only = abbreviations.get(stem)
            if following.islower() or numeric_only is False or (numeric_only and following in "0123456789"):
                continue
            if "." in stem and letter.search(stem):
                continue
        words[position] = f"{stem} ."


def tokenize(line: str, language: str, aggressive: bool = False) -> str:
    """What ``tokenizer.perl -l LANGUAGE`` prints: tokens with a space between them, ``&|<>'"[]`` as entities.

    A line of nothing but spaces comes back as it is. ``.'`` at the end of an English line leaves a space behind.

    Args:
        line: one sentence.
        language: German and English exactly, others as sacremoses has them.
        aggressive: the script's ``-a``: ``well-known`` becomes ``well @-@ known``.

    Raises:
        ValueError: the language is not one of :data:`LANGUAGES`.
    """
    if language not in EXACT_LANGUAGES:
        _check_language(language)
        return _other_tokenizer(language).tokenize(line, aggressive_dash_splits=aggressive, return_str=True)
    rules = _rules()
    cleaned = line if line.isprintable() else _CONTROL.sub("", line)
    text = " ".join(cleaned.split())
    if not text:
        return line if cleaned == line else ""
    text = " ".join(rules.special.split(text))  # every other item is one of the special characters
    if aggressive and "-" in text:
        text = rules.hyphen.sub(" @-@ ", text)
    dots = ".." in text or "DOTMULTI" in text
    if dots:
        text = _hide_dots(text)
    if "," in text:
        text = rules.commas.substitute(text, near=",," in text)
    if "'" in text and language == "en":
        text = rules.apostrophes.substitute(text, near=bool(_NEAR_APOSTROPHES.search(text)))
    elif "'" in text:
        text = text.replace("'", " ' ")
    words = text.split()
    if "." in text:
        _separate_full_stops(words, language)
    text = " ".join(words)
    if text.endswith(".'"):
        text = text[:-2] + " . ' "
    if dots:
        text = _DOTS_WORD.sub(lambda word: "." * ((len(word[0]) - len("MULTI")) // len("DOT")), text)
    return _replace(text, _ESCAPES)


def _attachment(word: str, previous: str, english: bool, quotes: collections.Counter[str]) -> tuple[bool, bool]:
    """Whether a token is joined to the one before it, and to the one behind it; counts its quotation marks."""
    if word < "\u1100" and word.isalnum():  # nothing below is about these
        return False, False
    if _CJK.match(word):
        return bool(_CJK.match(previous[-1:])), False
    if word and all(character in "([{¿¡" or unicodedata.category(character) == "Sc" for character in word):
        return False, True
    if word and not word.strip(",.?!:;\\%}])"):
        return True, False
    if english and word[:1] == "'" and _rules().letter.match(word, 1) and _rules().alnum_end.search(previous):
        return True, False
    if word and not word.strip("'\"„“`"):
        kind = word if word.strip("„“") else '"'
        if english and word == "'" and previous[-1:] == "s" and quotes[kind] % 2 == 0:
            return True, False  # the dogs' bone
        quotes[kind] += 1
        return quotes[kind] % 2 == 0, quotes[kind] % 2 == 1
    return False, False


def detokenize(line: str, language: str) -> str:
    """What ``detokenizer.perl -l LANGUAGE`` prints: text with ``@-@`` joined and entities resolved.

    A line ``<...>`` and one of nothing but spaces come back as they are. Languages and errors: see :func:`tokenize`.
    """
    if language not in EXACT_LANGUAGES:
        _check_language(language)
        return _other_detokenizer(language).detokenize(line.split())
    if _SPACE_ONLY.fullmatch(line) or (len(line) > 2 and line[0] == "<" and line[-1] == ">"):
        return line
    text = _replace(f" {line} ".replace(" @-@ ", "-"), _ENTITIES)
    quotes: collections.Counter[str] = collections.Counter()
    joined, gap, previous = "", " ", ""
    for word in text.rstrip(" ").split(" "):  # an empty word, of a double space, is a word too
        before, behind = _attachment(word, previous, language == "en", quotes)
        joined += word if before else gap + word
        gap, previous = "" if behind else " ", word
    return _single_spaces(joined).removeprefix(" ").removesuffix(" ")
