"""fairseq's own view of a run's data: what it would end a run by, before it starts."""

import re
import shutil

import pytest
from fairseq.data import Dictionary, indexed_dataset

from fairseq_powernorm.pipeline import fairseq_data, inputs
from fairseq_powernorm.pipeline.configuration import compose_run


@pytest.fixture
def data(corpus, tmp_path):
    """A copy of the corpus that may be spoilt, in a folder with a space in its name."""
    shutil.copytree(corpus, tmp_path / "the data")
    return tmp_path / "the data"


def config_of(data, *overrides):
    places = [f"recipe.raw='{data / 'raw'}'", f"recipe.binarized='{data / 'bin'}'"]
    return compose_run("smoke_de_en", overrides=[*places, *overrides])


def ask(data, *overrides):
    return fairseq_data.answer(inputs.question_of(config_of(data, *overrides), data / "run"))


def rewrite(data, name, change):
    """Binarizes a file of pieces again, its lines changed."""
    split, language = name.split(".")
    lines = change((data / "bpe" / name).read_text(encoding="utf-8").splitlines())
    dictionary = Dictionary.load(str(data / "bin" / f"dict.{language}.txt"))
    prefix = str(data / "bin" / f"{split}.de-en.{language}")
    builder = indexed_dataset.make_builder(f"{prefix}.bin", impl="mmap", vocab_size=len(dictionary))
    for line in lines:
        builder.add_item(dictionary.encode_line(line, add_if_not_exist=False))
    builder.finalize(f"{prefix}.idx")


def longer(lines):
    return [*lines[:2], " ".join([lines[2]] * 300), *lines[3:]]


@pytest.mark.slow
def test_an_epoch_has_as_many_updates_as_fairseq_makes(data, commands):
    updates = ask(data)
    overrides = ["--max-epoch", "1", "--no-save", "--disable-validation"]
    flags = inputs.question_of(config_of(data), data / "run")["train"]
    done = commands.fairseq("train", *flags, *overrides)
    assert done.returncode == 0, done.stderr
    (last,) = re.findall(r'\| train \| .*"train_num_updates": "(\d+)"', done.stderr + done.stdout)
    assert int(last) == updates


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("test.de", [], r"test set test, line 3 of the source: \d+ subwords .*, --max-source-positions is 1024"),
        ("test.en", [], r"test set test, line 3 of the target: \d+ subwords .*, --max-target-positions is 1024"),
        ("test.de", ["generate.max-tokens=99"], "line 3 of the source: .*, --max-tokens is 99"),
        ("test.de", ["++train.max-source-positions=33"], "--max-source-positions is 33"),
        ("valid.en", ["train.disable-validation=false"], "validation set valid, line 3 of the target: .* --max-tokens"),
    ],
)
def test_a_sentence_that_is_too_long(data, name, overrides, message):
    rewrite(data, name, longer)
    with pytest.raises(ValueError, match=message):
        ask(data, *overrides)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-1], "test set test: source and target have different numbers of lines"),
        (lambda lines: [*lines, "▁a"], "test set test: source and target have different numbers of lines"),
    ],
)
def test_sides_of_different_length(data, change, message):
    rewrite(data, "test.en", change)
    with pytest.raises(ValueError, match=message):
        ask(data)


def test_a_reference_of_another_length(data):
    with open(data / "raw" / "test.en", "a", encoding="utf-8") as stream:
        stream.write("one more\n")
    with pytest.raises(ValueError, match=r"test set test: 40 sentences in .*, 41 lines of reference; prepare the data"):
        ask(data)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("++train.no-such-flag=1", "unrecognized arguments: --no-such-flag 1"),
        ("++generate.no-such-flag=1", "unrecognized arguments: --no-such-flag 1"),
        ("generate.beam=many", "argument --beam: invalid int value: 'many'"),
    ],
)
def test_a_flag_that_fairseq_does_not_take_is_one_line(data, override, message, capsys):
    with pytest.raises(SystemExit):
        ask(data, override)
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_the_question_is_asked_in_a_process_of_its_own(data):
    assert inputs.ask_fairseq(config_of(data), data / "run") == ask(data)
    with pytest.raises(ValueError, match=r"^unrecognized arguments: --no-such-flag 1$"):
        inputs.ask_fairseq(config_of(data, "++generate.no-such-flag=1"), data / "run")
