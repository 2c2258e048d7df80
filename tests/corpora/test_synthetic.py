"""The generated corpus: its languages against sentences worked out by hand, and its files."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from fairseq_powernorm.corpora import synthetic, verb_list
from fairseq_powernorm.corpora.clauses import (
    be_clause,
    english_question,
    english_statement,
    german_question,
    german_statement,
    german_subordinate,
    verb_clause,
)
from fairseq_powernorm.corpora.compounds import THREE_PART_COMPOUNDS, TWO_PART_COMPOUNDS, compound
from fairseq_powernorm.corpora.dates import clock_time, date, price
from fairseq_powernorm.corpora.noun_phrases import SECOND_SINGULAR, THIRD_PLURAL, Adjective, Noun, Phrase, noun_phrase
from fairseq_powernorm.corpora.numbers import english_cardinal, german_cardinal, german_ordinal_dative
from fairseq_powernorm.corpora.sentences import random_sentence
from fairseq_powernorm.corpora.synthetic import generate_pairs, write_corpus

ROOT = Path(synthetic.__file__).parents[2]
DOG = Noun("Hund", "masculine", "Hunde", "dog")
CAT = Noun("Katze", "feminine", "Katzen", "cat")
HOUSE = Noun("Haus", "neuter", "Häuser", "house")
BROTHER = Noun("Bruder", "masculine", "Brüder", "brother")
NEIGHBOR = Noun("Nachbar", "masculine", "Nachbarn", "neighbor", oblique="Nachbarn")
BIG, EXPENSIVE, OLD = Adjective("groß", "big"), Adjective("teuer", "expensive", stem="teur"), Adjective("alt", "old")
HE, HIM = Phrase("er", "he", pronoun=True), Phrase("ihn", "him", pronoun=True)
THEY, YOU = Phrase("sie", "they", THIRD_PLURAL, True), Phrase("du", "you", SECOND_SINGULAR, True)
SPLITS = ("train", "valid", "test")


def find_verb(participle):
    verbs = (*verb_list.TRANSITIVE, *verb_list.DATIVE, *verb_list.ACTIVITY, *verb_list.SLEEP, *verb_list.MOTION)
    return next(verb for verb in verbs if verb.participle == participle)


@pytest.fixture(scope="module")
def pairs():
    return generate_pairs(21000, seed=1)


@pytest.mark.parametrize(
    ("number", "german", "english"),
    [
        (0, "null", "zero"),
        (1, "eins", "one"),
        (16, "sechzehn", "sixteen"),
        (17, "siebzehn", "seventeen"),
        (21, "einundzwanzig", "twenty-one"),
        (23, "dreiundzwanzig", "twenty-three"),
        (30, "dreißig", "thirty"),
        (66, "sechsundsechzig", "sixty-six"),
        (77, "siebenundsiebzig", "seventy-seven"),
        (100, "hundert", "one hundred"),
        (214, "zweihundertvierzehn", "two hundred fourteen"),
        (1000, "tausend", "one thousand"),
        (1150, "tausendeinhundertfünfzig", "one thousand one hundred fifty"),
        (3412, "dreitausendvierhundertzwölf", "three thousand four hundred twelve"),
    ],
)
def test_numbers(number, german, english):
    assert (german_cardinal(number), english_cardinal(number)) == (german, english)


@pytest.mark.parametrize(
    ("day", "german"),
    [
        (1, "ersten"),
        (3, "dritten"),
        (7, "siebten"),
        (8, "achten"),
        (19, "neunzehnten"),
        (20, "zwanzigsten"),
        (31, "einunddreißigsten"),
    ],
)
def test_ordinals(day, german):
    assert german_ordinal_dative(day) == german


def test_dates():
    assert date(3, 3, 1987) == ("am dritten März 1987", "on March 3, 1987")
    assert date(24, 12) == ("am vierundzwanzigsten Dezember", "on December 24")


@pytest.mark.parametrize(
    ("hour", "minute", "german", "english"),
    [
        (3, 30, "halb vier", "half past three"),
        (12, 30, "halb eins", "half past twelve"),
        (6, 15, "Viertel nach sechs", "a quarter past six"),
        (12, 45, "Viertel vor eins", "a quarter to one"),
        (7, 50, "zehn vor acht", "ten to eight"),
        (1, 5, "fünf nach eins", "five past one"),
        (8, 0, "acht Uhr", "eight o'clock"),
        (1, 0, "ein Uhr", "one o'clock"),
        (8, 27, "acht Uhr siebenundzwanzig", "eight twenty-seven"),
    ],
)
def test_times_of_day(hour, minute, german, english):
    assert clock_time(hour, minute) == (german, english)


def test_prices():
    assert price(12, 50) == ("zwölf Euro fünfzig", "twelve euros fifty")
    assert price(1) == ("ein Euro", "one euro")
    assert price(0, 99) == ("neunundneunzig Cent", "ninety-nine cents")


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (german_cardinal, (10000,)),
        (english_cardinal, (-1,)),
        (german_ordinal_dative, (32,)),
        (date, (30, 2)),
        (date, (1, 13)),
        (clock_time, (13, 0)),
        (clock_time, (1, 60)),
        (price, (0, 0)),
        (price, (1, 100)),
        (noun_phrase, (DOG, "jeder")),
        (noun_phrase, (DOG, 3)),
        (noun_phrase, (DOG, "ein", "nominative", True)),
    ],
)
def test_values_out_of_range(function, arguments):
    with pytest.raises(ValueError):
        function(*arguments)


@pytest.mark.parametrize(
    ("arguments", "german", "english"),
    [
        ((DOG, "der", "nominative", False, BIG), "der große Hund", "the big dog"),
        ((DOG, "der", "accusative", False, BIG), "den großen Hund", "the big dog"),
        ((DOG, "ein", "nominative", False, BIG), "ein großer Hund", "a big dog"),
        ((DOG, "ein", "accusative", False, OLD), "einen alten Hund", "an old dog"),
        ((CAT, "ein", "dative", False, BIG), "einer großen Katze", "a big cat"),
        ((CAT, "der", "nominative", False, BIG), "die große Katze", "the big cat"),
        ((HOUSE, "ein", "accusative", False, EXPENSIVE), "ein teures Haus", "an expensive house"),
        ((HOUSE, "dieser", "accusative", False, EXPENSIVE), "dieses teure Haus", "this expensive house"),
        ((DOG, "mein", "accusative", True, BIG), "meine großen Hunde", "my big dogs"),
        ((DOG, 23, "accusative", True, BIG), "dreiundzwanzig große Hunde", "twenty-three big dogs"),
        ((HOUSE, "der", "dative", True, BIG), "den großen Häusern", "the big houses"),
        ((NEIGHBOR, "sein", "dative"), "seinem Nachbarn", "his neighbor"),
        ((DOG, "kein", "accusative"), "keinen Hund", "a dog"),
    ],
)
def test_noun_phrase_agreement(arguments, german, english):
    phrase = noun_phrase(*arguments)
    assert (phrase.german, phrase.english) == (german, english)


def test_owner():
    phrase = noun_phrase(HOUSE, "der", "nominative", False, OLD, noun_phrase(BROTHER, "mein", "genitive"))
    assert (phrase.german, phrase.english) == ("das alte Haus meines Bruders", "my brother's old house")


def test_compounds():
    key = Noun("Schlüssel", "masculine", "Schlüssel", "key")
    assert noun_phrase(compound("Haustür", "front door", key), "der", "accusative") == Phrase(
        "den Haustürschlüssel", "the front door key"
    )
    built = {
        noun.singular: noun.english
        for family in (TWO_PART_COMPOUNDS, THREE_PART_COMPOUNDS)
        for nouns in family.values()
        for noun in nouns
    }
    assert built["Haustürschlüssel"] == "front door key"
    assert built["Küchenfenstergriff"] == "kitchen window handle"
    assert built["Apfelkuchen"] == "apple cake"
    assert len(built) > 1000


def test_separable_verb():
    call, dog = find_verb("angerufen"), noun_phrase(BROTHER, "mein", "accusative")
    he_calls, they_call = verb_clause(HE, call, "present", (dog,)), verb_clause(THEY, call, "present", (dog,))
    assert german_statement(he_calls) == "er ruft meinen Bruder an"
    assert english_statement(he_calls) == "he calls my brother"
    assert german_statement(they_call, "heute") == "heute rufen sie meinen Bruder an"
    assert english_statement(they_call, "today") == "today, they call my brother"
    assert german_subordinate(he_calls) == "er meinen Bruder anruft"


def test_perfect_and_modal_verbs():
    time = Phrase("gestern", "yesterday")
    cat = noun_phrase(CAT, "der", "accusative")
    called = verb_clause(HE, find_verb("angerufen"), "perfect", (cat,), time, nicht=True)
    assert german_statement(called) == "er hat gestern die Katze nicht angerufen"
    assert english_statement(called) == "he did not call the cat yesterday"
    assert german_subordinate(called) == "er gestern die Katze nicht angerufen hat"
    assert german_question(called, "warum") == "warum hat er gestern die Katze nicht angerufen"
    assert english_question(called, "why") == "why did he not call the cat yesterday"
    must = verb_clause(YOU, find_verb("aufgestanden"), "müssen", nicht=True)
    assert (german_statement(must), english_statement(must)) == (
        "du musst nicht aufstehen",
        "you do not have to get up",
    )
    can = verb_clause(HE, find_verb("gelesen"), "können", nicht=True)
    assert (german_subordinate(can), english_statement(can)) == ("er nicht lesen kann", "he cannot read")
    gone = verb_clause(THEY, find_verb("gegangen"), "perfect", details=(Phrase("nach Wien", "to Vienna"),), time=time)
    assert german_question(gone) == "sind sie gestern nach Wien gegangen"
    assert english_question(gone) == "did they go to Vienna yesterday"


def test_particle_follows_a_pronoun():
    pick_up = find_verb("abgeholt")
    assert english_statement(verb_clause(HE, pick_up, "present", (HIM,))) == "he picks him up"
    assert english_statement(verb_clause(HE, pick_up, "present", (noun_phrase(DOG, "der", "accusative"),))) == (
        "he picks up the dog"
    )


def test_kein_negates_the_english_verb():
    buys = verb_clause(HE, find_verb("gekauft"), "present", (noun_phrase(HOUSE, "kein", "accusative"),), negated=True)
    assert (german_statement(buys), english_statement(buys)) == ("er kauft kein Haus", "he does not buy a house")


def test_be():
    tired = be_clause(THEY, Phrase("müde", "tired"), past=True, nicht=True)
    assert (german_statement(tired), english_statement(tired)) == ("sie waren nicht müde", "they were not tired")
    assert (german_question(tired), english_question(tired)) == ("waren sie nicht müde", "were they not tired")


def test_pairs_are_distinct_and_look_like_raw_text(pairs):
    assert len(pairs) == len({german for german, _ in pairs}) == 21000
    for german, english in pairs:
        assert 4 <= len(german.split()) <= 10
        for text in (german, english):
            assert text[0].isupper() and text[-1] in ".?" and text == " ".join(text.split())
        assert (german[-1] == "?") == (english[-1] == "?")


def test_english_is_a_function_of_german():
    generator, translations = random.Random(2), {}
    for _ in range(3000):
        german, english = random_sentence(generator)
        assert translations.setdefault(german, english) == english


def test_some_compounds_of_the_test_set_are_new(pairs):
    compounds = {
        noun.singular
        for family in (TWO_PART_COMPOUNDS, THREE_PART_COMPOUNDS)
        for nouns in family.values()
        for noun in nouns
    }
    seen, held_out = (
        {word.strip(".,?") for german, _ in part for word in german.split()} & compounds
        for part in (pairs[:20000], pairs[20500:])
    )
    assert held_out - seen and held_out & seen


def test_same_seed_same_pairs_whatever_the_hash_seed():
    code = (
        "from fairseq_powernorm.corpora.synthetic import generate_pairs; import hashlib; "
        "print(hashlib.sha256(repr(generate_pairs(300, 7)).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    assert generate_pairs(300, 7) == generate_pairs(300, 7) != generate_pairs(300, 8)


def test_files_have_their_sizes_and_are_disjoint(tmp_path):
    write_corpus(tmp_path / "raw", train=600, valid=40, test=50, seed=3)
    german = {split: (tmp_path / "raw" / f"{split}.de").read_text(encoding="utf-8").splitlines() for split in SPLITS}
    english = {split: (tmp_path / "raw" / f"{split}.en").read_text(encoding="utf-8").splitlines() for split in SPLITS}
    assert [len(german[split]) for split in SPLITS] == [len(english[split]) for split in SPLITS] == [600, 40, 50]
    assert len(set().union(*german.values())) == 690
    assert [(a, b) for split in SPLITS for a, b in zip(german[split], english[split], strict=True)] == (
        generate_pairs(690, 3)
    )
    assert len(list((tmp_path / "raw").iterdir())) == 6


def test_an_existing_file_is_kept(tmp_path):
    (tmp_path / "test.en").write_text("mine\n", encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"test\.en"):
        write_corpus(tmp_path, train=5, valid=5, test=5, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["test.en"]
    assert (tmp_path / "test.en").read_text(encoding="utf-8") == "mine\n"
    write_corpus(tmp_path, train=5, valid=5, test=5, seed=1, force=True)
    assert len((tmp_path / "test.en").read_text(encoding="utf-8").splitlines()) == 5


def test_an_error_changes_nothing(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="valid is 0"):
        write_corpus(tmp_path, train=5, valid=0, test=5, seed=1)
    monkeypatch.setattr(synthetic, "random_sentence", lambda generator: ("Der Zug hält an.", "The train stops."))
    with pytest.raises(ValueError, match="1 distinct sentences"):
        write_corpus(tmp_path, train=5, valid=5, test=5, seed=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [0, -1])
def test_count_below_one(count):
    with pytest.raises(ValueError, match=f"count is {count}"):
        generate_pairs(count, seed=1)


def test_command_line(tmp_path):
    command = [
        sys.executable,
        "-m",
        "fairseq_powernorm.corpora.synthetic",
        "--destination",
        str(tmp_path),
        "--train",
        "20",
        "--valid",
        "5",
        "--test",
        "5",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert first.returncode == 0 and "wrote 20 sentence pairs" in first.stderr and first.stdout == ""
    second = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert second.returncode == 1 and "--force" in second.stderr and "Traceback" not in second.stderr
