"""Moses' scripts in Python: what they print for real text, and for lines chosen to be awkward."""

import random
import re

import pytest
import sacremoses

from fairseq_powernorm.corpora import moses
from fairseq_powernorm.files import read_lines

SPACES = "\u1680\u2000\u2009\u200a\u2028\u2029\u202f\u205f\u3000\x85\xa0\t\x0b\x0c\r"


@pytest.mark.parametrize(
    ("language", "line", "expected"),
    [
        ("en", "", ""),
        ("en", "  both ends  kept   ", " both ends kept "),
        ("en", "a (b )c ( d) , (e) f (g)", "a (b) c (d), (e) f (g) "),
        ("en", "carriage\r return\r", "carriage return"),
        ("en", "5 % of 5\xa0% : x ; y\xa0: z\xa0; really\xa0? yes\xa0!", "5% of 5%: x; y: z; really? yes!"),
        ("en", "nº\xa05 at 5\xa0ºC, 3\xa0cm,\xa0and 1\xa0000", "nº 5 at 5 ºC, 3 cm, and 1.000"),
        ("de", "1\xa0000\xa0000 und 1\xa02\xa03", "1,000,000 und 1,2\xa03"),  # the 2 is used up by the first
        ("en", "٣ % and ٣\xa0٣", "٣ % and ٣\xa0٣"),  # the script reads bytes: ASCII's digits only
        ("en", "it’s and it‘s, é’s; ‘word’; ‚word’", "it's and it's, é\"s; 'word\"; 'word\""),
        ("en", "`quoted'' and ''quoted''", '\'quoted " and " quoted " '),
        ("en", "„low“ ”high” a – b—c… ´x´", '"low" "high" a - b - c... \'x\''),
        ("en", "«\xa0a\xa0» «b» x\xa0«\xa0c\xa0» d", '"a" "b" x "c" d'),
        ("en", 'He said "yes". "No", ...', 'He said "yes." "No," ...'),
        ("de", 'Er sagte: "Nein."', 'Er sagte: "Nein".'),
        ("de", '"Ja," sagte er, "gut..." und "so."<b>', '"Ja", sagte er, "gut"... und "so."<b>'),
        ("cs", '"Ano," a "ne."', '"Ano," a "ne."'),
        ("fr", '"Oui," et 1\xa0000 "non."', '"Oui", et 1,000 "non".'),
        ("pl", '"Tak," i 1\xa0000', '"Tak", i 1.000'),
    ],
)
def test_normalize_punctuation(language, line, expected):
    assert moses.normalize_punctuation(line, language) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", ""),
        ("nothing to do: äß中文😀\xa0\u3000", "nothing to do: äß中文😀\xa0\u3000"),
        ("tab\tbell\x07nul\x00c1\x9f", "tab bell nul c1 "),
        (
            "soft\xadhyphen, zero\u200bwidth, mark\ufeff, right\u200fto left",
            "soft hyphen, zero width, mark , right to left",
        ),
        ("private\ue000 unassigned\u0378 nonsense\U0010ffff", "private  unassigned  nonsense "),
        ("line\u2028separator", "line\u2028separator"),
    ],
)
def test_remove_non_printing(line, expected):
    assert moses.remove_non_printing(line) == expected


def test_lowercase():
    assert moses.lowercase("Größe ÄÖÜ ẞ ΟΔΟΣ İ &APOS;") == "größe äöü ß οδοσ i\u0307 &apos;"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", ""),
        (" \t\xa0 ", " \t\xa0 "),
        ("\x1c", ""),
        ("  leading and trailing  ", "leading and trailing"),
        ("bell\x07s and a separator\x1c.", "bells and a separator ."),
        ("soft\xadhyphen a\u200bb\ufeff", "soft \xad hyphen a \u200b b \ufeff"),
        ('<b>a & [c] | "d"</b>', "&lt; b &gt; a &amp; &#91; c &#93; &#124; &quot; d &quot; &lt; / b &gt;"),
        ("1,000. 1,000, and a,b 5,a", "1,000 . 1,000 , and a , b 5 , a"),
        (",5 a,,5 5,", ",5 a , ,5 5 ,"),
        ("²,½ and ٣,٣", "² , ½ and ٣,٣"),
        ("Wait... what.... and..", "Wait ... what .... and .."),
        ("DOTMULTI. DOTMULTI", ".. ."),  # the script's own marker
        ("user@host.com/a_b #1 $5 50% €7", "user @ host.com / a _ b # 1 $ 5 50 % € 7"),
        ("中文 und 日本語 und العربية", "中文 und 日本語 und العربية"),
        ("हिन्दी", "हिन ् दी"),  # no virama is alphabetic
        ("ⓐ Ⅷ ² ½ ª", "ⓐ Ⅷ ² ½ ª"),
        ("naïve café Ørsted Šarić", "naïve café Ørsted Šarić"),
    ],
)
def test_tokenize_in_both_languages(line, expected):
    assert moses.tokenize(line, "de") == expected
    assert moses.tokenize(line, "en") == expected


