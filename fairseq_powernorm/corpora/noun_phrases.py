"""Noun phrases: German gender, case and number in article, adjective and noun, with their English counterparts."""

from dataclasses import dataclass

from .numbers import english_cardinal, german_cardinal

# persons, as indices into tables of verb forms
FIRST_SINGULAR, SECOND_SINGULAR, THIRD_SINGULAR, FIRST_PLURAL, SECOND_PLURAL, THIRD_PLURAL = range(6)

# rows: case; columns: masculine, feminine, neuter, plural
_COLUMNS = {"masculine": 0, "feminine": 1, "neuter": 2, "plural": 3}
_DEFINITE = {
    "nominative": ("der", "die", "das", "die"),
    "accusative": ("den", "die", "das", "die"),
    "dative": ("dem", "der", "dem", "den"),
    "genitive": ("des", "der", "des", "der"),
}
_THIS = {
    "nominative": ("dieser", "diese", "dieses", "diese"),
    "accusative": ("diesen", "diese", "dieses", "diese"),
    "dative": ("diesem", "dieser", "diesem", "diesen"),
    "genitive": ("dieses", "dieser", "dieses", "dieser"),
}
_EIN_WORD_ENDINGS = {
    "nominative": ("", "e", "", "e"),
    "accusative": ("en", "e", "", "e"),
    "dative": ("em", "er", "em", "en"),
    "genitive": ("es", "er", "es", "er"),
}
_WEAK_ADJECTIVE_ENDINGS = {"nominative": ("e", "e", "e", "en"), "accusative": ("en", "e", "e", "en")}
_MIXED_ADJECTIVE_ENDINGS = {"nominative": ("er", "e", "es", "en"), "accusative": ("en", "e", "es", "en")}
_POSSESSIVES = {"mein": "my", "dein": "your", "sein": "his", "unser": "our"}
_EIN_WORDS = ("ein", "kein", *_POSSESSIVES)
_IRREGULAR_ENGLISH_PLURALS = {
    "child": "children",
    "man": "men",
    "woman": "women",
    "knife": "knives",
    "shelf": "shelves",
    "mouse": "mice",
    "fish": "fish",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "salesman": "salesmen",
}


@dataclass(frozen=True)
class Noun:
    """A German noun and its English counterpart.

    Attributes:
        singular: nominative singular.
        gender: "masculine", "feminine" or "neuter".
        plural: nominative plural.
        english: English singular.
        oblique: accusative, dative and genitive singular of a weak masculine (der Nachbar, den Nachbarn); else "".
        genitive: genitive singular where it is not the singular with "s" (masculine, neuter) or unchanged.
    """

    singular: str
    gender: str
    plural: str
    english: str
    oblique: str = ""
    genitive: str = ""


@dataclass(frozen=True)
class Adjective:
    """A German adjective, its English counterpart, and its stem before an ending where that differs (teuer, teur-)."""

    german: str
    english: str
    stem: str = ""


@dataclass(frozen=True)
class Phrase:
    """A phrase in both languages; ``person`` is what a verb agrees with, ``pronoun`` marks a personal pronoun."""

    german: str
    english: str
    person: int = THIRD_SINGULAR
    pronoun: bool = False


