"""Random noun phrases and clauses of the demo's corpus."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from . import verb_list
from .adverbials import is_past, random_frequency, random_price, random_time
from .choice import choose, choose_integer, choose_weighted, happens
from .clauses import Clause, be_clause, verb_clause
from .compounds import THREE_PART_COMPOUNDS, TWO_PART_COMPOUNDS
from .noun_phrases import (
    FIRST_PLURAL,
    FIRST_SINGULAR,
    SECOND_PLURAL,
    SECOND_SINGULAR,
    Noun,
    Phrase,
    noun_phrase,
)
from .verbs import Verb
from .vocabulary import (
    ADJECTIVES,
    DESTINATIONS,
    LOCATIONS,
    NAMES,
    NOUNS,
    OBJECT_PRONOUNS,
    PEOPLE,
    PREPOSITIONS_WITH_DATIVE,
    RELATIVES,
    SUBJECT_PRONOUNS,
)

POSSESSIVES = ("mein", "dein", "sein", "unser")
TENSES = {
    "present": 8,
    "perfect": 8,
    "werden": 2,
    "können": 1,
    "müssen": 1,
    "wollen": 1,
    "sollen": 1,
    "dürfen": 0.7,
    "möchten": 1,
    "past können": 0.7,
    "past müssen": 0.7,
    "past wollen": 0.7,
    "past dürfen": 0.5,
}
PAST_TENSES = {tense: weight for tense, weight in TENSES.items() if is_past(tense)}
PRESENT_TENSES = {tense: weight for tense, weight in TENSES.items() if tense not in PAST_TENSES and tense != "werden"}
_SPEAKERS = ((FIRST_SINGULAR, FIRST_PLURAL), (SECOND_SINGULAR, SECOND_PLURAL))


@dataclass(frozen=True)
class ClauseOptions:
    """What a random clause may contain.

    Attributes:
        tenses: tense to weight.
        time: probability of an adverbial of time.
        dated: the adverbial may be a date.
        frequency: probability of an adverb such as "oft" where there is no adverbial of time.
        place: probability of a place.
        negation: probability of a negation.
        motion: weight of a verb of motion, which has a destination; transitive verbs have 10.
        subject: the subject, if not a random one.
    """

    tenses: Mapping[str, float] = field(default_factory=lambda: TENSES)
    time: float = 0.35
    dated: bool = True
    frequency: float = 0.12
    place: float = 0.2
    negation: float = 0.15
    motion: float = 3.0
    subject: Phrase | None = None


SHORT = ClauseOptions(time=0.15, dated=False, place=0.1)


def random_count(generator: random.Random) -> int:
    """A number of things: mostly below 100, at most 9999."""
    low, high = choose_weighted(generator, {(2, 12): 4, (13, 99): 4, (100, 999): 2, (1000, 9999): 0.5})
    number = choose_integer(generator, low, high)
    return number + 1 if number % 100 == 1 else number  # German grammarians disagree on "hunderteins Bücher"


def random_noun(generator: random.Random, kind: str) -> Noun:
    """A noun of a kind, often a compound where the kind has them."""
    families = [family[kind] for family in (TWO_PART_COMPOUNDS, THREE_PART_COMPOUNDS) if kind in family]
    if families and happens(generator, 0.15 if kind == "person" else 0.35):
        return choose(generator, choose(generator, families))
    return choose(generator, PEOPLE if kind == "person" else NOUNS[kind])


def _determiner(generator: random.Random, kind: str, plural: bool, case: str) -> str | int:
    weights = {"der": 5, "dieser": 1, "possessive": 0 if kind in ("person", "building", "vehicle") else 2}
    if plural:
        weights.update({"number": 2, "viele": 1, "": 0 if kind == "person" or case != "accusative" else 1})
    else:
        weights["ein"] = 2.5
    determiner = choose_weighted(generator, weights)
    if determiner == "number":
        return (
            choose_integer(generator, 2, 20)
            if kind == "person" or happens(generator, 0.5)
            else (random_count(generator))
        )
    return choose(generator, POSSESSIVES) if determiner == "possessive" else determiner


def random_owner(generator: random.Random) -> Phrase:
    """A person in the genitive singular."""
    return noun_phrase(choose(generator, RELATIVES), choose(generator, POSSESSIVES), "genitive")


def random_person(generator: random.Random, case: str) -> Phrase:
    """A name, a relative with a possessive, or another person."""
    source = choose_weighted(generator, {"name": 2, "relative": 3, "other": 4})
    if source == "name":
        name = choose(generator, NAMES)
        return Phrase(name, name)
    adjective = choose(generator, ADJECTIVES["person"]) if happens(generator, 0.25) else None
    plural = happens(generator, 0.25)
    if source == "relative":
        return noun_phrase(choose(generator, RELATIVES), choose(generator, POSSESSIVES), case, plural, adjective)
    noun = random_noun(generator, "person")
    return noun_phrase(noun, _determiner(generator, "person", plural, case), case, plural, adjective)


def random_thing(generator: random.Random, kind: str, case: str) -> Phrase:
    """A noun phrase of a kind other than persons."""
    noun = random_noun(generator, kind)
    plural = happens(generator, 0.3)
    adjective = choose(generator, ADJECTIVES[kind]) if happens(generator, 0.35) else None
    if kind not in ("building", "vehicle", "food") and happens(generator, 0.07):
        return noun_phrase(noun, "der", case, plural, adjective, random_owner(generator))
    return noun_phrase(noun, _determiner(generator, kind, plural, case), case, plural, adjective)


def random_subject(generator: random.Random) -> Phrase:
    """A person or a pronoun."""
    return choose(generator, SUBJECT_PRONOUNS) if happens(generator, 0.4) else random_person(generator, "nominative")


def random_object(generator: random.Random, subject: Phrase, kind: str, case: str) -> Phrase:
    """An object that is not the subject itself, which German would say with a reflexive pronoun."""
    if kind != "person":
        return random_thing(generator, kind, case)
    if happens(generator, 0.3):
        taken = [pair for pair in _SPEAKERS if subject.person in pair]
        return choose(
            generator, [item for item in OBJECT_PRONOUNS[case] if not any(item.person in pair for pair in taken)]
        )
    person = random_person(generator, case)
    while person.english in NAMES and not subject.pronoun:  # "mein Bruder Peter" would look like one person
        person = random_person(generator, case)
    return person


def _kein_object(generator: random.Random, kind: str) -> Phrase:
    return noun_phrase(random_noun(generator, kind), "kein", "accusative", happens(generator, 0.3))


def _is_definite(phrase: Phrase) -> bool:
    first = phrase.english.partition(" ")[0]
    return phrase.pronoun or first in ("the", "this", "these", "my", "your", "his", "our") or first in NAMES


def _random_verb(generator: random.Random, motion: float) -> tuple[str, Verb]:
    frame = choose_weighted(
        generator, {"transitive": 10, "dative": 2.5, "ditransitive": 2, "activity": 2.5, "sleep": 1.5, "motion": motion}
    )
    return frame, choose(generator, getattr(verb_list, frame.upper()))


def _random_objects(generator: random.Random, subject: Phrase, frame: str, verb: Verb) -> tuple[Phrase, ...]:
    if not verb.objects:
        return ()
    if frame == "ditransitive":
        return (
            random_object(generator, subject, "person", "dative"),
            random_thing(generator, choose(generator, verb.objects), "accusative"),
        )
    return (random_object(generator, subject, choose(generator, verb.objects), verb.case),)


def _random_details(generator: random.Random, frame: str, verb: Verb, place: float) -> tuple[Phrase, ...]:
    details = []
    if verb.english in ("buy", "sell") and happens(generator, 0.4):
        amount = random_price(generator)
        details.append(Phrase(f"für {amount.german}", f"for {amount.english}"))
    if frame == "motion":
        details.append(choose(generator, DESTINATIONS))
    elif happens(generator, place):
        details.append(random_place(generator))
    return tuple(details)


def random_place(generator: random.Random) -> Phrase:
    """Where something happens."""
    if happens(generator, 0.75):
        return choose(generator, LOCATIONS)
    german, english = choose(generator, PREPOSITIONS_WITH_DATIVE)
    landmark = noun_phrase(random_noun(generator, "building"), "der", "dative")
    return Phrase(f"{german} {landmark.german}", f"{english} {landmark.english}")


def random_clause(generator: random.Random, options: ClauseOptions) -> Clause:
    """A clause whose subject is a person, or now and then a train, with all its parts in place."""
    subject = options.subject or random_subject(generator)
    tense = choose_weighted(generator, options.tenses)
    frame, verb = _random_verb(generator, options.motion)
    if options.subject is None and happens(generator, 0.05):
        frame, verb = "timetable", choose(generator, verb_list.TIMETABLE)
        subject = random_thing(generator, "vehicle", "nominative")
        tense = "perfect" if is_past(tense) else "present"  # a train has no wishes
    time = frequency = None
    if happens(generator, options.time):
        time = random_time(generator, tense, options.dated)
    elif tense in ("present", "perfect") and happens(generator, options.frequency):
        frequency = random_frequency(generator)
    objects = _random_objects(generator, subject, frame, verb)
    details = _random_details(generator, frame, verb, options.place)
    companion = None
    if frame in ("activity", "motion") and happens(generator, 0.2):
        person = random_person(generator, "dative")
        companion = Phrase(f"mit {person.german}", f"with {person.english}")
    nicht = kein = False
    if frequency is None and happens(generator, options.negation):
        nicht = not objects or _is_definite(objects[-1])
        if not nicht and frame == "transitive" and "person" not in verb.objects:
            objects, kein = (_kein_object(generator, choose(generator, verb.objects)),), True
    return verb_clause(subject, verb, tense, objects, time, frequency, companion, details, nicht, kein)


def random_predicate(generator: random.Random, past: bool) -> Clause:
    """A person, animal or thing with "sein" and an adjective."""
    kind = choose(generator, ("person", "person", "animal", "thing", "clothing", "text", "food"))
    if kind == "person":
        subject = random_subject(generator)
    else:
        noun, plural = random_noun(generator, kind), happens(generator, 0.3)
        subject = noun_phrase(noun, choose(generator, ("der", "dieser", *POSSESSIVES)), "nominative", plural)
    adjective = choose(generator, ADJECTIVES[kind])
    degree = choose_weighted(generator, {("", ""): 4, ("sehr ", "very "): 2, ("zu ", "too "): 1})
    complement = Phrase(degree[0] + adjective.german, degree[1] + adjective.english)
    return be_clause(subject, complement, past, happens(generator, 0.2))
