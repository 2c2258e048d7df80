"""The nouns, adjectives, names and places of the demo's corpus.

No German word has two English ones; the reverse is allowed (Lehrer and Lehrerin are both "teacher"). English is
American.
"""

from .noun_phrases import (
    FIRST_PLURAL,
    FIRST_SINGULAR,
    SECOND_PLURAL,
    SECOND_SINGULAR,
    THIRD_PLURAL,
    THIRD_SINGULAR,
    Adjective,
    Noun,
    Phrase,
)

RELATIVES = (
    Noun("Bruder", "masculine", "Brüder", "brother"),
    Noun("Schwester", "feminine", "Schwestern", "sister"),
    Noun("Onkel", "masculine", "Onkel", "uncle"),
    Noun("Tante", "feminine", "Tanten", "aunt"),
    Noun("Sohn", "masculine", "Söhne", "son", genitive="Sohnes"),
    Noun("Tochter", "feminine", "Töchter", "daughter"),
    Noun("Freund", "masculine", "Freunde", "friend", genitive="Freundes"),
    Noun("Freundin", "feminine", "Freundinnen", "friend"),
    Noun("Nachbar", "masculine", "Nachbarn", "neighbor", oblique="Nachbarn"),
    Noun("Nachbarin", "feminine", "Nachbarinnen", "neighbor"),
    Noun("Kollege", "masculine", "Kollegen", "colleague", oblique="Kollegen"),
    Noun("Kollegin", "feminine", "Kolleginnen", "colleague"),
)
PEOPLE = (
    Noun("Mann", "masculine", "Männer", "man", genitive="Mannes"),
    Noun("Frau", "feminine", "Frauen", "woman"),
    Noun("Kind", "neuter", "Kinder", "child", genitive="Kindes"),
    Noun("Junge", "masculine", "Jungen", "boy", oblique="Jungen"),
    Noun("Mädchen", "neuter", "Mädchen", "girl"),
    Noun("Lehrer", "masculine", "Lehrer", "teacher"),
    Noun("Lehrerin", "feminine", "Lehrerinnen", "teacher"),
    Noun("Arzt", "masculine", "Ärzte", "doctor", genitive="Arztes"),
    Noun("Ärztin", "feminine", "Ärztinnen", "doctor"),
    Noun("Student", "masculine", "Studenten", "student", oblique="Studenten"),
    Noun("Studentin", "feminine", "Studentinnen", "student"),
    Noun("Gast", "masculine", "Gäste", "guest", genitive="Gastes"),
)
NAMES = ("Anna", "Peter", "Maria", "Paul", "Lena", "Martin", "Julia", "David", "Laura", "Simon")