@pytest.mark.parametrize(
    ("language", "line", "expected"),
    [
        # full stops
        ("en", "We met at 5 p.m.", "We met at 5 p.m ."),
        ("en", "At 5 p.m. Mr. Smith, e.g. He, came.", "At 5 p.m. Mr. Smith , e.g. He , came ."),
        ("en", "No. 5. No. Yes.", "No. 5 . No . Yes ."),
        ("en", "It ended in the U.S.", "It ended in the U.S ."),
        ("en", "On Oct. 3. december follows. Σ. Then", "On Oct. 3. december follows . Σ . Then"),
        ("en", "Nr. X. Ende.", "Nr. X. Ende ."),
        ("en", "3.5. Then 2.a. Then", "3.5 . Then 2.a. Then"),
        ("en", ". a. .", ". a . ."),
        (
            "de",
            "z.B. u.s.w. Dr. Müller, Nr. 5, am 3. Okt. 2014.",
            "z.B. u.s.w. Dr. Müller , Nr. 5 , am 3. Okt . 2014 .",
        ),
        ("de", "Er kam am 3. Mai. Dann kam er bzw. Sie. Am 24.", "Er kam am 3. Mai . Dann kam er bzw. Sie . Am 24 ."),
        ("de", "Straße. Halle (z.B. Saale) 100. Ärzte", "Straße . Halle ( z.B. Saale ) 100 . Ärzte"),
        ("de", "1.000,50 Euro.", "1.000,50 Euro ."),
        # apostrophes
        (
            "en",
            "It's the dogs' bone; don't, rock 'n' roll",
            "It &apos;s the dogs &apos; bone ; don &apos;t , rock &apos; n &apos; roll",
        ),
        ("en", "the 1990's, 5'b", "the 1990 &apos;s , 5&apos;b"),
        ("en", "'tis the dogs'", "&apos;tis the dogs&apos;"),
        ("en", "a 'b'c''d'", "a &apos; b &apos;c &apos; &apos; d&apos;"),
        ("en", "He said 'no.'", "He said &apos; no . &apos; "),
        ("en", "x.' y", "x . &apos; y"),
        ("de", "Das ist's, Hans' Hund, 'so'", "Das ist &apos; s , Hans &apos; Hund , &apos; so &apos;"),
        ("de", "Er sagte 'nein.'", "Er sagte &apos; nein . &apos;"),
        # quotation marks
        ("de", "„Ja“, sagte er – »nein!«", "„ Ja “ , sagte er – » nein ! «"),
        ("en", '“Yes,” he said: "`no`"', "“ Yes , ” he said : &quot; `no` &quot;"),
    ],
)
def test_tokenize(language, line, expected):
    assert moses.tokenize(line, language) == expected


def test_hyphens_are_split_aggressively_only():
    line = "Ein-Euro-Job, 3-4, a--b, 3- bis -4, é-中"
    assert moses.tokenize(line, "de") == "Ein-Euro-Job , 3-4 , a--b , 3- bis -4 , é-中"
    expected = "Ein @-@ Euro @-@ Job , 3 @-@ 4 , a--b , 3- bis -4 , é @-@ 中"
    assert moses.tokenize(line, "de", aggressive=True) == expected


def test_what_perl_calls_space():
    assert moses.tokenize(SPACES.join("abc"), "en") == "a b c"
    assert moses.tokenize("\x1d".join("abc"), "en") == "abc"
    assert moses.tokenize(SPACES, "en") == SPACES


@pytest.mark.parametrize("mark", [",", "'"])
def test_fast_patterns_are_the_scripts_own(mark):
    """Looking at the neighbours, and using them up, is the same where no two marks are near each other."""
    rules = moses._rules()
    around = rules.commas if mark == "," else rules.apostrophes
    choose = random.Random(1)
    for _ in range(3000):
        pieces = ["".join(choose.choices("a sé5²-.", k=choose.randrange(2, 5))) for _ in range(3)]
        text = mark.join(pieces).strip() + mark * choose.randrange(2)
        looking, using = (around.substitute(text, near).split() for near in (False, True))
        assert looking == using, text


