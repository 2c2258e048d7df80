"""Numbers, prices, dates and times against lists worked out by hand."""

import datetime

import pytest

from fairseq_powernorm.corpora.demo.numbers import cardinal, clock_time, date, join, price

# Every word up to twelve, every irregular one above, and a regular one of each kind.
CARDINALS = """
0 null zero
1 eins one
2 zwei two
3 drei three
4 vier four
5 fünf five
6 sechs six
7 sieben seven
8 acht eight
9 neun nine
10 zehn ten
11 elf eleven
12 zwölf twelve
13 dreizehn thirteen
14 vierzehn fourteen
15 fünfzehn fifteen
16 sechzehn sixteen
17 siebzehn seventeen
18 achtzehn eighteen
19 neunzehn nineteen
20 zwanzig twenty
21 einundzwanzig twenty-one
30 dreißig thirty
32 zweiunddreißig thirty-two
40 vierzig forty
43 dreiundvierzig forty-three
50 fünfzig fifty
54 vierundfünfzig fifty-four
60 sechzig sixty
66 sechsundsechzig sixty-six
70 siebzig seventy
77 siebenundsiebzig seventy-seven
80 achtzig eighty
88 achtundachtzig eighty-eight
90 neunzig ninety
99 neunundneunzig ninety-nine
100 hundert one hundred
101 hunderteins one hundred one
116 hundertsechzehn one hundred sixteen
200 zweihundert two hundred
214 zweihundertvierzehn two hundred fourteen
321 dreihunderteinundzwanzig three hundred twenty-one
999 neunhundertneunundneunzig nine hundred ninety-nine
"""


@pytest.mark.parametrize("line", CARDINALS.strip().splitlines())
def test_cardinals(line):
    number, german, english = line.split(maxsplit=2)
    assert cardinal(int(number)) == (german, english)


def read_german(word, small):
    """The number that a German word says, by an account of its own: from the right, by addition."""
    hundreds, separator, rest = word.rpartition("hundert")
    if separator:
        return 100 * (read_german(hundreds, small) if hundreds else 1) + (read_german(rest, small) if rest else 0)
    units, separator, tens = word.partition("und")
    return small[word] if not separator else (1 if units == "ein" else small[units]) + small[tens]


def read_english(words, small):
    hundreds, separator, rest = words.partition(" hundred")
    if separator:
        return 100 * small[hundreds] + (read_english(rest[1:], small) if rest else 0)
    return sum(small[word] for word in words.split("-"))


def test_every_cardinal_is_read_back():
    rows = [line.split() for line in CARDINALS.strip().splitlines()]
    german, english = ({row[column]: int(row[0]) for row in rows if len(row) == 3} for column in (1, 2))
    for number in range(1000):
        said = cardinal(number)
        assert (read_german(said.german, german), read_english(said.english, english)) == (number, number)


def test_one_before_a_noun():
    assert [cardinal(number, counting=True).german for number in (1, 101, 21, 2)] == [
        "ein",
        "hundertein",
        "einundzwanzig",
        "zwei",
    ]


@pytest.mark.parametrize("number", [-1, 1000])
def test_a_number_out_of_range(number):
    with pytest.raises(ValueError, match=f"number {number} is outside 0 to 999"):
        cardinal(number)


@pytest.mark.parametrize(
    ("day", "german", "english"),
    [
        ((1987, 1, 1), "am ersten Januar 1987", "on January 1, 1987"),
        ((2024, 2, 29), "am neunundzwanzigsten Februar 2024", "on February 29, 2024"),
        ((1999, 3, 3), "am dritten März 1999", "on March 3, 1999"),
        ((1950, 5, 7), "am siebten Mai 1950", "on May 7, 1950"),
        ((2001, 6, 8), "am achten Juni 2001", "on June 8, 2001"),
        ((2001, 7, 10), "am zehnten Juli 2001", "on July 10, 2001"),
        ((2001, 10, 19), "am neunzehnten Oktober 2001", "on October 19, 2001"),
        ((2001, 11, 20), "am zwanzigsten November 2001", "on November 20, 2001"),
        ((2001, 12, 31), "am einunddreißigsten Dezember 2001", "on December 31, 2001"),
    ],
)
def test_dates(day, german, english):
    assert date(datetime.date(*day), with_year=True) == (german, english)
    without = date(datetime.date(*day), with_year=False)
    assert without == (german.rsplit(" ", 1)[0], english.split(",")[0])


@pytest.mark.parametrize(
    ("hour", "minute", "german", "english"),
    [
        (8, 0, "um acht Uhr", "at eight o'clock"),
        (13, 0, "um ein Uhr", "at one o'clock"),
        (0, 0, "um zwölf Uhr", "at twelve o'clock"),
        (1, 5, "um fünf nach eins", "at five past one"),
        (23, 10, "um zehn nach elf", "at ten past eleven"),
        (6, 15, "um Viertel nach sechs", "at a quarter past six"),
        (16, 20, "um zwanzig nach vier", "at twenty past four"),
        (7, 25, "um fünf vor halb acht", "at twenty-five past seven"),
        (3, 30, "um halb vier", "at half past three"),
        (12, 30, "um halb eins", "at half past twelve"),
        (12, 35, "um fünf nach halb eins", "at twenty-five to one"),
        (11, 40, "um zwanzig vor zwölf", "at twenty to twelve"),
        (0, 45, "um Viertel vor eins", "at a quarter to one"),
        (7, 50, "um zehn vor acht", "at ten to eight"),
        (9, 55, "um fünf vor zehn", "at five to ten"),
        (8, 27, "um acht Uhr siebenundzwanzig", "at eight twenty-seven"),
        (21, 1, "um neun Uhr eins", "at nine oh one"),
    ],
)
def test_clock_times(hour, minute, german, english):
    assert clock_time(datetime.time(hour, minute)) == (german, english)


def test_every_clock_time_is_said_differently():
    times = [clock_time(datetime.time(hour, minute)) for hour in range(12) for minute in range(60)]
    assert len({time.german for time in times}) == len({time.english for time in times}) == 720


@pytest.mark.parametrize(
    ("euros", "cents", "german", "english"),
    [
        (12, 50, "zwölf Euro fünfzig", "twelve euros and fifty cents"),
        (1, 0, "ein Euro", "one euro"),
        (301, 1, "dreihundertein Euro eins", "three hundred one euros and one cent"),
    ],
)
def test_prices(euros, cents, german, english):
    assert price(euros, cents) == (german, english)


def test_join_leaves_no_spaces_for_what_is_empty():
    assert join(("", "a"), ("b", ""), ("c", "d")) == ("b c", "a d")
