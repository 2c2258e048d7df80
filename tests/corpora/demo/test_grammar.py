"""Agreement and word order against forms and sentences worked out by hand."""

import re

import pytest

from fairseq_powernorm.corpora.demo import words
from fairseq_powernorm.corpora.demo.grammar import FORMS, TENSES, Clause, Noun, Verb, noun_phrase
from fairseq_powernorm.corpora.demo.numbers import NOTHING, Phrase

TABLE = Noun("masculine", "Tisch", "Tische", "table", "tables")
LAMP = Noun("feminine", "Lampe", "Lampen", "lamp", "lamps")
BOOK = Noun("neuter", "Buch", "Bücher", "book", "books")
SMALL, OLD, EXPENSIVE = Phrase("klein", "small"), Phrase("alt", "old"), Phrase("teuer", "expensive")
TWENTY_THREE = Phrase("dreiundzwanzig", "twenty-three")
FETCH = Verb("abholen", "holt ab", "abgeholt", "pick up", "picked up")
LEAVE = Verb("abfahren", "fährt ab", "abgefahren", "leave", "left", with_sein=True)
HE, WE = Phrase("er", "he"), Phrase("wir", "we")
AT_EIGHT = Phrase("um acht Uhr", "at eight o'clock")
THE_LAMP = Phrase("die Lampe", "the lamp")
AT_THE_STATION = Phrase("am Bahnhof", "at the station")

PARADIGM = """
the nominative | der kleine Tisch | die kleine Lampe | das kleine Buch | die kleinen Bücher
the accusative | den kleinen Tisch | die kleine Lampe | das kleine Buch | die kleinen Bücher
the dative | dem kleinen Tisch | der kleinen Lampe | dem kleinen Buch | den kleinen Büchern
a nominative | ein kleiner Tisch | eine kleine Lampe | ein kleines Buch | kleine Bücher
a accusative | einen kleinen Tisch | eine kleine Lampe | ein kleines Buch | kleine Bücher
"""


@pytest.mark.parametrize("row", PARADIGM.strip().splitlines())
def test_paradigm(row):
    (article, case), *expected = row.split(" | ")[0].split(), *row.split(" | ")[1:]
    nouns = ((TABLE, False), (LAMP, False), (BOOK, False), (BOOK, True))
    for (noun, plural), german in zip(nouns, expected, strict=True):
        assert noun_phrase(noun, article, case, plural, adjective=SMALL).german == german
        without = " ".join(word for word in german.split() if not word.startswith("klein"))
        assert noun_phrase(noun, article, case, plural).german == without


@pytest.mark.parametrize(
    ("arguments", "german", "english"),
    [
        ((LAMP, "a", "nominative"), "eine Lampe", "a lamp"),
        ((LAMP, "a", "nominative", False, NOTHING, OLD), "eine alte Lampe", "an old lamp"),
        ((BOOK, "a", "accusative", False, NOTHING, EXPENSIVE), "ein teures Buch", "an expensive book"),
        ((BOOK, "the", "accusative", False, NOTHING, EXPENSIVE), "das teure Buch", "the expensive book"),
        ((TABLE, "a", "accusative", True, TWENTY_THREE, OLD), "dreiundzwanzig alte Tische", "twenty-three old tables"),
        ((TABLE, "the", "nominative", True, TWENTY_THREE, OLD), "die dreiundzwanzig alten Tische", None),
        ((TABLE, "the", "dative", True), "den Tischen", "the tables"),
        ((LAMP, "the", "dative", True), "den Lampen", "the lamps"),
    ],
)
def test_noun_phrases(arguments, german, english):
    phrase = noun_phrase(*arguments)
    assert phrase == (german, english or "the twenty-three old tables")


def test_a_and_an():
    apple = Noun("masculine", "Apfel", "Äpfel", "apple", "apples")
    assert noun_phrase(apple, "a", "accusative") == ("einen Apfel", "an apple")
    assert noun_phrase(apple, "a", "accusative", adjective=SMALL) == ("einen kleinen Apfel", "a small apple")
    assert noun_phrase(apple, "a", "accusative", plural=True).english == "apples"


