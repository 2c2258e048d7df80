"""Noun phrases, whose words agree, and clauses, whose words stand where each language wants them."""

from typing import NamedTuple

from .numbers import NOTHING, Phrase, join

# The German article and the adjective's ending: masculine, feminine, neuter, plural.
_AGREEMENT = {
    ("the", "nominative"): (("der", "e"), ("die", "e"), ("das", "e"), ("die", "en")),
    ("the", "accusative"): (("den", "en"), ("die", "e"), ("das", "e"), ("die", "en")),
    ("the", "dative"): (("dem", "en"), ("der", "en"), ("dem", "en"), ("den", "en")),
    ("a", "nominative"): (("ein", "er"), ("eine", "e"), ("ein", "es"), ("", "e")),
    ("a", "accusative"): (("einen", "en"), ("eine", "e"), ("ein", "es"), ("", "e")),
}
_GENDERS = ("masculine", "feminine", "neuter")
_MODALS = {"will": ("wird", "werden"), "can": ("kann", "können"), "must": ("muss", "müssen")}  # singular, plural
# The order of words in each form of a clause. German: time before place, its verb second, first or last, and the rest
# of the verb at the end ("er fährt um acht Uhr ab"). English: place before time, the verb after the subject.
_ORDERS = {
    "statement": ("subject finite time object place end", "subject verb object place time"),
    "time first": ("time finite subject object place end", "time, subject verb object place"),
    "question": ("finite subject time object place end", "auxiliary subject infinitive object place time"),
    "subordinate": ("subject time object place end+finite", "subject verb object place time"),
}
FORMS, TENSES = tuple(_ORDERS), ("present", "past", *_MODALS)


class Noun(NamedTuple):
    """A noun; ``gender`` is "masculine", "feminine" or "neuter"."""

    gender: str
    german: str
    german_plural: str
    english: str
    english_plural: str


class Verb(NamedTuple):
    """A verb: "abfahren", "fährt ab", "abgefahren", "leave", "left", and whether its perfect is with "sein"."""

    infinitive: str
    singular: str
    participle: str
    english: str
    english_past: str
    with_sein: bool = False


class Clause(NamedTuple):
    """What is said; ``tense`` is one of ``TENSES``, and the past is the perfect in German."""

    subject: Phrase
    plural: bool
    verb: Verb
    tense: str
    time: Phrase = NOTHING
    object: Phrase = NOTHING
    place: Phrase = NOTHING

    def say(self, form: str) -> Phrase:
        """The clause in one of the ``FORMS``: its words in the order of each language.

        "time first" is "um acht Uhr fährt er ab", "question" is "fährt er um acht Uhr ab", and "subordinate" is what
        follows "dass": "er um acht Uhr abfährt".
        """
        finite, end = self._german_verb()
        verb, auxiliary = self._english_verb()
        last = f"{end}{finite}" if self.tense == "present" else f"{end} {finite}"  # a prefix is a part of its verb
        german = {"finite": finite, "end": end, "end+finite": last}
        english = {
            "verb": verb,
            "auxiliary": auxiliary,
            "infinitive": self.verb.english,
            "time,": self.time.english + ",",
        }
        for role in ("subject", "time", "object", "place"):
            german[role], english[role] = getattr(self, role)
        both = zip((german, english), _ORDERS[form], strict=True)
        return Phrase(*(" ".join(filter(None, map(words.get, order.split()))) for words, order in both))

    def _german_verb(self) -> tuple[str, str]:
        """The finite verb, and the clause's end: a prefix, a participle or an infinitive."""
        if self.tense == "past":
            return (("ist", "sind") if self.verb.with_sein else ("hat", "haben"))[self.plural], self.verb.participle
        if self.tense in _MODALS:
            return _MODALS[self.tense][self.plural], self.verb.infinitive
        singular, _, prefix = self.verb.singular.partition(" ")
        return self.verb.infinitive.removeprefix(prefix) if self.plural else singular, prefix

    def _english_verb(self) -> tuple[str, str]:
        """The verb of a statement, and the auxiliary of a question."""
        if self.tense == "past":
            return self.verb.english_past, "did"
        if self.tense in _MODALS:
            return f"{self.tense} {self.verb.english}", self.tense
        if self.plural:
            return self.verb.english, "do"
        base, *particle = self.verb.english.split()
        return " ".join([f"{base}s", *particle]), "does"


def noun_phrase(
    noun: Noun, article: str, case: str, plural: bool = False, number: Phrase = NOTHING, adjective: Phrase = NOTHING
) -> Phrase:
    """A noun and what agrees with it: ("die drei roten Lampen", "the three red lamps").

    The ``case`` is "nominative", "accusative", or after ``article`` "the" also "dative"; the plural of "a" has no
    article, and the German ``adjective`` no ending yet.
    """
    german_article, ending = _AGREEMENT[article, case][3 if plural else _GENDERS.index(noun.gender)]
    german_noun, english_noun = (noun.german_plural, noun.english_plural) if plural else (noun.german, noun.english)
    if plural and case == "dative" and german_noun[-1] not in "ns":
        german_noun += "n"
    if article == "a":
        article = "" if plural else "an" if (adjective.english or english_noun)[0] in "aeiou" else "a"
    if adjective != NOTHING:
        adjective = Phrase(adjective.german.replace("teuer", "teur") + ending, adjective.english)
    return join(Phrase(german_article, article), number, adjective, Phrase(german_noun, english_noun))