@pytest.mark.parametrize(
    ("language", "line", "expected"),
    [
        ("en", "", ""),
        ("en", " \xa0 ", " \xa0 "),
        ("en", "<seg id = 1>", "<seg id = 1>"),
        ("en", "&lt; b &gt; a &amp; b &#91; c &#93; &#124; d &amp;lt;", "< b > a & b [c] | d &lt;"),
        ("en", "&bra; old &ket; &bar;", "[old] |"),
        ("en", "well @-@ known , a @-@ @-@ b", "well-known, a-@-@ b"),
        ("en", "It &apos;s the dogs &apos; bone , don &apos;t !", "It's the dogs' bone, don't!"),
        ("de", "Das ist &apos; s , &apos; so &apos;", "Das ist 's,' so '"),
        ("en", "( &apos;s ) , &apos;s", "('s), 's"),
        ("en", "He said : &quot; yes , &quot; and &quot; no &quot; .", 'He said: "yes," and "no".'),
        ("de", "„ Ja “ , sagte „ er “ .", "„Ja“, sagte „er“."),
        ("de", "„ Ja ” und „ er “", "„Ja ” und„ er “"),  # ” is no quotation mark to the script
        ("en", "$ 5 € 7 ( a ) 50 % ; ¿ x ?", "$5 €7 (a) 50%; ¿x?"),
        ("en", "( a  b (  c", "(a b ( c"),  # an empty word ends what a bracket began
        ("en", "中文 日本 and 語 Ａ テ", "中文日本 and 語 Ａ テ"),
        ("en", " leading and trailing ", "leading and trailing"),
        ("en", "a\xa0b \x1c c", "a\xa0b \x1c c"),
        ("en", "@-@ x", "-x"),
    ],
)
def test_detokenize(language, line, expected):
    assert moses.detokenize(line, language) == expected


def test_other_languages_are_sacremoses_own():
    line = "L'homme est arrivé, c'est-à-dire M. Dupont."
    tokens = sacremoses.MosesTokenizer("fr").tokenize(line, return_str=True)
    assert moses.tokenize(line, "fr") == tokens
    assert moses.detokenize(tokens, "fr") == sacremoses.MosesDetokenizer("fr").detokenize(tokens.split())
    for language in ("as", "fr", "zh"):
        assert moses.detokenize(moses.tokenize("abc", language), language) == "abc"


@pytest.mark.parametrize("function", [moses.normalize_punctuation, moses.tokenize, moses.detokenize])
def test_unknown_language(function):
    with pytest.raises(ValueError, match=r"no rules for language 'xx'; known are as, .*de, .*en, .*zh"):
        function("a", "xx")


@pytest.mark.realdata
@pytest.mark.parametrize("language", ["de", "en"])
@pytest.mark.parametrize(
    ("source", "result", "function"),
    [
        ("raw", "normalized", moses.normalize_punctuation),
        ("normalized", "printable", lambda line, _: moses.remove_non_printing(line)),
        ("printable", "tokenized_aggressive", lambda line, language: moses.tokenize(line, language, aggressive=True)),
        ("raw", "tokenized", moses.tokenize),
        ("tokenized", "lowercased", lambda line, _: moses.lowercase(line)),
        ("tokenized_aggressive", "detokenized", moses.detokenize),
    ],
)
def test_real_text(real_data, language, source, result, function):
    printed = "".join(
        f"{function(line, language)}\n" for line in read_lines(real_data / "moses" / f"{source}.{language}")
    )
    assert printed.encode() == (real_data / "moses" / f"{result}.{language}").read_bytes()


@pytest.mark.realdata
@pytest.mark.parametrize("language", ["de", "en"])
@pytest.mark.parametrize("name", ["dev2010", "tst2010", "tst2011"])
def test_iwslt14(real_data, name, language):
    name = f"IWSLT14.TED.{name}.de-en.{language}"
    lines = [line for line in read_lines(real_data / "iwslt14" / "xml" / f"{name}.xml") if "<seg id" in line]
    lines = [re.sub(r'<seg id="[0-9]*">\s*', "", line) for line in lines]
    lines = [re.sub(r"\s*</seg>\s*", "", line).replace("’", "'") for line in lines]
    printed = "".join(f"{moses.lowercase(moses.tokenize(line, language))}\n" for line in lines)
    assert printed.encode() == (real_data / "iwslt14" / "tokenized" / name).read_bytes()