NOUNS = {
    "animal": (
        Noun("Hund", "masculine", "Hunde", "dog"),
        Noun("Katze", "feminine", "Katzen", "cat"),
        Noun("Pferd", "neuter", "Pferde", "horse"),
        Noun("Vogel", "masculine", "Vögel", "bird"),
        Noun("Maus", "feminine", "Mäuse", "mouse"),
        Noun("Kuh", "feminine", "Kühe", "cow"),
        Noun("Ente", "feminine", "Enten", "duck"),
    ),
    "thing": (
        Noun("Auto", "neuter", "Autos", "car"),
        Noun("Fahrrad", "neuter", "Fahrräder", "bicycle"),
        Noun("Computer", "masculine", "Computer", "computer"),
        Noun("Kamera", "feminine", "Kameras", "camera"),
        Noun("Geschenk", "neuter", "Geschenke", "present"),
        Noun("Ball", "masculine", "Bälle", "ball"),
        Noun("Regenschirm", "masculine", "Regenschirme", "umbrella"),
        Noun("Messer", "neuter", "Messer", "knife"),
        Noun("Teller", "masculine", "Teller", "plate"),
        Noun("Flasche", "feminine", "Flaschen", "bottle"),
        Noun("Tisch", "masculine", "Tische", "table"),
        Noun("Stuhl", "masculine", "Stühle", "chair"),
        Noun("Lampe", "feminine", "Lampen", "lamp"),
        Noun("Schlüssel", "masculine", "Schlüssel", "key"),
        Noun("Uhr", "feminine", "Uhren", "clock"),
        Noun("Bild", "neuter", "Bilder", "picture"),
        Noun("Teppich", "masculine", "Teppiche", "carpet"),
        Noun("Regal", "neuter", "Regale", "shelf"),
        Noun("Spiegel", "masculine", "Spiegel", "mirror"),
    ),
    "opening": (
        Noun("Tür", "feminine", "Türen", "door"),
        Noun("Haustür", "feminine", "Haustüren", "front door"),
        Noun("Fenster", "neuter", "Fenster", "window"),
        Noun("Tor", "neuter", "Tore", "gate"),
        Noun("Schrank", "masculine", "Schränke", "cabinet"),
        Noun("Koffer", "masculine", "Koffer", "suitcase"),
        Noun("Tasche", "feminine", "Taschen", "bag"),
    ),
    "clothing": (
        Noun("Mantel", "masculine", "Mäntel", "coat"),
        Noun("Jacke", "feminine", "Jacken", "jacket"),
        Noun("Schuh", "masculine", "Schuhe", "shoe"),
        Noun("Hut", "masculine", "Hüte", "hat"),
        Noun("Kleid", "neuter", "Kleider", "dress"),
        Noun("Hemd", "neuter", "Hemden", "shirt"),
        Noun("Rock", "masculine", "Röcke", "skirt"),
        Noun("Mütze", "feminine", "Mützen", "cap"),
    ),
    "text": (
        Noun("Buch", "neuter", "Bücher", "book"),
        Noun("Brief", "masculine", "Briefe", "letter"),
        Noun("Zeitung", "feminine", "Zeitungen", "newspaper"),
        Noun("Bericht", "masculine", "Berichte", "report"),
        Noun("Geschichte", "feminine", "Geschichten", "story"),
        Noun("Gedicht", "neuter", "Gedichte", "poem"),
        Noun("Roman", "masculine", "Romane", "novel"),
        Noun("Nachricht", "feminine", "Nachrichten", "message"),
    ),
    "food": (
        Noun("Apfel", "masculine", "Äpfel", "apple"),
        Noun("Banane", "feminine", "Bananen", "banana"),
        Noun("Birne", "feminine", "Birnen", "pear"),
        Noun("Ei", "neuter", "Eier", "egg"),
        Noun("Fisch", "masculine", "Fische", "fish"),
        Noun("Kuchen", "masculine", "Kuchen", "cake"),
        Noun("Torte", "feminine", "Torten", "tart"),
        Noun("Suppe", "feminine", "Suppen", "soup"),
        Noun("Salat", "masculine", "Salate", "salad"),
    ),
    "building": (
        Noun("Haus", "neuter", "Häuser", "house"),
        Noun("Kirche", "feminine", "Kirchen", "church"),
        Noun("Brücke", "feminine", "Brücken", "bridge"),
        Noun("Turm", "masculine", "Türme", "tower"),
        Noun("Fabrik", "feminine", "Fabriken", "factory"),
        Noun("Geschäft", "neuter", "Geschäfte", "store"),
        Noun("Hotel", "neuter", "Hotels", "hotel"),
    ),
    "vehicle": (
        Noun("Zug", "masculine", "Züge", "train"),
        Noun("Bus", "masculine", "Busse", "bus"),
        Noun("Schiff", "neuter", "Schiffe", "ship"),
        Noun("Straßenbahn", "feminine", "Straßenbahnen", "streetcar"),
    ),
}

