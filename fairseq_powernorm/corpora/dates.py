"""Dates, times of day and prices, each as a (German, English) pair of phrases."""

from .numbers import (
    english_cardinal,
    german_cardinal,
    german_counting_word,
    german_ordinal_dative,
)

MONTHS = (
    ("Januar", "January"),
    ("Februar", "February"),
    ("März", "March"),
    ("April", "April"),
    ("Mai", "May"),
    ("Juni", "June"),
    ("Juli", "July"),
    ("August", "August"),
    ("September", "September"),
    ("Oktober", "October"),
    ("November", "November"),
    ("Dezember", "December"),
)
DAYS_IN_MONTH = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
WEEKDAYS = (
    ("Montag", "Monday"),
    ("Dienstag", "Tuesday"),
    ("Mittwoch", "Wednesday"),
    ("Donnerstag", "Thursday"),
    ("Freitag", "Friday"),
    ("Samstag", "Saturday"),
    ("Sonntag", "Sunday"),
)


def date(day: int, month: int, year: int | None = None) -> tuple[str, str]:
    """A day of the year: ("am dritten März 1987", "on March 3, 1987"); without ``year`` the year is left out.

    Raises:
        ValueError: ``month`` is not from 1 to 12, or it has no such ``day`` (February has 28).
    """
    if not 1 <= month <= 12:
        raise ValueError(f"month {month} is outside 1 to 12")
    if not 1 <= day <= DAYS_IN_MONTH[month - 1]:
        raise ValueError(f"day {day} is outside 1 to {DAYS_IN_MONTH[month - 1]} in month {month}")
    german_month, english_month = MONTHS[month - 1]
    german, english = f"am {german_ordinal_dative(day)} {german_month}", f"on {english_month} {day}"
    return (german, english) if year is None else (f"{german} {year}", f"{english}, {year}")


def clock_time(hour: int, minute: int, colloquial: bool = True) -> tuple[str, str]:
    """A time of day without its preposition: ("halb vier", "half past three") for 3:30.

    Args:
        hour: 1 to 12.
        minute: 0 to 59.
        colloquial: say 3:30 as "halb vier", 3:15 as "Viertel nach drei", 3:50 as "zehn vor vier" and likewise 3:05,
            3:10, 3:20, 3:40, 3:45 and 3:55; other minutes, and all without it, as "drei Uhr fünfzig".

    Raises:
        ValueError: ``hour`` or ``minute`` is out of range.
    """
    if not 1 <= hour <= 12 or not 0 <= minute <= 59:
        raise ValueError(f"time {hour}:{minute:02d} is outside 1:00 to 12:59")
    next_hour = hour % 12 + 1
    if minute == 0:
        return f"{german_counting_word(hour)} Uhr", f"{english_cardinal(hour)} o'clock"
    if colloquial and minute == 30:
        return f"halb {german_cardinal(next_hour)}", f"half past {english_cardinal(hour)}"
    if colloquial and minute in (15, 45):
        german, english = "Viertel", "a quarter"
    elif colloquial and minute in (5, 10, 20, 40, 50, 55):
        distance = min(minute, 60 - minute)
        german, english = german_cardinal(distance), english_cardinal(distance)
    else:
        said = english_cardinal(minute) if minute >= 10 else f"oh {english_cardinal(minute)}"
        return f"{german_counting_word(hour)} Uhr {german_cardinal(minute)}", f"{english_cardinal(hour)} {said}"
    if minute < 30:
        return f"{german} nach {german_cardinal(hour)}", f"{english} past {english_cardinal(hour)}"
    return f"{german} vor {german_cardinal(next_hour)}", f"{english} to {english_cardinal(next_hour)}"


def price(euros: int, cents: int = 0) -> tuple[str, str]:
    """A price: ("zwölf Euro fünfzig", "twelve euros fifty"); under one euro ("fünfzig Cent", "fifty cents").

    Raises:
        ValueError: ``euros`` is not from 0 to 9999 or ``cents`` not from 0 to 99, or both are 0.
    """
    if not 0 <= euros <= 9999 or not 0 <= cents <= 99 or euros == cents == 0:
        raise ValueError(f"price of {euros} euros and {cents} cents is outside 1 cent to 9999 euros 99")
    if euros == 0:
        return f"{german_counting_word(cents)} Cent", f"{english_cardinal(cents)} cent{'' if cents == 1 else 's'}"
    german = f"{german_counting_word(euros)} Euro"
    english = f"{english_cardinal(euros)} euro{'' if euros == 1 else 's'}"
    if cents == 0:
        return german, english
    return f"{german} {german_cardinal(cents)}", f"{english} {english_cardinal(cents)}"
