"""Numbers in words: German writes units before tens and all as one word, English the other way round."""

_GERMAN_SMALL = (
    "null",
    "eins",
    "zwei",
    "drei",
    "vier",
    "fünf",
    "sechs",
    "sieben",
    "acht",
    "neun",
    "zehn",
    "elf",
    "zwölf",
    "dreizehn",
    "vierzehn",
    "fünfzehn",
    "sechzehn",
    "siebzehn",
    "achtzehn",
    "neunzehn",
)
_GERMAN_TENS = ("", "", "zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig")
_ENGLISH_SMALL = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
)
_ENGLISH_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_GERMAN_IRREGULAR_ORDINALS = {1: "ersten", 3: "dritten", 7: "siebten", 8: "achten"}


def _check_range(number: int, low: int, high: int) -> None:
    if not low <= number <= high:
        raise ValueError(f"number {number} is outside {low} to {high}")


def german_cardinal(number: int) -> str:
    """A number as a German word, for example 214 as "zweihundertvierzehn".

    Raises:
        ValueError: ``number`` is not from 0 to 9999.
    """
    _check_range(number, 0, 9999)
    if number >= 1000:
        thousands, rest = divmod(number, 1000)
        head = ("" if thousands == 1 else _GERMAN_SMALL[thousands]) + "tausend"
        if rest == 0:
            return head
        return head + ("ein" if 100 <= rest < 200 else "") + german_cardinal(rest)
    if number >= 100:
        hundreds, rest = divmod(number, 100)
        head = ("" if hundreds == 1 else _GERMAN_SMALL[hundreds]) + "hundert"
        return head + (german_cardinal(rest) if rest else "")
    if number < 20:
        return _GERMAN_SMALL[number]
    tens, units = divmod(number, 10)
    if units == 0:
        return _GERMAN_TENS[tens]
    return f"{german_counting_word(units)}und{_GERMAN_TENS[tens]}"


def german_counting_word(number: int) -> str:
    """A number as it stands before "Uhr" or "Euro": as ``german_cardinal``, but 1 is "ein"."""
    return "ein" if number == 1 else german_cardinal(number)


def german_ordinal_dative(number: int) -> str:
    """A day of the month as it stands after "am": "ersten", "dritten", "einundzwanzigsten".

    Raises:
        ValueError: ``number`` is not from 1 to 31.
    """
    _check_range(number, 1, 31)
    if number in _GERMAN_IRREGULAR_ORDINALS:
        return _GERMAN_IRREGULAR_ORDINALS[number]
    return german_cardinal(number) + ("ten" if number < 20 else "sten")


def english_cardinal(number: int) -> str:
    """A number in American English words, for example 214 as "two hundred fourteen".

    Raises:
        ValueError: ``number`` is not from 0 to 9999.
    """
    _check_range(number, 0, 9999)
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            count, rest = divmod(number, size)
            head = f"{_ENGLISH_SMALL[count]} {name}"
            return f"{head} {english_cardinal(rest)}" if rest else head
    if number < 20:
        return _ENGLISH_SMALL[number]
    tens, units = divmod(number, 10)
    return _ENGLISH_TENS[tens] + (f"-{_ENGLISH_SMALL[units]}" if units else "")
