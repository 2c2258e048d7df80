"""Random adverbials of time and frequency, and random prices, in both languages."""

import random

from .choice import choose, choose_integer, choose_weighted, happens
from .dates import DAYS_IN_MONTH, WEEKDAYS, clock_time, date, price
from .noun_phrases import Phrase
from .numbers import english_cardinal, german_cardinal

_SEASONS = (
    Phrase("im Sommer", "in the summer"),
    Phrase("im Winter", "in the winter"),
    Phrase("im Frühling", "in the spring"),
    Phrase("im Herbst", "in the fall"),
)
_PARTS_OF_DAY = (
    Phrase("am Morgen", "in the morning"),
    Phrase("am Abend", "in the evening"),
    Phrase("am Nachmittag", "in the afternoon"),
    Phrase("am Wochenende", "on the weekend"),
)
_PAST = (
    Phrase("gestern", "yesterday"),
    Phrase("gestern Abend", "last night"),
    Phrase("letzte Woche", "last week"),
    Phrase("letztes Jahr", "last year"),
    Phrase("letzten Monat", "last month"),
)
_FUTURE = (
    Phrase("morgen", "tomorrow"),
    Phrase("nächste Woche", "next week"),
    Phrase("nächstes Jahr", "next year"),
    Phrase("nächsten Monat", "next month"),
    Phrase("heute Abend", "tonight"),
)
_PRESENT = (
    Phrase("jeden Tag", "every day"),
    Phrase("jede Woche", "every week"),
    Phrase("heute", "today"),
    Phrase("jeden Abend", "every evening"),
)
_FREQUENCIES = (Phrase("oft", "often"), Phrase("nie", "never"), Phrase("immer", "always"), Phrase("selten", "rarely"))
_UNITS = (("Tagen", "days"), ("Wochen", "weeks"), ("Monaten", "months"), ("Jahren", "years"))  # after vor and in
_PREFERRED_MINUTES = (0, 5, 10, 15, 20, 30, 30, 40, 45, 50, 55)


def is_past(tense: str) -> bool:
    """Whether a tense of ``verbs.py`` is past."""
    return tense == "perfect" or tense.startswith("past ")


def random_clock_time(generator: random.Random) -> Phrase:
    """A time of day without a preposition."""
    hour = choose_integer(generator, 1, 12)
    if happens(generator, 0.7):
        return Phrase(*clock_time(hour, choose(generator, _PREFERRED_MINUTES)))
    return Phrase(*clock_time(hour, choose_integer(generator, 10, 59), colloquial=False))


def random_date(generator: random.Random, with_year: bool) -> Phrase:
    """A day of the year, from 1950 to 2019 where it has one."""
    month = choose_integer(generator, 1, 12)
    day = choose_integer(generator, 1, DAYS_IN_MONTH[month - 1])
    return Phrase(*date(day, month, choose_integer(generator, 1950, 2019) if with_year else None))


def _distance(generator: random.Random) -> tuple[str, str]:
    count = choose_integer(generator, 2, 20)
    german, english = choose(generator, _UNITS)
    return f"{german_cardinal(count)} {german}", f"{english_cardinal(count)} {english}"


def random_time(generator: random.Random, tense: str, dated: bool) -> Phrase:
    """An adverbial of time that suits the tense; a date only where ``dated``."""
    past, future = is_past(tense), tense not in ("present", "perfect") and not is_past(tense)
    kind = choose_weighted(
        generator,
        {
            "clock": 3,
            "date": 2 if dated and (past or future) else 0,
            "weekday": 2,
            "words": 4,
            "distance": 1 if past or future else 0,
        },
    )
    if kind == "clock":
        clock = random_clock_time(generator)
        german, english = f"um {clock.german}", f"at {clock.english}"
        if happens(generator, 0.2):
            weekday = choose(generator, WEEKDAYS)
            german, english = f"am {weekday[0]} {german}", f"on {weekday[1]} {english}"
        return Phrase(german, english)
    if kind == "date":
        return random_date(generator, with_year=past)
    if kind == "weekday":
        weekday = choose(generator, WEEKDAYS)
        return Phrase(f"am {weekday[0]}", f"on {weekday[1]}")
    if kind == "distance":
        german, english = _distance(generator)
        return Phrase(f"vor {german}", f"{english} ago") if past else Phrase(f"in {german}", f"in {english}")
    return choose(generator, (_PAST if past else _FUTURE if future else _PRESENT) + _SEASONS + _PARTS_OF_DAY)


def random_frequency(generator: random.Random) -> Phrase:
    """An adverb such as "oft"."""
    return choose(generator, _FREQUENCIES)


def random_price(generator: random.Random) -> Phrase:
    """A price: mostly below 100 euros, half of these with cents."""
    if happens(generator, 0.3):
        return Phrase(*price(choose_integer(generator, 100, 4999)))
    if happens(generator, 0.1):
        return Phrase(*price(0, choose_integer(generator, 10, 99)))
    cents = choose_integer(generator, 10, 99) if happens(generator, 0.5) else 0
    return Phrase(*price(choose_integer(generator, 1, 99), cents))
