"""Random sentences of the demo's corpus: each pattern makes one sentence in both languages."""

import random
from dataclasses import replace

from .adverbials import random_clock_time, random_date, random_price, random_time
from .choice import choose, choose_integer, choose_weighted, happens
from .clauses import (
    be_clause,
    english_question,
    english_statement,
    german_question,
    german_statement,
    german_subordinate,
    verb_clause,
)
from .grammar import (
    PAST_TENSES,
    POSSESSIVES,
    PRESENT_TENSES,
    SHORT,
    TENSES,
    ClauseOptions,
    random_clause,
    random_count,
    random_noun,
    random_object,
    random_predicate,
    random_subject,
    random_thing,
)
from .noun_phrases import Phrase, noun_phrase
from .numbers import english_cardinal, german_cardinal
from .verb_list import ASKING, BELONGING, COSTING, DATIVE, KNOWING, SAYING, TRANSITIVE
from .vocabulary import ADJECTIVES, LOCATIONS, NAMES, RELATIVES, SUBJECT_PRONOUNS

_COMMENTS = (
    ("leider", "unfortunately"),
    ("zum Glück", "fortunately"),
    ("natürlich", "of course"),
    ("trotzdem", "nevertheless"),
    ("deshalb", "therefore"),
    ("danach", "after that"),
)
_ANSWERS = (("ja", "yes"), ("nein", "no"))
_CONJUNCTIONS = {("weil", "because"): 3, ("obwohl", "although"): 1.5, ("wenn", "when"): 3, ("als", "when"): 1.5}
_QUESTION_WORDS = {("warum", "why"): 3, ("wann", "when"): 2, ("wo", "where"): 1, ("wie oft", "how often"): 1}
_INDIRECT_QUESTIONS = {("ob", "whether"): 3, **_QUESTION_WORDS}
_GOODS = ("thing", "clothing", "text", "food", "opening")
_TENSES_AFTER = {"present": TENSES, "perfect": PAST_TENSES}  # English: "he thought that she came", not "comes"
_NOBODY, _WHO, _IT = Phrase("niemand", "nobody"), Phrase("wer", "who", pronoun=True), Phrase("es", "it")


def _random_tense(generator: random.Random) -> dict[str, float]:
    return {choose_weighted(generator, TENSES): 1.0}


def _statement(generator: random.Random) -> tuple[str, str]:
    clause = random_clause(generator, ClauseOptions())
    if happens(generator, 0.08):
        german, english = choose(generator, _ANSWERS)
        return f"{german}, {german_statement(clause)}.", f"{english}, {english_statement(clause)}."
    return f"{german_statement(clause)}.", f"{english_statement(clause)}."


def _fronted_adverbial(generator: random.Random) -> tuple[str, str]:
    tenses = _random_tense(generator)
    kind = choose_weighted(generator, {"time": 5, "comment": 1.5, "place": 1})
    if kind == "time":
        front = random_time(generator, *tenses, dated=True)
        options = ClauseOptions(tenses=tenses, time=0.0, frequency=0.0)
    elif kind == "comment":
        front = Phrase(*choose(generator, _COMMENTS))
        options = ClauseOptions(tenses=tenses, time=0.0, frequency=0.0)
    else:
        front = choose(generator, LOCATIONS)
        options = ClauseOptions(tenses=tenses, place=0.0, negation=0.0, motion=0.0)
    clause = random_clause(generator, options)
    return f"{german_statement(clause, front.german)}.", f"{english_statement(clause, front.english)}."


def _fronted_object(generator: random.Random) -> tuple[str, str]:
    """The object first, where its form shows that it is one: a masculine accusative (den großen Hund)."""
    verb = choose(generator, TRANSITIVE)
    noun = None
    while noun is None or noun.gender != "masculine":
        kind = choose(generator, verb.objects)
        noun = random_noun(generator, kind)
    adjective = choose(generator, ADJECTIVES[kind]) if happens(generator, 0.5) else None
    item = noun_phrase(noun, choose(generator, ("der", "der", "dieser", "ein")), "accusative", adjective=adjective)
    (tense,) = _random_tense(generator)
    subject = random_subject(generator)
    german = german_statement(verb_clause(subject, verb, tense), item.german)
    return f"{german}.", f"{english_statement(verb_clause(subject, verb, tense, (item,)))}."


def _yes_no_question(generator: random.Random) -> tuple[str, str]:
    if happens(generator, 0.15):
        clause = random_predicate(generator, past=happens(generator, 0.3))
    else:
        clause = random_clause(generator, ClauseOptions())
    return f"{german_question(clause)}?", f"{english_question(clause)}?"


