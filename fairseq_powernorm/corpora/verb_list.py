"""The verbs of the demo's corpus, by what they need."""

from .verbs import Verb

_ANY = ("person", "animal", "thing", "opening", "clothing", "text", "food", "building")
_GOODS = ("thing", "opening", "clothing", "text", "food")

TRANSITIVE = (
    Verb("sehen", "gesehen", "see", "saw", second_third=("siehst", "sieht"), objects=_ANY),
    Verb("suchen", "gesucht", "look for", objects=_ANY),
    Verb("finden", "gefunden", "find", "found", objects=_ANY),
    Verb("fotografieren", "fotografiert", "photograph", objects=_ANY),
    Verb("zeichnen", "gezeichnet", "draw", "drew", objects=("animal", "thing", "building")),
    Verb("rufen", "angerufen", "call", prefix="an", objects=("person",)),
    Verb("besuchen", "besucht", "visit", objects=("person",)),
    Verb("laden", "eingeladen", "invite", prefix="ein", second_third=("lädst", "lädt"), objects=("person",)),
    Verb("holen", "abgeholt", "pick", prefix="ab", particle="up", objects=("person", "thing", "clothing")),
    Verb("fragen", "gefragt", "ask", objects=("person",)),
    Verb("begrüßen", "begrüßt", "greet", objects=("person",)),
    Verb("verstehen", "verstanden", "understand", "understood", objects=("person", "text")),
    Verb("kaufen", "gekauft", "buy", "bought", objects=_GOODS),
    Verb("verkaufen", "verkauft", "sell", "sold", objects=_GOODS),
    Verb("bezahlen", "bezahlt", "pay for", "paid", objects=_GOODS),
    Verb("mieten", "gemietet", "rent", objects=("thing", "building")),
    Verb("bestellen", "bestellt", "order", objects=("thing", "clothing", "food")),
    Verb("reparieren", "repariert", "repair", objects=("thing", "opening")),
    Verb("putzen", "geputzt", "clean", objects=("thing", "opening")),
    Verb("verlieren", "verloren", "lose", "lost", objects=("thing", "clothing")),
    Verb("tragen", "getragen", "carry", second_third=("trägst", "trägt"), objects=("thing", "food")),
    Verb(
        "bringen",
        "mitgebracht",
        "bring",
        "brought",
        prefix="mit",
        particle="along",
        objects=("thing", "clothing", "text", "food"),
    ),
    Verb(
        "geben",
        "zurückgegeben",
        "give",
        "gave",
        prefix="zurück",
        second_third=("gibst", "gibt"),
        particle="back",
        objects=("thing", "clothing", "text"),
    ),
    Verb("waschen", "gewaschen", "wash", second_third=("wäschst", "wäscht"), objects=("clothing", "animal")),
    Verb("ziehen", "angezogen", "put", "put", prefix="an", particle="on", objects=("clothing",)),
    Verb("machen", "aufgemacht", "open", prefix="auf", objects=("opening",)),
    Verb("machen", "zugemacht", "close", prefix="zu", objects=("opening",)),
    Verb("öffnen", "geöffnet", "open", objects=("opening",)),
    Verb("lesen", "gelesen", "read", "read", second_third=("liest", "liest"), objects=("text",)),
    Verb("schreiben", "geschrieben", "write", "wrote", objects=("text",)),
    Verb("übersetzen", "übersetzt", "translate", objects=("text",)),
    Verb(
        "werfen",
        "weggeworfen",
        "throw",
        "threw",
        prefix="weg",
        second_third=("wirfst", "wirft"),
        particle="away",
        objects=("thing", "clothing", "text"),
    ),
    Verb("essen", "gegessen", "eat", "ate", second_third=("isst", "isst"), objects=("food",)),
    Verb("probieren", "probiert", "try", objects=("food",)),
)
DATIVE = (
    Verb("helfen", "geholfen", "help", second_third=("hilfst", "hilft"), case="dative", objects=("person",)),
    Verb("danken", "gedankt", "thank", case="dative", objects=("person",)),
    Verb("hören", "zugehört", "listen to", prefix="zu", case="dative", objects=("person",)),
    Verb("antworten", "geantwortet", "answer", case="dative", objects=("person",)),
    Verb("folgen", "gefolgt", "follow", moves=True, case="dative", objects=("person", "animal")),
)
DITRANSITIVE = (
    Verb("geben", "gegeben", "give", "gave", second_third=("gibst", "gibt"), objects=_GOODS),
    Verb("zeigen", "gezeigt", "show", "showed", objects=(*_GOODS, "animal", "building")),
    Verb("schicken", "geschickt", "send", "sent", objects=("text", "thing", "clothing")),
    Verb("bringen", "gebracht", "bring", "brought", objects=_GOODS),
    Verb("lesen", "vorgelesen", "read", "read", prefix="vor", second_third=("liest", "liest"), objects=("text",)),
)
ACTIVITY = (
    Verb("arbeiten", "gearbeitet", "work"),
    Verb("warten", "gewartet", "wait"),
    Verb("tanzen", "getanzt", "dance"),
    Verb("singen", "gesungen", "sing", "sang"),
    Verb("lachen", "gelacht", "laugh"),
    Verb("spielen", "gespielt", "play"),
    Verb("kaufen", "eingekauft", "go shopping", "went", prefix="ein"),
    Verb("kommen", "angekommen", "arrive", prefix="an", moves=True),
)
SLEEP = (
    Verb("schlafen", "geschlafen", "sleep", "slept", second_third=("schläfst", "schläft")),
    Verb("stehen", "aufgestanden", "get up", "got", prefix="auf", moves=True),
    Verb(
        "schlafen",
        "eingeschlafen",
        "fall asleep",
        "fell",
        prefix="ein",
        second_third=("schläfst", "schläft"),
        moves=True,
    ),
    Verb("wachen", "aufgewacht", "wake up", "woke", prefix="auf", moves=True),
)
MOTION = (
    Verb("fahren", "gefahren", "drive", "drove", second_third=("fährst", "fährt"), moves=True),
    Verb("gehen", "gegangen", "go", "went", moves=True),
    Verb("laufen", "gelaufen", "run", "ran", second_third=("läufst", "läuft"), moves=True),
    Verb("kommen", "gekommen", "come", "came", moves=True),
    Verb(
        "fahren", "zurückgefahren", "drive back", "drove", prefix="zurück", second_third=("fährst", "fährt"), moves=True
    ),
)
TIMETABLE = (
    Verb("fahren", "abgefahren", "leave", "left", prefix="ab", second_third=("fährst", "fährt"), moves=True),
    Verb("kommen", "angekommen", "arrive", prefix="an", moves=True),
    Verb("halten", "angehalten", "stop", "stopped", prefix="an", second_third=("hältst", "hält")),
)
SAYING = (
    Verb("glauben", "geglaubt", "believe"),
    Verb("hoffen", "gehofft", "hope"),
    Verb("sagen", "gesagt", "say", "said"),
    Verb("denken", "gedacht", "think", "thought"),
    Verb("wissen", "gewusst", "know", "knew", first="weiß", second_third=("weißt", "weiß")),
)
KNOWING = SAYING[-1]
ASKING = Verb("fragen", "gefragt", "ask")
COSTING = Verb("kosten", "gekostet", "cost", "cost")
BELONGING = Verb("gehören", "gehört", "belong to", case="dative")
