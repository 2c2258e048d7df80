"""The generated pairs and their files."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fairseq_powernorm.corpora.demo import corpus, words
from fairseq_powernorm.corpora.demo.corpus import generate_pairs, write_corpus

ROOT = Path(corpus.__file__).parents[3]
SPLITS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def pairs():
    return generate_pairs(20000, seed=1)


def test_pairs_are_distinct_and_look_like_raw_text(pairs):
    assert len(pairs) == len({german for german, _ in pairs}) == 20000
    for german, english in pairs:
        assert len(german.split()) >= 4
        for text in (german, english):
            assert text[0].isupper() and re.fullmatch(r"[^.?]+[.?]", text) and text == " ".join(text.split())
        assert (german[-1] == "?") == (english[-1] == "?")


def test_english_is_a_function_of_german(pairs):
    translations = dict(pairs)
    again = generate_pairs(20000, seed=2)
    common = [german for german, _ in again if german in translations]
    assert len(common) > 50
    assert all(translations[german] == english for german, english in again if german in translations)


def test_every_word_and_form_occurs(pairs):
    german, english = (" ".join(side).split() for side in zip(*pairs, strict=True))
    german, english = ({word.strip(".,?") for word in side} for side in (german, english))
    for noun in (*words.GOODS, *words.BUILDINGS, *words.PEOPLE):
        assert {noun.german, noun.german_plural} <= german and {noun.english, noun.english_plural} <= english
    for verb in (*words.TRADE, *words.MEETING, *words.HOURS, words.LEAVE, words.ARRIVE, words.COST, words.TURN):
        assert verb.participle in german and verb.english_past.split()[0] in english
    assert {"halb", "Viertel", "dreiundzwanzig", "Euro", "dritten", "dass", "im", "einen"} <= german


def test_articles_go_with_their_nouns(pairs):
    """No article stands before a noun, with or without an adjective between, that it does not fit in any case."""
    fitting = {
        "masculine": {"der", "den", "dem", "ein", "einen", "im"},
        "feminine": {"die", "der", "eine"},
        "neuter": {"das", "dem", "ein", "im"},
        "plural": {"die"},
    }
    genders = {}
    for noun in (*words.GOODS, *words.BUILDINGS, *words.PEOPLE):
        genders.setdefault(noun.german, set()).add(noun.gender)
        genders.setdefault(noun.german_plural, set()).add("plural")
    pattern = re.compile(r"\b((?i:der|die|das|den|dem|ein|eine|einen|im)) (?:[a-zß-ü]+e[nrs]? )?([A-ZÄÖÜ]\w+)")
    seen = 0
    for german, _ in pairs:
        for article, noun in pattern.findall(german):
            if noun in genders:
                assert any(article.lower() in fitting[gender] for gender in genders[noun]), german
                seen += 1
    assert seen > 10000


def test_one_thing_has_no_plural_in_english(pairs):
    for _, english in pairs:
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|\b(a|an) (\w+ )?(tables|lamps|books|knives)\b", english), (
            english
        )


def test_the_verb_of_a_subordinate_clause_is_last(pairs):
    finite = {"hat", "haben", "ist", "sind", "wird", "werden", "kann", "können", "muss", "müssen"}
    for verb in (*words.TRADE, *words.MEETING, *words.HOURS, words.LEAVE, words.ARRIVE, words.COST):
        third, _, prefix = verb.singular.partition(" ")
        finite |= {prefix + third, verb.infinitive}
    sentences = [german for german, _ in pairs if ", dass " in german]
    assert len(sentences) > 2000
    assert all(german.rstrip(".").rsplit(" ", 1)[1] in finite for german in sentences)


def test_same_seed_same_pairs_whatever_the_hash_seed():
    code = (
        "from fairseq_powernorm.corpora.demo.corpus import generate_pairs; import hashlib; "
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
    assert generate_pairs(300, 7)[:100] == generate_pairs(100, 7)


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


@pytest.mark.parametrize("split", SPLITS)
def test_an_error_changes_nothing(tmp_path, monkeypatch, split):
    sizes = {"train": 5, "valid": 5, "test": 5}
    with pytest.raises(ValueError, match=f"{split} is 0 pairs; it must be at least 1"):
        write_corpus(tmp_path, **{**sizes, split: 0}, seed=1)
    monkeypatch.setattr(corpus, "generate_pairs", lambda count, seed: generate_pairs(count - 1, seed))
    with pytest.raises(StopIteration):  # a failure between the files
        write_corpus(tmp_path, **sizes, seed=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [0, -1])
def test_count_below_one(count):
    with pytest.raises(ValueError, match=f"count is {count}"):
        generate_pairs(count, seed=1)


def test_command_line(tmp_path):
    command = [sys.executable, "-m", "fairseq_powernorm.corpora.demo.corpus", "--destination", str(tmp_path)]
    command += ["--train", "20", "--valid", "5", "--test", "5"]

    def run(*more):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run([*command, *more], cwd=ROOT, env=environment, capture_output=True, text=True)

    first = run()
    assert first.returncode == 0 and "wrote 20 sentence pairs" in first.stderr and first.stdout == ""
    second = run()
    assert second.returncode == 1 and "--force" in second.stderr and "Traceback" not in second.stderr
    assert run("--force").returncode == 0
    bad = run("--force", "--valid", "0")
    assert bad.returncode == 1 and "valid is 0 pairs" in bad.stderr and "Traceback" not in bad.stderr
    assert run("--train", "many").returncode == 2
    assert "--destination" in run("--help").stdout