_HUMAN = (
    Adjective("alt", "old"),
    Adjective("jung", "young"),
    Adjective("freundlich", "friendly"),
    Adjective("müde", "tired", stem="müd"),
    Adjective("glücklich", "happy"),
    Adjective("höflich", "polite"),
    Adjective("klug", "clever"),
    Adjective("nervös", "nervous"),
    Adjective("krank", "sick"),
)
_SIZES = (Adjective("groß", "big"), Adjective("klein", "small"))
_COLORS = (
    Adjective("rot", "red"),
    Adjective("blau", "blue"),
    Adjective("grün", "green"),
    Adjective("schwarz", "black"),
    Adjective("weiß", "white"),
    Adjective("grau", "gray"),
)
_VALUES = (
    Adjective("neu", "new"),
    Adjective("alt", "old"),
    Adjective("schön", "beautiful"),
    Adjective("teuer", "expensive", stem="teur"),
    Adjective("billig", "cheap"),
)
_TEXTURES = (
    Adjective("lang", "long"),
    Adjective("kurz", "short"),
    Adjective("interessant", "interesting"),
    Adjective("langweilig", "boring"),
    Adjective("neu", "new"),
    Adjective("wichtig", "important"),
)
ADJECTIVES = {
    "person": _HUMAN,
    "animal": (
        *_SIZES,
        Adjective("schwarz", "black"),
        Adjective("weiß", "white"),
        Adjective("alt", "old"),
        Adjective("müde", "tired", stem="müd"),
        Adjective("hungrig", "hungry"),
    ),
    "thing": _SIZES + _COLORS + _VALUES,
    "opening": _SIZES + _COLORS + _VALUES,
    "clothing": _COLORS + _VALUES,
    "text": _TEXTURES,
    "food": (
        *_SIZES,
        Adjective("frisch", "fresh"),
        Adjective("lecker", "delicious"),
        Adjective("teuer", "expensive", stem="teur"),
        Adjective("kalt", "cold"),
    ),
    "building": (*_SIZES, *_VALUES[:3], Adjective("berühmt", "famous")),
    "vehicle": (
        *_SIZES,
        Adjective("neu", "new"),
        Adjective("alt", "old"),
        Adjective("schnell", "fast"),
        Adjective("langsam", "slow"),
    ),
}

# The accusative "sie" (her, them) and the possessive "ihr" (her, their) are left out: their English would be a guess.
SUBJECT_PRONOUNS = (
    Phrase("ich", "I", FIRST_SINGULAR, pronoun=True),
    Phrase("du", "you", SECOND_SINGULAR, pronoun=True),
    Phrase("er", "he", THIRD_SINGULAR, pronoun=True),
    Phrase("sie", "she", THIRD_SINGULAR, pronoun=True),
    Phrase("wir", "we", FIRST_PLURAL, pronoun=True),
    Phrase("ihr", "you", SECOND_PLURAL, pronoun=True),
    Phrase("sie", "they", THIRD_PLURAL, pronoun=True),
)
OBJECT_PRONOUNS = {
    "accusative": (
        Phrase("mich", "me", FIRST_SINGULAR, pronoun=True),
        Phrase("dich", "you", SECOND_SINGULAR, pronoun=True),
        Phrase("ihn", "him", THIRD_SINGULAR, pronoun=True),
        Phrase("uns", "us", FIRST_PLURAL, pronoun=True),
    ),
    "dative": (
        Phrase("mir", "me", FIRST_SINGULAR, pronoun=True),
        Phrase("dir", "you", SECOND_SINGULAR, pronoun=True),
        Phrase("ihm", "him", THIRD_SINGULAR, pronoun=True),
        Phrase("uns", "us", FIRST_PLURAL, pronoun=True),
    ),
}

LOCATIONS = (
    Phrase("im Park", "in the park"),
    Phrase("im Garten", "in the garden"),
    Phrase("in der Küche", "in the kitchen"),
    Phrase("in der Stadt", "in the city"),
    Phrase("in der Schule", "at school"),
    Phrase("zu Hause", "at home"),
    Phrase("am Bahnhof", "at the station"),
    Phrase("im Büro", "in the office"),
    Phrase("in Berlin", "in Berlin"),
    Phrase("auf dem Markt", "at the market"),
    Phrase("im Krankenhaus", "in the hospital"),
    Phrase("in der Bibliothek", "in the library"),
    Phrase("in Hamburg", "in Hamburg"),
    Phrase("in Wien", "in Vienna"),
    Phrase("in München", "in Munich"),
)
DESTINATIONS = (
    Phrase("in den Park", "to the park"),
    Phrase("in die Stadt", "to the city"),
    Phrase("nach Berlin", "to Berlin"),
    Phrase("nach Hamburg", "to Hamburg"),
    Phrase("nach Wien", "to Vienna"),
    Phrase("nach München", "to Munich"),
    Phrase("nach Köln", "to Cologne"),
    Phrase("zum Bahnhof", "to the station"),
    Phrase("ins Museum", "to the museum"),
    Phrase("ins Krankenhaus", "to the hospital"),
    Phrase("zum Markt", "to the market"),
    Phrase("in die Bibliothek", "to the library"),
    Phrase("ans Meer", "to the sea"),
)
PREPOSITIONS_WITH_DATIVE = (("neben", "next to"), ("hinter", "behind"), ("vor", "in front of"))