def _options_after(question_word: str) -> ClauseOptions:
    """What a clause may contain that asks for its time, its place or neither."""
    if question_word in ("wann", "wie oft"):
        return ClauseOptions(time=0.0, frequency=0.0, negation=0.0, dated=False)
    if question_word == "wo":
        return ClauseOptions(place=0.0, negation=0.0, motion=0.0, dated=False)
    return ClauseOptions(dated=False)


def _adverbial_question(generator: random.Random) -> tuple[str, str]:
    german, english = choose_weighted(generator, _QUESTION_WORDS)
    clause = random_clause(generator, _options_after(german))
    return f"{german_question(clause, german)}?", f"{english_question(clause, english)}?"


def _subject_question(generator: random.Random) -> tuple[str, str]:
    clause = random_clause(generator, ClauseOptions(subject=_WHO))
    return f"{german_statement(clause)}?", f"{english_statement(clause)}?"


def _object_question(generator: random.Random) -> tuple[str, str]:
    """Wen, wem or was, with the object gone from the clause: "What did the woman buy yesterday?"."""
    verb = choose(generator, (*TRANSITIVE, *TRANSITIVE, *DATIVE))
    if verb.case == "dative":
        german, english = "wem", "who"
    elif verb.objects == ("person",) or ("person" in verb.objects and happens(generator, 0.5)):
        german, english = "wen", "who"
    else:
        german, english = "was", "what"
    (tense,) = _random_tense(generator)
    time = random_time(generator, tense, dated=True) if happens(generator, 0.5) else None
    clause = verb_clause(random_subject(generator), verb, tense, time=time)
    return f"{german_question(clause, german)}?", f"{english_question(clause, english)}?"


def _main_and_subordinate(generator: random.Random) -> tuple[str, str]:
    german, english = choose_weighted(generator, _CONJUNCTIONS)
    tenses = {"wenn": PRESENT_TENSES, "als": {"perfect": 1.0}}.get(german, TENSES)
    frequency = SHORT.frequency if german in ("weil", "obwohl") else 0.0  # "als er oft" is no German
    options = replace(SHORT, tenses=tenses, frequency=frequency)
    main = random_clause(generator, options)
    if german in ("weil", "obwohl") and happens(generator, 0.3):
        subordinate = random_predicate(generator, past=happens(generator, 0.5))
    else:
        wish = dict.fromkeys(("sollen", "möchten"), 0.0) if german == "wenn" else {}  # no "when I should"
        subordinate = random_clause(generator, replace(options, tenses={**tenses, **wish}))
    german_part = f"{german} {german_subordinate(subordinate)}"
    english_part = f"{english} {english_statement(subordinate)}"
    if (german in ("wenn", "als") and happens(generator, 0.6)) or happens(generator, 0.2):
        return f"{german_statement(main, f'{german_part},')}.", f"{english_statement(main, english_part)}."
    return f"{german_statement(main)}, {german_part}.", f"{english_statement(main)} {english_part}."


def _that_clause(generator: random.Random) -> tuple[str, str]:
    tense = choose_weighted(generator, {"present": 3, "perfect": 2})
    saying = verb_clause(random_subject(generator), choose(generator, SAYING), tense)
    if happens(generator, 0.2):
        clause = random_predicate(generator, past=tense == "perfect")
    else:
        clause = random_clause(generator, replace(SHORT, tenses=_TENSES_AFTER[tense]))
    return (
        f"{german_statement(saying)}, dass {german_subordinate(clause)}.",
        f"{english_statement(saying)} that {english_statement(clause)}.",
    )


def _indirect_question(generator: random.Random) -> tuple[str, str]:
    german, english = choose_weighted(generator, _INDIRECT_QUESTIONS)
    kind = choose_weighted(generator, {"not knowing": 3, "asking": 2, "nobody": 1, "do you know": 2})
    tense = choose(generator, ("present", "perfect")) if kind == "asking" else "present"
    clause = random_clause(generator, replace(_options_after(german), tenses=_TENSES_AFTER[tense]))
    ends = f", {german} {german_subordinate(clause)}", f" {english} {english_statement(clause)}"
    if kind == "do you know":
        asked = verb_clause(choose(generator, (SUBJECT_PRONOUNS[1], SUBJECT_PRONOUNS[5])), KNOWING, "present")
        return f"{german_question(asked)}{ends[0]}?", f"{english_question(asked)}{ends[1]}?"
    if kind == "asking":
        main = verb_clause(random_subject(generator), ASKING, tense)
    elif kind == "nobody":
        main = verb_clause(_NOBODY, KNOWING, "present")
    else:
        main = verb_clause(random_subject(generator), KNOWING, "present", nicht=True)
    return f"{german_statement(main)}{ends[0]}.", f"{english_statement(main)}{ends[1]}."


