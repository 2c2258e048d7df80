"""Protocols: the text against Perl and by hand, BLEU against multi-bleu.perl's output and fairseq-score."""

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairseq_powernorm.scoring import protocols
from fairseq_powernorm.scoring.bleu import score
from fairseq_powernorm.scoring.protocols import PROTOCOLS, Protocol, join_hyphens, see_bytes, split_compounds

MOSES = Path(__file__).parents[2] / ".." / "shared" / "data" / "moses"
ODD_CHARACTERS = "aÄä-é \u00a0\u202f\u0085\x0b\x1c\t@"
MULTI_BLEU_PROTOCOLS = {"cased": "tokenized", "lower-cased": "tokenized-lowercase", "compounds split": "compounds"}


def write_lines(path, lines):
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


def score_lines(folder, hypothesis, reference, protocol):
    return score(write_lines(folder / "h", hypothesis), write_lines(folder / "r", reference), protocol=protocol)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("well-known words", "well ##AT##-##AT## known words"),
        ("state-of-the-art", "state ##AT##-##AT## of ##AT##-##AT## the ##AT##-##AT## art"),
        ("a-b-c", "a ##AT##-##AT## b-c"),  # b is in the first match
        ("a-é-c", "a ##AT##-##AT## é ##AT##-##AT## c"),  # é is two bytes
        ("a - b -c d- --", "a - b -c d- --"),
        ("---", "- ##AT##-##AT## -"),
        ("x-\u00a0y", "x ##AT##-##AT## \u00a0y"),
    ],
)
def test_compounds_are_split_left_to_right_without_overlap(line, expected):
    assert split_compounds(line) == expected


def test_compounds_are_split_as_by_perl():
    if shutil.which("perl") is None:
        pytest.skip("no perl")
    generator = random.Random(5)
    lines = ["".join(generator.choices(ODD_CHARACTERS, k=generator.randint(1, 12))) for _ in range(2000)]
    command = ["perl", "-ple", r"s{(\S)-(\S)}{$1 ##AT##-##AT## $2}g"]
    completed = subprocess.run(command, input="\n".join(lines).encode(), capture_output=True, check=True)
    assert completed.stdout.decode().removesuffix("\n").split("\n") == [split_compounds(line) for line in lines]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a @-@ b", "a-b"),
        ("state @-@ of @-@ the @-@ art .", "state-of-the-art ."),
        ("@-@ b a @-@", "@-@ b a @-@"),
        ("a@-@b - c", "a@-@b - c"),
    ],
)
def test_hyphens_are_joined(line, expected):
    assert join_hyphens(line) == expected


@given(st.text(st.one_of(st.sampled_from(ODD_CHARACTERS + "ÉİẞΣ\x1d\x1e\x1f\u2028"), st.characters(codec="utf-8"))))
def test_bytes_are_split_and_lower_cased_as_bytes(line):
    """Python's ``bytes`` is the oracle: its split and lower know ASCII alone."""
    assert see_bytes(line).split() == [see_bytes(token.decode()) for token in line.encode().split()]
    assert see_bytes(line).lower() == see_bytes(line.encode().lower().decode())


@given(st.sets(st.text("aäÄ\u00a0\x1c\x1d-", min_size=1, max_size=4)))
def test_different_tokens_stay_different(tokens):
    assert len({see_bytes(token) for token in tokens}) == len(tokens)


