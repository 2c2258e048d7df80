"""Verbs and modal verbs: German conjugation and English verb groups.

A tense is "present" (Er ruft an: he calls), "perfect" (Er hat angerufen: he called) or the infinitive of a modal verb
(können: Er kann anrufen: he can call), with "past " before it for the preterite (past können: Er konnte anrufen).
"""

from dataclasses import dataclass

from .noun_phrases import FIRST_SINGULAR, THIRD_SINGULAR

_HAVE = ("habe", "hast", "hat", "haben", "habt", "haben")
_BE = ("bin", "bist", "ist", "sind", "seid", "sind")
_WAS = ("war", "warst", "war", "waren", "wart", "waren")


@dataclass(frozen=True)
class Verb:
    """A German verb and its English counterpart.

    Attributes:
        infinitive: without the separable prefix ("rufen" of anrufen).
        participle: with the prefix ("angerufen").
        english: base form, with a preposition if it has one ("look for").
        english_past: past of the first word; "" for a regular one.
        prefix: separable prefix ("an"), or "".
        second_third: the forms of du and er where the stem changes ("siehst", "sieht").
        first: the form of ich where it is irregular ("weiß").
        moves: the perfect is formed with "sein".
        particle: English particle, after a pronoun, before a noun ("picks him up", "picks up the guest").
        case: "accusative" or "dative", the case of the object.
        objects: kinds of noun that the object may be; empty for a verb without one.
    """

    infinitive: str
    participle: str
    english: str
    english_past: str = ""
    prefix: str = ""
    second_third: tuple[str, str] | None = None
    first: str = ""
    moves: bool = False
    particle: str = ""
    case: str = "accusative"
    objects: tuple[str, ...] = ()


@dataclass(frozen=True)
class Modal:
    """A modal verb (or "werden" for the future): six German forms and its English.

    Attributes:
        german: forms for ich, du, er, wir, ihr, sie.
        kind: how English asks and negates: "auxiliary" (can he? he cannot), "lexical" (does he have to?) or "be".
        english: what stands before the base form: the auxiliary itself, the base ("want to") or "allowed to".
        past: of "lexical" and "be": whether it is in the past.
        english_past: past form of a lexical one.
    """

    german: tuple[str, ...]
    kind: str
    english: str
    past: bool = False
    english_past: str = ""


MODALS = {
    "können": Modal(("kann", "kannst", "kann", "können", "könnt", "können"), "auxiliary", "can"),
    "müssen": Modal(("muss", "musst", "muss", "müssen", "müsst", "müssen"), "lexical", "have to"),
    "wollen": Modal(("will", "willst", "will", "wollen", "wollt", "wollen"), "lexical", "want to"),
    "sollen": Modal(("soll", "sollst", "soll", "sollen", "sollt", "sollen"), "auxiliary", "should"),
    "dürfen": Modal(("darf", "darfst", "darf", "dürfen", "dürft", "dürfen"), "be", "allowed to"),
    "möchten": Modal(("möchte", "möchtest", "möchte", "möchten", "möchtet", "möchten"), "auxiliary", "would like to"),
    "werden": Modal(("werde", "wirst", "wird", "werden", "werdet", "werden"), "auxiliary", "will"),
    "past können": Modal(("konnte", "konntest", "konnte", "konnten", "konntet", "konnten"), "auxiliary", "could"),
    "past müssen": Modal(
        ("musste", "musstest", "musste", "mussten", "musstet", "mussten"),
        "lexical",
        "have to",
        past=True,
        english_past="had to",
    ),
    "past wollen": Modal(
        ("wollte", "wolltest", "wollte", "wollten", "wolltet", "wollten"),
        "lexical",
        "want to",
        past=True,
        english_past="wanted to",
    ),
    "past dürfen": Modal(
        ("durfte", "durftest", "durfte", "durften", "durftet", "durften"), "be", "allowed to", past=True
    ),
}


def conjugate(verb: Verb, person: int) -> str:
    """The German present without the separable prefix, for a person (index in ich, du, er, wir, ihr, sie)."""
    stem = verb.infinitive.removesuffix("en") if verb.infinitive.endswith("en") else verb.infinitive.removesuffix("n")
    if person == 0:
        return verb.first or stem + "e"
    if person in (1, 2) and verb.second_third is not None:
        return verb.second_third[person - 1]
    if person in (3, 5):
        return verb.infinitive
    link = "e" if stem.endswith(("t", "d", "chn", "ffn")) else ""
    if person == 1:
        return stem + ("t" if stem.endswith(("s", "ß", "z")) else f"{link}st")
    return f"{stem}{link}t"


def english_third_singular(base: str) -> str:
    """The form after "he", of a base whose first word inflects: "looks for", "tries", "has to"."""
    first, space, rest = base.partition(" ")
    if first == "have":
        first = "has"
    elif first.endswith(("s", "x", "ch", "sh", "o")):
        first += "es"
    elif first.endswith("y") and first[-2] not in "aeiou":
        first = first[:-1] + "ies"
    else:
        first += "s"
    return first + space + rest


def english_past(verb: Verb) -> str:
    """The English past of ``verb``, with its preposition."""
    first, space, rest = verb.english.partition(" ")
    if verb.english_past:
        first = verb.english_past
    elif first.endswith("y") and first[-2] not in "aeiou":
        first = first[:-1] + "ied"
    else:
        first += "d" if first.endswith("e") else "ed"
    return first + space + rest


def english_be(person: int, past: bool) -> str:
    """The form of "be" for a person."""
    if past:
        return "was" if person in (FIRST_SINGULAR, THIRD_SINGULAR) else "were"
    return {FIRST_SINGULAR: "am", THIRD_SINGULAR: "is"}.get(person, "are")


def german_be(person: int, past: bool) -> str:
    """The form of "sein" for a person."""
    return (_WAS if past else _BE)[person]


def german_group(verb: Verb, tense: str, person: int) -> tuple[str, str]:
    """The finite German verb and what stands at the end of a main clause ("ruft", "an"; "hat", "angerufen").

    Raises:
        KeyError: the tense is unknown.
    """
    if tense == "present":
        return conjugate(verb, person), verb.prefix
    if tense == "perfect":
        return (_BE if verb.moves else _HAVE)[person], verb.participle
    return MODALS[tense].german[person], verb.prefix + verb.infinitive


def english_group(verb: Verb, tense: str, person: int) -> tuple[str, str, str]:
    """The English verb group in three parts: operator, remainder, plain form.

    The operator stands before the subject in a question and before "not": "does", "did", "can", "is". The remainder
    follows it. The plain form serves where there is neither question nor negation: "calls", "can call".

    Raises:
        KeyError: the tense is unknown.
    """
    do = "does" if person == THIRD_SINGULAR else "do"
    if tense == "present":
        plain = english_third_singular(verb.english) if person == THIRD_SINGULAR else verb.english
        return do, verb.english, plain
    if tense == "perfect":
        return "did", verb.english, english_past(verb)
    modal = MODALS[tense]
    remainder = f"{modal.english} {verb.english}"
    if modal.kind == "lexical":
        if modal.past:
            return "did", remainder, f"{modal.english_past} {verb.english}"
        return do, remainder, english_third_singular(remainder) if person == THIRD_SINGULAR else remainder
    if modal.kind == "be":
        operator = english_be(person, modal.past)
        return operator, remainder, f"{operator} {remainder}"
    operator, _, rest = remainder.partition(" ")
    return operator, rest, remainder
