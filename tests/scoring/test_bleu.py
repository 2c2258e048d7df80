"""Scores against sacreBLEU's command line, against arithmetic by hand, and what is refused."""

import json
import logging
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from fairseq_powernorm.scoring.bleu import Score, main, paired_bootstrap, read_score, score
from fairseq_powernorm.scoring.protocols import split_compounds

REPOSITORY = Path(__file__).parents[2]
MOSES = REPOSITORY / ".." / "shared" / "data" / "moses"
WORDS = [*"aAbBcdefghij,.%", "3.5", "well-known", "Straße"]


def sacrebleu_command(reference, *options):
    """What sacreBLEU's own command prints as JSON."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SACREBLEU")}
    command = [sys.executable, "-m", "sacrebleu", str(reference), *map(str, options), "--format", "json"]
    completed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(completed.stdout)


def write_lines(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def corpus(folder, sentences=150):
    """A reference and two systems that get one word in ten, or one in six, wrong; one translation is empty."""
    generator = random.Random(7)
    reference = [[generator.choice(WORDS) for _ in range(generator.randint(3, 15))] for _ in range(sentences)]

    def worse(rate):
        return [[generator.choice(WORDS) if generator.random() < rate else word for word in line] for line in reference]

    systems = {"reference": reference, "good": worse(0.10), "poor": worse(0.13)}
    systems["good"][3] = []
    return {name: write_lines(folder / name, [" ".join(line) for line in lines]) for name, lines in systems.items()}


@pytest.mark.parametrize(
    ("lowercase", "tokenize", "options"),
    [(False, "13a", []), (True, "none", ["-lc", "--tokenize", "none", "--chrf-lowercase"])],
)
def test_score_agrees_with_the_sacrebleu_command(tmp_path, lowercase, tokenize, options):
    files = corpus(tmp_path)
    ours = score(files["good"], files["reference"], lowercase, tokenize)
    bleu, chrf = sacrebleu_command(
        files["reference"], "-i", files["good"], "-m", "bleu", "chrf", "--width", "8", *options
    )
    assert ours.bleu == pytest.approx(bleu["score"], abs=1e-8)
    assert ours.signature == bleu["signature"]
    assert str(ours).splitlines()[0].endswith(f"hyp_len = {ours.hypothesis_words} ref_len = {ours.reference_words})")
    assert bleu["verbose_score"] in str(ours)
    assert ours.chrf == pytest.approx(chrf["score"], abs=1e-8)
    assert ours.chrf_signature == chrf["signature"]
    assert ours.sentences == 150


@pytest.mark.parametrize(
    ("hypothesis", "precisions", "brevity_penalty"),
    [
        ("the cat sat on the mat", (5 / 6, 3 / 5, 2 / 4, 1 / 3), 1.0),  # the second "the" is clipped
        ("the cat sat on the", (4 / 5, 3 / 4, 2 / 3, 1 / 2), math.exp(1 - 6 / 5)),
    ],
)
def test_score_by_hand(tmp_path, hypothesis, precisions, brevity_penalty):
    result = score(
        write_lines(tmp_path / "hypothesis", [hypothesis]), write_lines(tmp_path / "r", ["the cat sat on a mat"])
    )
    assert result.precisions == pytest.approx([100 * precision for precision in precisions])
    assert result.brevity_penalty == pytest.approx(brevity_penalty)
    assert result.bleu == pytest.approx(100 * brevity_penalty * math.prod(precisions) ** 0.25)
    assert (result.hypothesis_words, result.reference_words) == (len(hypothesis.split()), 6)


def test_case_matters_unless_lowercase(tmp_path):
    upper = write_lines(tmp_path / "upper", ["THE CAT SAT ON A MAT"])
    lower = write_lines(tmp_path / "lower", ["the cat sat on a mat"])
    assert score(upper, lower).bleu == 0
    assert score(upper, lower, lowercase=True).bleu == pytest.approx(100)


def test_translations_of_no_words_score_zero(tmp_path):
    result = score(write_lines(tmp_path / "h", ["", ""]), write_lines(tmp_path / "r", ["one word", "two words"]))
    assert (result.bleu, result.hypothesis_words, result.sentences) == (0, 0, 2)


def test_other_line_separators_do_not_split_lines(tmp_path):
    lines = ["one\u2028two three four five", "six\x0cseven eight nine ten"]
    result = score(write_lines(tmp_path / "h", lines), write_lines(tmp_path / "r", lines))
    assert (result.sentences, result.bleu) == (2, pytest.approx(100))


@pytest.mark.parametrize(
    ("hypothesis", "reference", "message"),
    [
        (b"a\nb\n", b"a\n", "hypothesis has 2 lines.*reference has 1 lines"),
        (b"", b"", "no lines in .*hypothesis.*reference"),
        (b"a\n\xff\n", b"a\nb\n", "hypothesis, line 2: not valid UTF-8"),
        (b"a\nb\n", b"a\n \n", "reference, line 2: empty"),
    ],
)
def test_bad_files_are_named(tmp_path, hypothesis, reference, message):
    (tmp_path / "hypothesis").write_bytes(hypothesis)
    (tmp_path / "reference").write_bytes(reference)
    with pytest.raises(ValueError, match=message):
        score(tmp_path / "hypothesis", tmp_path / "reference")


def test_unknown_tokenizer_lists_the_known(tmp_path):
    with pytest.raises(ValueError, match="'moses' is unknown; known are 13a, none"):
        score(tmp_path / "h", tmp_path / "r", tokenize="moses")


def test_paired_bootstrap_agrees_with_the_sacrebleu_command(tmp_path):
    files = corpus(tmp_path)
    lines = {name: path.read_text(encoding="utf-8").splitlines() for name, path in files.items()}
    systems = {"good": lines["good"], "poor": lines["poor"]}
    signature = score(files["good"], files["reference"]).signature
    ours = paired_bootstrap(systems, lines["reference"], signature)
    baseline, other = sacrebleu_command(files["reference"], "-i", files["good"], files["poor"], "--paired-bs")
    assert 0.002 < other["BLEU"]["p_value"] < 0.5, "the comparison should be of a p-value that could come out wrong"
    assert ours["poor"].p_value == pytest.approx(other["BLEU"]["p_value"], abs=1e-12)
    assert ours["good"].p_value is None
    assert ours["good"].bleu == pytest.approx(baseline["BLEU"]["score"])
    assert ours["poor"].bleu == pytest.approx(other["BLEU"]["score"])
    assert ours == paired_bootstrap(systems, lines["reference"], signature)


def test_paired_bootstrap_compares_by_the_protocol_of_the_signature(tmp_path):
    """The p-value is that of the text with its compounds split, which is another than without."""
    files = corpus(tmp_path)
    lines = {name: path.read_text(encoding="utf-8").splitlines() for name, path in files.items()}
    signature = score(files["good"], files["reference"], protocol="compounds").signature
    systems = {"good": lines["good"], "poor": lines["poor"]}
    ours = paired_bootstrap(systems, lines["reference"], signature)
    split = {name: write_lines(tmp_path / f"{name}.split", map(split_compounds, lines[name])) for name in lines}
    p_values = []
    for texts in (split, files):
        options = ["-i", texts["good"], texts["poor"], "--paired-bs", "--tokenize", "none", "-s", "none", "--force"]
        _, other = sacrebleu_command(texts["reference"], *options)
        p_values.append(other["BLEU"]["p_value"])
    assert ours["poor"].p_value == pytest.approx(p_values[0], abs=1e-12)
    assert ours["poor"].bleu == pytest.approx(score(files["poor"], files["reference"], protocol="compounds").bleu)
    assert p_values[0] != p_values[1], "the comparison should be of a preparation that matters"


def test_equal_scores_do_not_differ_significantly():
    lines = ["one two three four five", "six seven eight nine ten"]
    results = paired_bootstrap({"layer": lines, "power": lines}, lines, "nrefs:1|case:mixed|tok:13a")
    assert results["power"].p_value == 1.0


@pytest.mark.parametrize("seed", ["none", "0", "-1", ""])
def test_a_seed_that_cannot_be_repeated_is_refused(monkeypatch, seed):
    monkeypatch.setenv("SACREBLEU_SEED", seed)
    with pytest.raises(ValueError, match="SACREBLEU_SEED"):
        paired_bootstrap({"a": ["a"], "b": ["b"]}, ["a"], "case:lc|tok:13a")


@pytest.mark.parametrize(
    "signature",
    ["", "case:upper|tok:13a", "case:lc", "case:lc|tok:spm", "case:lc|tok:13a|smooth:floor[0.10]", "case:lc|prep:x"],
)
def test_a_signature_that_cannot_be_repeated_is_refused(signature):
    with pytest.raises(ValueError, match=r"signature|tokenizer"):
        paired_bootstrap({"a": ["a"], "b": ["b"]}, ["a"], signature)


def test_command_prints_and_writes_what_score_returns(tmp_path, capsys):
    files = corpus(tmp_path, sentences=20)
    output = tmp_path / "new" / "score.json"
    main(["--hypothesis", str(files["good"]), "--reference", str(files["reference"]), "--output", str(output)])
    expected = score(files["good"], files["reference"])
    assert read_score(output) == expected
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"BLEU = {expected.bleu:.2f} ")
    assert lines[1] == expected.signature
    assert lines[2:] == [f"chrF2 = {expected.chrf:.2f}", expected.chrf_signature]
    assert [path.name for path in output.parent.iterdir()] == ["score.json"]


def test_command_replaces_only_with_force(tmp_path):
    files = corpus(tmp_path, sentences=20)
    output = tmp_path / "score.json"
    output.write_text("old")
    arguments = ["--hypothesis", str(files["good"]), "--reference", str(files["reference"]), "--output", str(output)]
    with pytest.raises(FileExistsError, match=r"score.json exists; give --force"):
        main(arguments)
    assert output.read_text() == "old"
    main([*arguments, "--force"])
    assert isinstance(read_score(output), Score)


def test_command_line_ends_with_one_line_for_bad_input(tmp_path):
    missing = tmp_path / "missing"
    command = [sys.executable, "-m", "fairseq_powernorm.scoring.bleu", "--hypothesis", missing, "--reference", missing]
    completed = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert completed.returncode == 1
    assert completed.stdout == ""
    assert "Traceback" not in completed.stderr
    assert "missing" in completed.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a score"),
        ("[]", "not a score"),
        ("{}", "no field 'precisions'"),
        ('{"precisions": [], "bleu": 1}', "not a score"),
    ],
)
def test_read_score_names_a_malformed_file(tmp_path, content, message):
    (tmp_path / "score.json").write_text(content)
    with pytest.raises(ValueError, match=f"score.json: .*{message}"):
        read_score(tmp_path / "score.json")


def test_read_score_refuses_a_bleu_that_is_no_number(tmp_path):
    files = corpus(tmp_path, sentences=5)
    output = tmp_path / "score.json"
    main(["--hypothesis", str(files["good"]), "--reference", str(files["reference"]), "--output", str(output)])
    record = json.loads(output.read_text())
    output.write_text(json.dumps({**record, "bleu": float("nan")}))
    with pytest.raises(ValueError, match="bleu is nan"):
        read_score(output)


def test_only_untokenised_text_is_scored_silently(tmp_path, caplog):
    lines = write_lines(tmp_path / "lines", ["a sentence ends here ."] * 100)
    with caplog.at_level(logging.WARNING):
        score(lines, lines, tokenize="none")
        assert not caplog.records
        score(lines, lines)
        assert "detokenize" in caplog.text


@pytest.mark.realdata
@pytest.mark.parametrize("system", ["close", "middling", "poor"])
@pytest.mark.parametrize("case", ["cased", "lower-cased"])
def test_real_translations_score_as_by_moses(system, case):
    """On tokenised text sacreBLEU without a tokenizer is multi-bleu.perl, up to the digits that this prints."""
    if not MOSES.exists():
        pytest.skip(f"no {MOSES}")
    hypothesis, reference = MOSES / f"hypothesis.{system}.en", MOSES / "reference.en"
    ours = score(hypothesis, reference, lowercase=case == "lower-cased", tokenize="none")
    precisions = "/".join(f"{precision:.1f}" for precision in ours.precisions)
    expected = f"{system} {case}: BLEU = {ours.bleu:.2f}, {precisions} (BP={ours.brevity_penalty:.3f}, "
    assert expected in (MOSES / "multi_bleu.txt").read_text(encoding="utf-8")