def english_plural(singular: str) -> str:
    """The plural of an English noun or compound, by its last word."""
    head, _, last = singular.rpartition(" ")
    if last in _IRREGULAR_ENGLISH_PLURALS:
        last = _IRREGULAR_ENGLISH_PLURALS[last]
    elif last.endswith(("s", "x", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{head} {last}".strip()


def with_indefinite_article(words: str) -> str:
    """ "a" or "an" before ``words``, by the first letter; no noun of ours begins like "hour" or "uniform"."""
    return f"{'an' if words[0].lower() in 'aeiou' else 'a'} {words}"


def inflect_noun(noun: Noun, case: str, plural: bool) -> str:
    """The German form of ``noun`` in a case and number."""
    if plural:
        return noun.plural + ("n" if case == "dative" and not noun.plural.endswith(("n", "s")) else "")
    if case == "genitive" and noun.genitive:
        return noun.genitive
    if case != "nominative" and noun.oblique:
        return noun.oblique
    return noun.singular + ("s" if case == "genitive" and noun.gender != "feminine" else "")


def _german_determiner(determiner: str | int, case: str, column: int) -> str:
    if isinstance(determiner, int):
        return german_cardinal(determiner)
    if determiner == "der":
        return _DEFINITE[case][column]
    if determiner == "dieser":
        return _THIS[case][column]
    if determiner in _EIN_WORDS:
        return determiner + _EIN_WORD_ENDINGS[case][column]
    return {"viele": "vielen" if case == "dative" else "viele", "": ""}[determiner]


def _adjective_ending(determiner: str | int, case: str, column: int) -> str:
    if determiner in ("der", "dieser"):
        return _WEAK_ADJECTIVE_ENDINGS[case][column] if case in _WEAK_ADJECTIVE_ENDINGS else "en"
    if determiner in _EIN_WORDS:
        return _MIXED_ADJECTIVE_ENDINGS[case][column] if case in _MIXED_ADJECTIVE_ENDINGS else "en"
    return "en" if case == "dative" else "e"  # plural after a number, after "viele" or with no article


def _english_determiner(determiner: str | int, words: str, plural: bool) -> str:
    if isinstance(determiner, int):
        return f"{english_cardinal(determiner)} {words}"
    if determiner == "ein" or (determiner == "kein" and not plural):
        return with_indefinite_article(words)
    if determiner in _POSSESSIVES:
        return f"{_POSSESSIVES[determiner]} {words}"
    fixed = {"der": "the", "dieser": "these" if plural else "this", "kein": "any", "viele": "many", "": ""}
    return f"{fixed[determiner]} {words}".strip()


def noun_phrase(
    noun: Noun,
    determiner: str | int,
    case: str = "nominative",
    plural: bool = False,
    adjective: Adjective | None = None,
    owner: Phrase | None = None,
) -> Phrase:
    """A noun with its determiner, adjective and owner, agreeing in gender, case and number.

    Args:
        noun: the noun.
        determiner: "der", "dieser", "ein", "kein", "mein", "dein", "sein", "unser", "viele", "" (none) or a number
            from 2 on; "viele", "" and a number need ``plural``. English "kein" is "a" or "any": the negation is in
            the English verb.
        case: "nominative", "accusative", "dative" or "genitive".
        plural: number of the noun.
        adjective: stands before the noun.
        owner: a genitive phrase, after the German noun; in English it takes the place of "the": "my brother's key".
            Needs the determiner "der".

    Raises:
        ValueError: the determiner is not allowed, with this number or this owner.
    """
    counted = isinstance(determiner, int) or determiner in ("viele", "")
    if not isinstance(determiner, int) and determiner not in ("der", "dieser", "viele", "", *_EIN_WORDS):
        raise ValueError(f"determiner {determiner!r} is not der, dieser, viele, empty, {', '.join(_EIN_WORDS)}")
    if (counted and not plural) or (determiner == "ein" and plural) or (owner is not None and determiner != "der"):
        raise ValueError(f"determiner {determiner!r} does not go with plural={plural}, owner={owner}")
    column = _COLUMNS["plural" if plural else noun.gender]
    german = [_german_determiner(determiner, case, column)]
    english = english_plural(noun.english) if plural else noun.english
    if adjective is not None:
        german.append((adjective.stem or adjective.german) + _adjective_ending(determiner, case, column))
        english = f"{adjective.english} {english}"
    german.append(inflect_noun(noun, case, plural))
    if owner is not None:
        german.append(owner.german)
        english = f"{owner.english}'s {english}"
    else:
        english = _english_determiner(determiner, english, plural)
    person = THIRD_PLURAL if plural else THIRD_SINGULAR
    return Phrase(" ".join(filter(None, german)), english, person)
