"""Clauses: one set of parts, put in the order that each language and kind of clause asks for.

German has the finite verb second in a statement, first in a yes/no question and last in a subordinate clause, where a
separable prefix joins it; participles, infinitives and prefixes end a main clause. English keeps subject, verb, object
and needs "do" for negation and questions.
"""

from dataclasses import dataclass

from .noun_phrases import Phrase
from .verbs import Verb, english_be, english_group, german_be, german_group


@dataclass(frozen=True)
class Clause:
    """The parts of a clause; empty strings are parts that are not there.

    Attributes:
        subject: the subject; the verbs agree with it.
        finite: German finite verb.
        ending: German prefix, participle or infinitive at the end of a main clause.
        separable: ``ending`` is a prefix, which a verb-final clause writes in one word with ``finite``.
        middle: German between the finite verb (and the subject) and ``ending``.
        operator, remainder, plain: English verb group, see ``verbs.english_group``.
        adverb: English adverb before the main verb ("often").
        rest: English after the verb group.
        negated: the English verb is negated.
    """

    subject: Phrase
    finite: str
    ending: str
    separable: bool
    middle: str
    operator: str
    remainder: str
    plain: str
    adverb: str
    rest: str
    negated: bool


def join_words(*parts: str) -> str:
    """The parts that are not empty, separated by spaces."""
    return " ".join(part for part in parts if part)


def verb_clause(
    subject: Phrase,
    verb: Verb,
    tense: str,
    objects: tuple[Phrase, ...] = (),
    time: Phrase | None = None,
    frequency: Phrase | None = None,
    companion: Phrase | None = None,
    details: tuple[Phrase, ...] = (),
    nicht: bool = False,
    negated: bool = False,
) -> Clause:
    """A clause with a full verb.

    Args:
        subject: the subject.
        verb: the verb.
        tense: see ``verbs.py``.
        objects: in the order in which both languages have noun objects (dative, accusative).
        time: before German noun objects, last in English.
        frequency: an adverb such as "oft"; only in the present and perfect.
        companion: "mit Anna"; before the details in German, after them in English.
        details: price, place or destination, in this order in both languages.
        nicht: negate both verbs; German has "nicht" between objects and details.
        negated: negate the English verb only, because an object has "kein".
    """
    finite, ending = german_group(verb, tense, subject.person)
    pronouns = [item.german for item in objects if item.pronoun]
    nouns = [item.german for item in objects if not item.pronoun]
    adverbials = [item.german for item in (time, frequency) if item is not None]
    german_details = [item.german for item in (companion, *details) if item is not None]
    english_details = [item.english for item in (*details, companion, time) if item is not None]
    middle = join_words(*pronouns, *adverbials, *nouns, "nicht" if nicht else "", *german_details)
    operator, remainder, plain = english_group(verb, tense, subject.person)
    english_objects = [item.english for item in objects]
    if verb.particle:  # "picks him up", but "picks up the guest"
        english_objects.insert(1 if objects and objects[0].pronoun else 0, verb.particle)
    rest = join_words(*english_objects, *english_details)
    return Clause(
        subject,
        finite,
        ending,
        tense == "present",
        middle,
        operator,
        remainder,
        plain,
        frequency.english if frequency else "",
        rest,
        nicht or negated,
    )


def be_clause(subject: Phrase, complement: Phrase, past: bool = False, nicht: bool = False) -> Clause:
    """A clause with "sein" and a complement: an adjective, an age, a time of day."""
    english = english_be(subject.person, past)
    middle = join_words("nicht" if nicht else "", complement.german)
    return Clause(
        subject, german_be(subject.person, past), "", False, middle, english, "", english, "", complement.english, nicht
    )


def german_statement(clause: Clause, front: str = "") -> str:
    """Finite verb second: after the subject, or after ``front`` and then before the subject."""
    opening = (front, clause.finite, clause.subject.german) if front else (clause.subject.german, clause.finite)
    return join_words(*opening, clause.middle, clause.ending)


def german_question(clause: Clause, question_word: str = "") -> str:
    """Finite verb first, or second after a question word."""
    return (
        german_statement(clause, question_word)
        if question_word
        else join_words(clause.finite, clause.subject.german, clause.middle, clause.ending)
    )


def german_subordinate(clause: Clause) -> str:
    """Finite verb last, without the conjunction."""
    verbs = clause.ending + clause.finite if clause.separable else join_words(clause.ending, clause.finite)
    return join_words(clause.subject.german, clause.middle, verbs)


def english_statement(clause: Clause, front: str = "") -> str:
    """Subject, verb, rest; ``front`` stands before it, with a comma."""
    if clause.negated:
        verbs = join_words(clause.operator, "not", clause.adverb, clause.remainder)
        verbs = verbs.replace("can not", "cannot", 1) if clause.operator == "can" else verbs
    else:
        verbs = join_words(clause.adverb, clause.plain)
    return join_words(f"{front}," if front else "", clause.subject.english, verbs, clause.rest)


def english_question(clause: Clause, question_word: str = "") -> str:
    """Question word, operator, subject, rest; without a question mark."""
    return join_words(
        question_word,
        clause.operator,
        clause.subject.english,
        "not" if clause.negated else "",
        clause.adverb,
        clause.remainder,
        clause.rest,
    )