def _coordination(generator: random.Random) -> tuple[str, str]:
    first, second = random_clause(generator, SHORT), random_clause(generator, SHORT)
    german, english = choose(generator, (("und", "and"), ("aber", "but")))
    comma = "," if german == "aber" else ""
    return (
        f"{german_statement(first)}{comma} {german} {german_statement(second)}.",
        f"{english_statement(first)}, {english} {english_statement(second)}.",
    )


def _predicate(generator: random.Random) -> tuple[str, str]:
    clause = random_predicate(generator, past=happens(generator, 0.3))
    return f"{german_statement(clause)}.", f"{english_statement(clause)}."


def _cost(generator: random.Random) -> tuple[str, str]:
    clause = verb_clause(random_thing(generator, choose(generator, _GOODS), "nominative"), COSTING, "present")
    if happens(generator, 0.15):
        return f"{german_question(clause, 'was')}?", f"{english_question(clause, 'how much')}?"
    amount = random_price(generator)
    return f"{german_statement(clause)} {amount.german}.", f"{english_statement(clause)} {amount.english}."


def _age(generator: random.Random) -> tuple[str, str]:
    years = choose_integer(generator, 2, 99)
    age = Phrase(f"{german_cardinal(years)} Jahre alt", f"{english_cardinal(years)} years old")
    clause = be_clause(random_subject(generator), age)
    return f"{german_statement(clause)}.", f"{english_statement(clause)}."


def _existence(generator: random.Random) -> tuple[str, str]:
    place = choose(generator, LOCATIONS)
    kind = choose(generator, ("thing", "building", "animal", "food"))
    noun, plural = random_noun(generator, kind), happens(generator, 0.7)
    determiner = choose(generator, (random_count(generator), "viele")) if plural else "ein"
    adjective = choose(generator, ADJECTIVES[kind]) if happens(generator, 0.4) else None
    what = noun_phrase(noun, determiner, "accusative", plural, adjective)
    be = "are" if plural else "is"
    return f"{place.german} gibt es {what.german}.", f"{place.english}, there {be} {what.english}."


def _time_of_day(generator: random.Random) -> tuple[str, str]:
    clause = be_clause(_IT, random_clock_time(generator))
    return f"{german_statement(clause)}.", f"{english_statement(clause)}."


def _birthday(generator: random.Random) -> tuple[str, str]:
    day = random_date(generator, with_year=False)
    if happens(generator, 0.5):
        german = english = choose(generator, NAMES)
    else:
        relative = noun_phrase(choose(generator, RELATIVES), choose(generator, POSSESSIVES))
        german, english = relative.german, relative.english
    return f"{german} hat {day.german} Geburtstag.", f"{english}'s birthday is {day.english}."


def _belonging(generator: random.Random) -> tuple[str, str]:
    kind = choose(generator, ("thing", "clothing", "text", "animal", "building"))
    noun, plural = random_noun(generator, kind), happens(generator, 0.3)
    subject = noun_phrase(noun, choose(generator, ("der", "dieser")), "nominative", plural)
    owner = random_object(generator, subject, "person", "dative")
    clause = verb_clause(subject, BELONGING, "present", (owner,), nicht=happens(generator, 0.2))
    if happens(generator, 0.2):
        return f"{german_question(clause)}?", f"{english_question(clause)}?"
    return f"{german_statement(clause)}.", f"{english_statement(clause)}."


_PATTERNS = {
    _statement: 20,
    _fronted_adverbial: 20,
    _fronted_object: 5,
    _yes_no_question: 8,
    _adverbial_question: 7,
    _subject_question: 2,
    _object_question: 4,
    _main_and_subordinate: 16,
    _that_clause: 8,
    _indirect_question: 5,
    _coordination: 4,
    _predicate: 5,
    _cost: 6,
    _age: 1.5,
    _existence: 3,
    _time_of_day: 0.3,
    _birthday: 1.5,
    _belonging: 3,
}


def random_sentence(generator: random.Random) -> tuple[str, str]:
    """A German sentence and its English translation, with capitals and punctuation as in raw text."""
    german, english = choose_weighted(generator, _PATTERNS)(generator)
    return german[0].upper() + german[1:], english[0].upper() + english[1:]
