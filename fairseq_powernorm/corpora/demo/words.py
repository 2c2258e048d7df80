"""The word lists."""

from .grammar import Noun, Verb
from .numbers import Phrase


def _pairs(text: str) -> tuple[Phrase, ...]:
    return tuple(Phrase(*pair.split()) for pair in text.split(", "))


def _nouns(**genders: str) -> tuple[Noun, ...]:
    return tuple(Noun(gender, *noun.split()) for gender, nouns in genders.items() for noun in nouns.split(", "))


GOODS = _nouns(
    masculine="Tisch Tische table tables, Stuhl Stühle chair chairs, Koffer Koffer suitcase suitcases",
    feminine="Lampe Lampen lamp lamps, Tasche Taschen bag bags, Kamera Kameras camera cameras",
    neuter="Buch Bücher book books, Fahrrad Fahrräder bicycle bicycles, Messer Messer knife knives",
)
BUILDINGS = _nouns(
    masculine="Bahnhof Bahnhöfe station stations, Laden Läden shop shops",
    feminine="Bäckerei Bäckereien bakery bakeries, Schule Schulen school schools",
    neuter="Museum Museen museum museums, Hotel Hotels hotel hotels",
)
PEOPLE = _nouns(
    masculine="Lehrer Lehrer teacher teachers, Arzt Ärzte doctor doctors",
    feminine="Nachbarin Nachbarinnen neighbor neighbors, Kollegin Kolleginnen colleague colleagues",
    neuter="Kind Kinder child children",
)
_SIZES = _pairs("alt old, neu new, klein small, groß big")
ADJECTIVES = {
    GOODS: _SIZES + _pairs("teuer expensive, billig cheap, rot red, blau blue, weiß white, schwarz black"),
    BUILDINGS: _SIZES,
    PEOPLE: _pairs("jung young, neu new, freundlich friendly, klug clever"),
}
SINGULAR_PRONOUNS, PLURAL_PRONOUNS = _pairs("er he, sie she"), _pairs("sie they, wir we")
NAMES = _pairs("Anna Anna, Jonas Jonas, Julia Julia, Paul Paul")
MORE_NAMES = _pairs("Felix Felix, Lena Lena, Maria Maria, Max Max")
CITIES = _pairs("Berlin Berlin, Dresden Dresden, Hamburg Hamburg, Köln Cologne, München Munich, Wien Vienna")
WEEKDAYS = _pairs(
    "Montag Monday, Dienstag Tuesday, Mittwoch Wednesday, Donnerstag Thursday, Freitag Friday, Samstag Saturday, "
    "Sonntag Sunday"
)
SPANS = _pairs("Tagen days, Wochen weeks, Monaten months, Jahren years")
PREPOSITIONS = (Phrase("in", "in"), Phrase("vor", "in front of"), Phrase("hinter", "behind"))
INTRODUCTIONS = (Phrase("ich weiß, dass", "I know that"), Phrase("es stimmt, dass", "it is true that"))

TRADE = (
    Verb("kaufen", "kauft", "gekauft", "buy", "bought"),
    Verb("verkaufen", "verkauft", "verkauft", "sell", "sold"),
    Verb("bestellen", "bestellt", "bestellt", "order", "ordered"),
    Verb("anbieten", "bietet an", "angeboten", "offer", "offered"),
)
MEETING = (
    Verb("treffen", "trifft", "getroffen", "meet", "met"),
    Verb("abholen", "holt ab", "abgeholt", "pick up", "picked up"),
)
HOURS = (
    Verb("öffnen", "öffnet", "geöffnet", "open", "opened"),
    Verb("schließen", "schließt", "geschlossen", "close", "closed"),
    Verb("aufmachen", "macht auf", "aufgemacht", "open", "opened"),
    Verb("zumachen", "macht zu", "zugemacht", "close", "closed"),
)
LEAVE = Verb("abfahren", "fährt ab", "abgefahren", "leave", "left", with_sein=True)
ARRIVE = Verb("ankommen", "kommt an", "angekommen", "arrive", "arrived", with_sein=True)
TRAINS = (
    (LEAVE, Phrase("der Zug nach", "the train to"), Phrase("von Gleis", "from platform")),
    (ARRIVE, Phrase("der Zug aus", "the train from"), Phrase("auf Gleis", "on platform")),
)
COST = Verb("kosten", "kostet", "gekostet", "cost", "cost")
TURN = Verb("werden", "wird", "geworden", "turn", "turned", with_sein=True)