@pytest.mark.realdata
@pytest.mark.parametrize("system", ["close", "middling", "poor"])
@pytest.mark.parametrize("case", MULTI_BLEU_PROTOCOLS)
def test_real_translations_print_multi_bleus_line(system, case):
    if not MOSES.exists():
        pytest.skip(f"no {MOSES}")
    result = score(MOSES / f"hypothesis.{system}.en", MOSES / "reference.en", protocol=MULTI_BLEU_PROTOCOLS[case])
    line = f"{system} {case}: {str(result).splitlines()[0]}"
    assert line in (MOSES / "multi_bleu.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.realdata
def test_aggressively_tokenised_text_scores_as_if_it_were_not(tmp_path):
    """``a @-@ b`` and ``a-b`` are the same compound."""
    if not MOSES.exists():
        pytest.skip(f"no {MOSES}")
    reference = (MOSES / "reference.en").read_text(encoding="utf-8").splitlines()
    hypothesis = (MOSES / "hypothesis.middling.en").read_text(encoding="utf-8").splitlines()
    plain = score_lines(tmp_path, hypothesis, reference, "compounds")
    hypothesis, reference = (
        [re.sub(r"(\w)-(?=\w)", r"\1 @-@ ", line) for line in lines] for lines in (hypothesis, reference)
    )
    assert sum("@-@" in line for line in reference) > 100
    assert score_lines(tmp_path, hypothesis, reference, "compounds") == plain


def test_by_hand(tmp_path):
    """A-B is three tokens for compounds; the last two words of six are wrong."""
    hypothesis, reference = ["the A-B was here so long"], ["the A-B was here for ever"]
    line = str(score_lines(tmp_path, hypothesis, reference, "tokenized")).splitlines()[0]
    expected = 100 * (4 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert line == f"BLEU = {expected:.2f}, 66.7/60.0/50.0/33.3 (BP=1.000, ratio=1.000, hyp_len=6, ref_len=6)"
    line = str(score_lines(tmp_path, hypothesis, reference, "compounds")).splitlines()[0]
    expected = 100 * (6 / 8 * 5 / 7 * 4 / 6 * 3 / 5) ** 0.25
    assert line == f"BLEU = {expected:.2f}, 75.0/71.4/66.7/60.0 (BP=1.000, ratio=1.000, hyp_len=8, ref_len=8)"


@pytest.mark.parametrize(
    ("hypothesis", "expected"),
    [
        ("a b c x", "BLEU = 0.00, 75.0/66.7/50.0/0.0 (BP=1.000, ratio=1.000, hyp_len=4, ref_len=4)"),
        ("a b c", "BLEU = 0.00, 100.0/100.0/100.0/0.0 (BP=0.717, ratio=0.750, hyp_len=3, ref_len=4)"),
        ("x", "BLEU = 0.00, 0.0/0.0/0.0/0.0 (BP=0.050, ratio=0.250, hyp_len=1, ref_len=4)"),
        ("", "BLEU = 0.00, 0.0/0.0/0.0/0.0 (BP=0.000, ratio=0.000, hyp_len=0, ref_len=4)"),
    ],
)
def test_nothing_is_smoothed(tmp_path, hypothesis, expected):
    result = score_lines(tmp_path, [hypothesis], ["a b c d"], "tokenized")
    assert str(result).splitlines()[0] == expected
    assert result.bleu == 0


def test_precisions_are_rounded_as_in_perl(tmp_path):
    """23 of 80 is 28.75 %, which Perl computes as 100 * 0.2875 = 28.749999999999996 and prints as 28.7."""
    result = score_lines(tmp_path, ["a"] * 23 + ["b"] * 57, ["a"] * 80, "tokenized")
    assert str(result).startswith("BLEU = 0.00, 28.7/0.0/0.0/0.0 ")


def test_unicode_spaces_part_no_tokens(tmp_path):
    """Python's split would see 6 tokens: between 10 and 000, and around the no-break spaces of the others."""
    line = "10\u202f000 a\u00a0b c\x1cd"
    assert score_lines(tmp_path, [line], [line], "tokenized").hypothesis_words == 3


def test_case_of_ascii_letters_alone_is_ignored_as_by_multi_bleu(tmp_path):
    hypothesis, reference = ["ÄRGER UND KUMMER"], ["ärger und kummer"]
    assert score_lines(tmp_path, hypothesis, reference, "tokenized").precisions[0] == 0
    assert score_lines(tmp_path, hypothesis, reference, "tokenized-lowercase").precisions[0] == pytest.approx(200 / 3)
    assert score_lines(tmp_path, hypothesis, reference, "detokenized-lowercase").precisions[0] == pytest.approx(100)


@pytest.fixture
def fairseq_score(run_python):
    """BLEU, the precisions, brevity penalty, ratio and both lengths of two files, as fairseq-score prints them."""

    def score(hypothesis, reference, *options):
        completed = run_python("-m", "fairseq_cli.score", "--sys", hypothesis, "--ref", reference, *options)
        completed.check_returncode()
        (line,) = [line for line in completed.stdout.splitlines() if line.startswith("BLEU4 = ")]
        return re.findall(r"[0-9.]+", line.removeprefix("BLEU4 = "))

    return score


def random_corpus(seed):
    generator = random.Random(seed)
    words = [*"aAbBcdefghij,.", "well-known", "Straße"]
    reference = [generator.choices(words, k=generator.randint(3, 15)) for _ in range(100)]
    hypothesis = [
        [generator.choice(words) if generator.random() < 0.2 else word for word in line] for line in reference
    ]
    return ([" ".join(line) for line in lines] for lines in (hypothesis, reference))


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["tokenized", "tokenized-lowercase", "compounds"])
def test_fairseq_score_agrees(tmp_path, protocol, fairseq_score):
    """On text whose compounds are split, as fairseq's compound_split_bleu.sh does before."""
    hypothesis, reference = random_corpus(3)
    ours = str(score_lines(tmp_path, hypothesis, reference, protocol)).splitlines()[0]
    if protocol == "compounds":
        hypothesis, reference = (map(split_compounds, lines) for lines in (hypothesis, reference))
    files = write_lines(tmp_path / "sys", hypothesis), write_lines(tmp_path / "ref", reference)
    theirs = fairseq_score(*files, *["--ignore-case"] * (protocol == "tokenized-lowercase"))
    assert re.findall(r"[0-9.]+", ours) == theirs


@pytest.mark.slow
@pytest.mark.realdata
def test_fairseq_score_agrees_on_real_translations(fairseq_score):
    if not MOSES.exists():
        pytest.skip(f"no {MOSES}")
    files = MOSES / "hypothesis.middling.en", MOSES / "reference.en"
    ours = str(score(*files, protocol="tokenized")).splitlines()[0]
    assert re.findall(r"[0-9.]+", ours) == fairseq_score(*files)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_signature_names_every_setting(tmp_path, name):
    result = score_lines(tmp_path, ["a b c d e"], ["a b c d e"], name)
    assert protocols.settings_of(result.signature) == PROTOCOLS[name]
    assert protocols.name_of(PROTOCOLS[name]) == name
    assert ("|prep:" in result.signature) == ("detokenized" not in name)


def test_no_two_protocols_are_the_same():
    assert len(set(PROTOCOLS.values())) == len(PROTOCOLS)
    assert protocols.name_of(Protocol(tokenize="none")) is None
    assert {step for protocol in PROTOCOLS.values() for step in protocol.steps} == set(protocols.STEP_DESCRIPTIONS)


def test_further_texts_are_named_by_their_kind():
    def suffix(protocol, main):
        return protocols.text_suffix(PROTOCOLS[protocol], PROTOCOLS[main])

    assert suffix("detokenized-lowercase", "tokenized-lowercase") == ".detokenized"
    assert suffix("compounds", "detokenized") == ".tokenized"
    assert suffix("tokenized", "compounds") == suffix("detokenized", "detokenized-lowercase") == ""