# A clause with every part, in each form and tense.
SENTENCES = {
    ("present", "statement"): (
        "er holt um acht Uhr die Lampe am Bahnhof ab",
        "he picks up the lamp at the station at eight o'clock",
    ),
    ("present", "time first"): (
        "um acht Uhr holt er die Lampe am Bahnhof ab",
        "at eight o'clock, he picks up the lamp at the station",
    ),
    ("present", "question"): (
        "holt er um acht Uhr die Lampe am Bahnhof ab",
        "does he pick up the lamp at the station at eight o'clock",
    ),
    ("present", "subordinate"): (
        "er um acht Uhr die Lampe am Bahnhof abholt",
        "he picks up the lamp at the station at eight o'clock",
    ),
    ("past", "statement"): (
        "er hat um acht Uhr die Lampe am Bahnhof abgeholt",
        "he picked up the lamp at the station at eight o'clock",
    ),
    ("past", "question"): (
        "hat er um acht Uhr die Lampe am Bahnhof abgeholt",
        "did he pick up the lamp at the station at eight o'clock",
    ),
    ("past", "subordinate"): (
        "er um acht Uhr die Lampe am Bahnhof abgeholt hat",
        "he picked up the lamp at the station at eight o'clock",
    ),
    ("will", "time first"): (
        "um acht Uhr wird er die Lampe am Bahnhof abholen",
        "at eight o'clock, he will pick up the lamp at the station",
    ),
    ("can", "question"): (
        "kann er um acht Uhr die Lampe am Bahnhof abholen",
        "can he pick up the lamp at the station at eight o'clock",
    ),
    ("must", "subordinate"): (
        "er um acht Uhr die Lampe am Bahnhof abholen muss",
        "he must pick up the lamp at the station at eight o'clock",
    ),
}


@pytest.mark.parametrize(("tense", "form"), SENTENCES)
def test_word_order(tense, form):
    clause = Clause(HE, False, FETCH, tense, AT_EIGHT, THE_LAMP, AT_THE_STATION)
    assert clause.say(form) == SENTENCES[tense, form]


@pytest.mark.parametrize(
    ("tense", "singular", "plural", "english_plural"),
    [
        ("present", "er fährt ab", "wir fahren ab", "we leave"),
        ("past", "er ist abgefahren", "wir sind abgefahren", "we left"),
        ("will", "er wird abfahren", "wir werden abfahren", "we will leave"),
        ("can", "er kann abfahren", "wir können abfahren", "we can leave"),
        ("must", "er muss abfahren", "wir müssen abfahren", "we must leave"),
    ],
)
def test_the_verb_agrees_with_its_subject(tense, singular, plural, english_plural):
    assert Clause(HE, False, LEAVE, tense).say("statement").german == singular
    assert Clause(WE, True, LEAVE, tense).say("statement") == (plural, english_plural)


def test_a_plural_question():
    assert Clause(WE, True, LEAVE, "present").say("question") == ("fahren wir ab", "do we leave")
    assert Clause(WE, True, LEAVE, "present").say("subordinate") == ("wir abfahren", "we leave")


def test_the_word_lists_follow_the_rules_that_make_their_forms():
    """A prefix is at the front of the infinitive, English verbs take -s alone, German dative plurals -n or nothing."""
    for verb in (*words.TRADE, *words.MEETING, *words.HOURS, words.LEAVE, words.ARRIVE, words.COST, words.TURN):
        prefix = verb.singular.partition(" ")[2]
        assert verb.infinitive.startswith(prefix) and verb.participle.startswith(prefix)
        assert not re.search(r"(s|sh|ch|x|o|[^aeiou]y)$", verb.english.split()[0])
    for nouns in words.ADJECTIVES:
        assert {noun.gender for noun in nouns} == {"masculine", "feminine", "neuter"}
        assert all(re.search("(e|er|n|s|l)$", noun.german_plural) for noun in nouns)


def test_every_form_is_known():
    assert {form for _, form in SENTENCES} == set(FORMS) and {tense for tense, _ in SENTENCES} == set(TENSES)
