"""Numbers, prices, dates and clock times, each in German and in English."""

import datetime
from typing import NamedTuple


class Phrase(NamedTuple):
    """The same in both languages."""

    german: str = ""
    english: str = ""


NOTHING = Phrase()
_GERMAN_SMALL, _ENGLISH_SMALL, _GERMAN_TENS, _ENGLISH_TENS, _GERMAN_MONTHS, _ENGLISH_MONTHS = (
    words.split()
    for words in (
        "null eins zwei drei vier fünf sechs sieben acht neun "
        "zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn",
        "zero one two three four five six seven eight nine "
        "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
        "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig",
        "twenty thirty forty fifty sixty seventy eighty ninety",
        "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
        "January February March April May June July August September October November December",
    )
)
_IRREGULAR_ORDINALS = {1: "ersten", 3: "dritten", 7: "siebten", 8: "achten"}
_CLOCK_TIMES = {  # {0} is the hour, {1} the next one
    5: ("fünf nach {0}", "five past {0}"),
    10: ("zehn nach {0}", "ten past {0}"),
    15: ("Viertel nach {0}", "a quarter past {0}"),
    20: ("zwanzig nach {0}", "twenty past {0}"),
    25: ("fünf vor halb {1}", "twenty-five past {0}"),
    30: ("halb {1}", "half past {0}"),
    35: ("fünf nach halb {1}", "twenty-five to {1}"),
    40: ("zwanzig vor {1}", "twenty to {1}"),
    45: ("Viertel vor {1}", "a quarter to {1}"),
    50: ("zehn vor {1}", "ten to {1}"),
    55: ("fünf vor {1}", "five to {1}"),
}


def join(*phrases: Phrase) -> Phrase:
    """One phrase after the other, with spaces; empty ones leave no trace."""
    return Phrase(*(" ".join(filter(None, words)) for words in zip(*phrases, strict=True)))


def cardinal(number: int, counting: bool = False) -> Phrase:
    """A number from 0 to 999: ("zweihundertdreiundzwanzig", "two hundred twenty-three").

    With ``counting`` it stands before a word like "Uhr" or "Euro", and 1 is "ein" and not "eins".

    Raises:
        ValueError: ``number`` is out of range.
    """
    if not 0 <= number <= 999:
        raise ValueError(f"number {number} is outside 0 to 999")
    if number >= 100:
        hundreds, rest = divmod(number, 100)
        german, english = cardinal(rest, counting) if rest else Phrase()
        german = ("" if hundreds == 1 else _GERMAN_SMALL[hundreds]) + "hundert" + german
        return Phrase(german, f"{_ENGLISH_SMALL[hundreds]} hundred {english}".rstrip())
    if number < 20:
        return Phrase("ein" if counting and number == 1 else _GERMAN_SMALL[number], _ENGLISH_SMALL[number])
    tens, units = divmod(number, 10)
    if units == 0:
        return Phrase(_GERMAN_TENS[tens - 2], _ENGLISH_TENS[tens - 2])
    german, english = cardinal(units, counting=True)
    return Phrase(f"{german}und{_GERMAN_TENS[tens - 2]}", f"{_ENGLISH_TENS[tens - 2]}-{english}")


def price(euros: int, cents: int) -> Phrase:
    """A price: ("zwölf Euro fünfzig", "twelve euros and fifty cents")."""
    whole = join(cardinal(euros, counting=True), Phrase("Euro", "euro" if euros == 1 else "euros"))
    german, english = cardinal(cents)
    return join(whole, Phrase(german, f"and {english} cent{'' if cents == 1 else 's'}")) if cents else whole


def date(day: datetime.date, with_year: bool) -> Phrase:
    """A date: ("am dritten März 1987", "on March 3, 1987"), or without the year."""
    ordinal = _IRREGULAR_ORDINALS.get(day.day) or cardinal(day.day).german + ("ten" if day.day < 20 else "sten")
    german = f"am {ordinal} {_GERMAN_MONTHS[day.month - 1]}"
    english = f"on {_ENGLISH_MONTHS[day.month - 1]} {day.day}"
    return Phrase(f"{german} {day.year}", f"{english}, {day.year}") if with_year else Phrase(german, english)


def clock_time(time: datetime.time) -> Phrase:
    """A time of the twelve-hour clock: ("um halb acht", "at half past seven") for 7:30 and for 19:30.

    Minutes that five divides are said relative to an hour or a half: 7:25 is "fünf vor halb acht" and "twenty-five
    past seven". Others are read out: 7:43 is "sieben Uhr dreiundvierzig" and "seven forty-three".
    """
    hour, minute = (time.hour - 1) % 12 + 1, time.minute
    if minute in _CLOCK_TIMES:
        hours = zip(cardinal(hour), cardinal(hour % 12 + 1), strict=True)
        german, english = (said.format(*names) for said, names in zip(_CLOCK_TIMES[minute], hours, strict=True))
        return Phrase(f"um {german}", f"at {english}")
    full_hour = join(Phrase("um", "at"), cardinal(hour, counting=True), Phrase("Uhr"))
    if minute == 0:
        return join(full_hour, Phrase("", "o'clock"))
    return join(full_hour, Phrase("", "oh" if minute < 10 else ""), cardinal(minute))
