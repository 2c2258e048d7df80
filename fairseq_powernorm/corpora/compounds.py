"""German compound nouns, built from parts: Küche + Fenster + Griff gives Küchenfenstergriff, "kitchen window handle".

There are over a thousand, so a test set has some that its training set lacks; their parts occur in others.
"""

from .noun_phrases import Noun
from .vocabulary import NOUNS, PEOPLE

# modifier as it stands in the compound (with its linking element), and its English
_ROOMS = (
    ("Küchen", "kitchen"),
    ("Keller", "basement"),
    ("Garten", "garden"),
    ("Büro", "office"),
    ("Schul", "school"),
    ("Hotel", "hotel"),
    ("Bahnhofs", "station"),
    ("Museums", "museum"),
    ("Kirchen", "church"),
    ("Krankenhaus", "hospital"),
    ("Badezimmer", "bathroom"),
    ("Schlafzimmer", "bedroom"),
    ("Wohnzimmer", "living room"),
    ("Garagen", "garage"),
    ("Restaurant", "restaurant"),
    ("Theater", "theater"),
    ("Bibliotheks", "library"),
    ("Rathaus", "city hall"),
    ("Schloss", "castle"),
)
_MATERIALS = (
    ("Sommer", "summer"),
    ("Winter", "winter"),
    ("Kinder", "children's"),
    ("Leder", "leather"),
    ("Sport", "sports"),
    ("Baumwoll", "cotton"),
    ("Arbeits", "work"),
    ("Woll", "wool"),
)
_SWEETS = (
    ("Apfel", "apple"),
    ("Kirsch", "cherry"),
    ("Erdbeer", "strawberry"),
    ("Nuss", "nut"),
    ("Zitronen", "lemon"),
    ("Schokoladen", "chocolate"),
    ("Bananen", "banana"),
    ("Pflaumen", "plum"),
)
_VEGETABLES = (
    ("Kartoffel", "potato"),
    ("Tomaten", "tomato"),
    ("Zwiebel", "onion"),
    ("Gemüse", "vegetable"),
    ("Bohnen", "bean"),
    ("Fisch", "fish"),
)
_SUBJECTS = (
    ("Musik", "music"),
    ("Mathematik", "math"),
    ("Deutsch", "German"),
    ("Englisch", "English"),
    ("Geschichts", "history"),
    ("Biologie", "biology"),
    ("Kunst", "art"),
    ("Physik", "physics"),
)
_LOCKABLE = (("tür", "door"), ("schrank", "cabinet"), ("fenster", "window"))
_GOODS = (
    ("türen", "door"),
    ("fenster", "window"),
    ("lampen", "lamp"),
    ("uhren", "clock"),
    ("teppich", "carpet"),
    ("regal", "shelf"),
    ("spiegel", "mirror"),
    ("tisch", "table"),
    ("schrank", "cabinet"),
)
_DEALER = Noun("Händler", "masculine", "Händler", "dealer")
_HANDLE = Noun("Griff", "masculine", "Griffe", "handle")
_SIGN = Noun("Schild", "neuter", "Schilder", "sign")


def compound(modifier: str, english: str, head: Noun) -> Noun:
    """A modifier (German form with linking element, English words) joined to a head noun, which gives the gender."""

    def joined(form: str) -> str:
        return modifier + form.lower() if form else ""

    return Noun(
        joined(head.singular),
        head.gender,
        joined(head.plural),
        f"{english} {head.english}",
        joined(head.oblique),
        joined(head.genitive),
    )


def _by_singular(nouns: tuple[Noun, ...], *names: str) -> tuple[Noun, ...]:
    found = {noun.singular: noun for noun in nouns}
    return tuple(found[name] for name in names)


def _products(modifiers: tuple[tuple[str, str], ...], heads: tuple[Noun, ...]) -> tuple[Noun, ...]:
    return tuple(compound(german, english, head) for german, english in modifiers for head in heads)


def _stack(modifiers: tuple[tuple[str, str], ...], middles: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((german + part, f"{english} {meaning}") for german, english in modifiers for part, meaning in middles)


(_KEY,) = _by_singular(NOUNS["thing"], "Schlüssel")
_FACTORY, _STORE = _by_singular(NOUNS["building"], "Fabrik", "Geschäft")
_FRONT_DOOR = ("Haustür", "front door")  # not "house door", so its parts do not tell
_FURNITURE = (
    *_by_singular(NOUNS["thing"], "Tisch", "Stuhl", "Lampe", "Schlüssel", "Uhr", "Bild", "Teppich", "Regal", "Spiegel"),
    _SIGN,
)

TWO_PART_COMPOUNDS = {
    "thing": _products(_ROOMS, _FURNITURE),
    "opening": _products(_ROOMS, _by_singular(NOUNS["opening"], "Tür", "Fenster", "Schrank")),
    "clothing": _products(_MATERIALS, NOUNS["clothing"]),
    "food": (
        *_products(_SWEETS, _by_singular(NOUNS["food"], "Kuchen", "Torte")),
        *_products(_VEGETABLES, _by_singular(NOUNS["food"], "Suppe", "Salat")),
    ),
    "text": _products(_SUBJECTS, (*_by_singular(NOUNS["text"], "Buch"), Noun("Heft", "neuter", "Hefte", "notebook"))),
    "person": _products(_SUBJECTS, _by_singular(PEOPLE, "Lehrer", "Lehrerin", "Student", "Studentin")),
}
THREE_PART_COMPOUNDS = {
    "thing": _products((_FRONT_DOOR, *_stack(_ROOMS, _LOCKABLE)), (_KEY, _HANDLE)),
    "building": _products(_stack(_ROOMS, _GOODS), (_FACTORY, _STORE)),
    "person": _products(_stack(_ROOMS, _GOODS), (_DEALER,)),
}
