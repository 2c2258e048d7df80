"""What could end a run later is found before it starts, by set and line."""

import math
import random

import pytest

from fairseq_powernorm.pipeline import inputs
from fairseq_powernorm.pipeline.configuration import compose_run


def recipe(tmp_path, name="demo_de_en", *overrides, **texts):
    """A recipe whose reference texts are these: ``raw``, ``tokenized``."""
    for key, text in texts.items():
        (tmp_path / key).mkdir(exist_ok=True)
        (tmp_path / key / "test.en").write_bytes(text.encode())
    places = [f"recipe.{key}='{tmp_path / key}'" for key in texts]
    return compose_run(name, overrides=[f"recipe.binarized='{tmp_path / 'bin'}'", *places, *overrides])


def test_data_that_is_not_there(tmp_path):
    config = recipe(tmp_path)
    with pytest.raises(
        ValueError, match=r"holds no dict.de.txt, the dictionary; prepare the data first: scripts/prepare_demo.sh"
    ):
        inputs.check_data(config)
    (tmp_path / "bin").mkdir()
    for language in ("de", "en"):
        (tmp_path / "bin" / f"dict.{language}.txt").touch()
    with pytest.raises(ValueError, match=r"bin holds no test.de-en.de.idx, which is test set test; prepare"):
        inputs.check_data(config)
    for language in ("de", "en"):
        (tmp_path / "bin" / f"test.de-en.{language}.idx").touch()
    inputs.check_data(config)
    inputs.check_data(recipe(tmp_path, "demo_de_en", "recipe.source=en", "recipe.target=de"))
    with pytest.raises(ValueError, match=r"test set 'a/test' is no name: its text is data/demo_de_en/raw/NAME.en"):
        inputs.check_data(recipe(tmp_path, "demo_de_en", "recipe.test_sets=[a/test]"))
    with pytest.raises(ValueError, match="the recipe has no test sets"):
        inputs.check_data(recipe(tmp_path, "demo_de_en", "recipe.test_sets=[]"))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("a cat\n\nb\n", "test set test, .*raw/test.en, line 2: empty; mend the text"),
        ("a cat\n \t\u3000\n", "line 2: empty"),
        ("a cat\na\rdog\n", "line 2: a carriage return within it"),
        ("\n", "line 1: empty"),
    ],
)
def test_a_reference_that_cannot_be_scored(tmp_path, raw, message):
    with pytest.raises(ValueError, match=message):
        inputs.check_references(recipe(tmp_path, raw=raw))


def test_references_that_can(tmp_path):
    inputs.check_references(recipe(tmp_path, raw="a cat\nand so on and on\r\n"))
    inputs.check_references(recipe(tmp_path, "iwslt14_de_en", raw="Cat.\n", tokenized="cat .\n"))
    with pytest.raises(ValueError, match=r"raw/test.en is not there, the reference of the recipe's test set test"):
        inputs.check_references(compose_run("demo_de_en", overrides=[f"recipe.raw='{tmp_path / 'raw'}x/raw'"]))
    with pytest.raises(ValueError, match=r"tokenized/test.en and .*raw/test.en differ in their number of lines"):
        inputs.check_references(recipe(tmp_path, "iwslt14_de_en", raw="Cat.\nDog.\n", tokenized="cat .\n"))


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ("score.protocol=tokenised", "protocol 'tokenised' is unknown; known are detokenized"),
        ("+score.further=[tokenized]", "protocol tokenized needs reference.tokenized.txt, which a recipe without"),
    ],
)
def test_a_protocol_that_a_recipe_cannot_be_scored_by(tmp_path, score, message):
    with pytest.raises(ValueError, match=message):
        inputs.check_references(recipe(tmp_path, "demo_de_en", score, raw="a cat\n"))


def fairseqs_checkpoints(train, updates_per_epoch, by, at_most=1000):
    """fairseq_cli.train.validate_and_save and checkpoint_utils.save_checkpoint, update by update."""
    kept = {"epoch": [], "update": []}
    for update in range(1, at_most + 1):
        epoch, end = math.ceil(update / updates_per_epoch), update % updates_per_epoch == 0
        if epoch > train.get("max-epoch", math.inf):
            break
        stop, interval = update >= train.get("max-update", math.inf), train.get("save-interval-updates", 0)
        due = interval > 0 and update % interval == 0
        save = (
            (end and epoch % train.get("save-interval", 1) == 0)
            or stop
            or (due and update >= train.get("validate-after-updates", 0))
        )
        if save and end and not train.get("no-epoch-checkpoints") and epoch % train.get("save-interval", 1) == 0:
            kept["epoch"] = [*kept["epoch"], epoch][-train.get("keep-last-epochs", 0) or None :]
        if save and not end and due:
            kept["update"] = [*kept["update"], update][-train.get("keep-interval-updates", 0) or None :]
        if stop:
            break
    return len(kept[by])


@pytest.mark.parametrize("by", ["epoch", "update"])
def test_as_many_checkpoints_are_promised_as_fairseq_writes(by):
    draw = random.Random(0)
    values = {
        **{"save-interval": [1, 1, 2, 3], "save-interval-updates": [0, 2, 3, 5, 10], "validate-after-updates": [0, 7]},
        **{"keep-last-epochs": [-1, 2, 4], "keep-interval-updates": [-1, 1, 3], "no-epoch-checkpoints": [False, True]},
    }
    for _ in range(500):
        train = {name: draw.choice(values[name]) for name in values}
        train |= draw.choice([{"max-update": draw.randint(1, 90)}, {"max-epoch": draw.randint(1, 12)}])
        shown = {name: value for name, value in train.items() if value not in (0, -1)}
        epoch = draw.randint(1, 25)
        assert inputs.checkpoints_left(shown, by, epoch) == fairseqs_checkpoints(shown, epoch, by), (shown, epoch)


def test_checkpoints_of_a_training_without_an_end():
    assert inputs.checkpoints_left({"patience": 5, "keep-last-epochs": 10}, "epoch", 7) == 10
    assert inputs.checkpoints_left({"patience": 5, "save-interval": 2}, "epoch") == math.inf
    assert inputs.checkpoints_left({"save-interval-updates": 9}, "update", 7) == math.inf
    assert inputs.checkpoints_left({"max-update": 9}, "update") == 0
    assert inputs.checkpoints_left({"no-save": True}, "epoch") == 0


@pytest.mark.parametrize("override", ["average.last=0", "average.last=many", "average.by=day"])
def test_an_average_of_nothing(override):
    with pytest.raises(ValueError, match=r"expected average.by = epoch or update and average.last > 0"):
        inputs.check_average(compose_run("multi30k_de_en", overrides=[override]))


def test_too_few_checkpoints_are_told_with_the_length_of_an_epoch():
    config = compose_run("smoke_de_en", overrides=["train.max-update=20", "average.last=2"])
    inputs.check_average(config)
    inputs.check_average(config, 7)
    with pytest.raises(ValueError, match=r"the training leaves 1 checkpoints by update .* an epoch has 4 updates"):
        inputs.check_average(config, 4)
