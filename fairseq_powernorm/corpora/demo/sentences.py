"""Random sentences: who does what, when, where and for how much."""

import datetime
import random
from collections.abc import Sequence
from typing import TypeVar

from . import words
from .grammar import FORMS, TENSES, Clause, Noun, noun_phrase
from .numbers import NOTHING, Phrase, cardinal, clock_time, date, join, price

Item = TypeVar("Item")


def choose(generator: random.Random, items: Sequence[Item]) -> Item:
    """One of the items, each equally likely."""
    return items[int(generator.random() * len(items))]  # random()'s is the one sequence that Python promises to keep


def random_sentence(generator: random.Random) -> Phrase:
    """One sentence in both languages; a German sentence always has the same English translation."""
    clause = choose(generator, (_trade, _trade, _meeting, _travel, _hours, _cost, _birthday))(generator)
    form = choose(generator, [form for form in FORMS if form != "time first" or clause.time != NOTHING])
    sentence, mark = clause.say(form), "?" if form == "question" else "."
    if form == "subordinate":
        sentence = join(choose(generator, words.INTRODUCTIONS), sentence)
    return Phrase(*(text[0].upper() + text[1:] + mark for text in sentence))


def _maybe(generator: random.Random, phrase: Phrase) -> Phrase:
    return choose(generator, (phrase, NOTHING))


def _things(generator: random.Random, nouns: tuple[Noun, ...], case: str, plural: bool, article: str = "the") -> Phrase:
    number = cardinal(choose(generator, range(2, 100))) if plural and article == "a" else NOTHING
    adjective = _maybe(generator, choose(generator, words.ADJECTIVES[nouns]))
    return noun_phrase(choose(generator, nouns), article, case, plural, number, adjective)


def _subject(generator: random.Random, kinds: Sequence[str] = ("pronoun", "name", "noun")) -> tuple[Phrase, bool]:
    """One person or several, and whether they are several."""
    plural, kind = generator.random() < 0.5, choose(generator, kinds)
    if kind == "noun":
        return _things(generator, words.PEOPLE, "nominative", plural), plural
    if kind == "pronoun":
        return choose(generator, words.PLURAL_PRONOUNS if plural else words.SINGULAR_PRONOUNS), plural
    name, other = choose(generator, words.NAMES), choose(generator, words.MORE_NAMES)
    return join(name, Phrase("und", "and"), other) if plural else choose(generator, (name, other)), plural


def _price(generator: random.Random) -> Phrase:
    return price(choose(generator, range(2, 1000)), choose(generator, (0, choose(generator, range(10, 100)))))


def _day(generator: random.Random, tense: str, with_clock: bool = False) -> Phrase:
    weekday, span = choose(generator, words.WEEKDAYS), choose(generator, words.SPANS)
    span = join(cardinal(choose(generator, range(2, 21))), span)
    day = datetime.date(1950, 1, 1) + datetime.timedelta(choose(generator, range(27000)))
    if tense == "present":
        return choose(generator, (Phrase("jeden Tag", "every day"), join(Phrase("jeden", "every"), weekday)))
    if tense == "past":
        last, dated = join(Phrase("letzten", "last"), weekday), date(day, with_year=True)
        days = Phrase("gestern", "yesterday"), last, dated, Phrase(f"vor {span.german}", f"{span.english} ago")
    else:
        this, dated = join(Phrase("am", "on"), weekday), date(day, with_year=False)
        days = Phrase("morgen", "tomorrow"), this, dated, join(Phrase("in", "in"), span)
    return choose(generator, days[:3] if with_clock else days)


def _time(generator: random.Random, tense: str) -> Phrase:
    """A clock time, a day, or both: German says the day first then, English the clock time."""
    minutes = choose(generator, (range(60), range(0, 60, 5)))
    clock = clock_time(datetime.time(choose(generator, range(24)), choose(generator, minutes)))
    kind = choose(generator, ("clock", "day", "both"))
    if kind == "clock":
        return clock
    day = _day(generator, tense, with_clock=kind == "both")
    return Phrase(f"{day.german} {clock.german}", f"{clock.english} {day.english}") if kind == "both" else day


def _trade(generator: random.Random) -> Clause:
    tense = choose(generator, TENSES)
    goods = _things(generator, words.GOODS, "accusative", generator.random() < 0.5, choose(generator, ("the", "a")))
    goods = join(goods, _maybe(generator, join(Phrase("für", "for"), _price(generator))))
    time = _maybe(generator, _time(generator, tense))
    return Clause(*_subject(generator), choose(generator, words.TRADE), tense, time, goods)


def _meeting(generator: random.Random) -> Clause:
    tense, verb = choose(generator, TENSES), choose(generator, words.MEETING)
    people = _things(generator, words.PEOPLE, "accusative", generator.random() < 0.5)
    building = _things(generator, words.BUILDINGS, "dative", False)
    german, english = join(choose(generator, words.PREPOSITIONS), building)
    place = Phrase(german.replace("in dem ", "im "), english)
    return Clause(*_subject(generator), verb, tense, _time(generator, tense), people, place)


def _travel(generator: random.Random) -> Clause:
    tense, city = choose(generator, ("present", "past", "will")), choose(generator, words.CITIES)
    verb, train, platform = choose(generator, words.TRAINS)
    platform = join(platform, cardinal(choose(generator, range(1, 31))))
    return Clause(join(train, city), False, verb, tense, _time(generator, tense), place=platform)


def _hours(generator: random.Random) -> Clause:
    tense, plural = choose(generator, ("present", "past", "will")), generator.random() < 0.5
    building = _things(generator, words.BUILDINGS, "nominative", plural)
    return Clause(building, plural, choose(generator, words.HOURS), tense, _time(generator, tense))


def _cost(generator: random.Random) -> Clause:
    tense, plural = choose(generator, ("present", "past", "will")), generator.random() < 0.5
    goods = _things(generator, words.GOODS, "nominative", plural, choose(generator, ("the", "a")))
    return Clause(goods, plural, words.COST, tense, object=_price(generator))


def _birthday(generator: random.Random) -> Clause:
    tense = choose(generator, ("present", "past"))
    age = join(cardinal(choose(generator, range(2, 100))), Phrase("Jahre alt"))
    day = _day(generator, "will" if tense == "present" else tense)
    return Clause(*_subject(generator, ("pronoun", "name")), words.TURN, tense, day, age)
