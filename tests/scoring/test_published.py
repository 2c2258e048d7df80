"""Published figures: what the options mean, and what is refused."""

from decimal import Decimal

import pytest

from fairseq_powernorm.scoring.published import choose_published


def test_figures_repeated_and_with_commas():
    published = choose_published(["layer=35.5,batch=34.4", "power=35.90"], " Table 1 ", None, ["test"])
    assert (published.test_set, published.source) == ("test", "Table 1")
    assert published.bleu == {"layer": Decimal("35.5"), "batch": Decimal("34.4"), "power": Decimal("35.9")}
    assert str(published.bleu["power"]) == "35.90"


def test_differences_are_of_published_figures_only():
    published = choose_published(["layer=35.5,batch=34.4,power=35.9"], "Table 1", "test", ["test", "valid"])
    assert str(published.difference("power", "layer")) == "0.4"  # binary fractions would make it 0.3999…
    assert str(published.difference("batch", "layer")) == "-1.1"
    assert published.difference("layer", "layer") is None
    assert published.difference("rms", "layer") is None
    assert published.difference("power", "rms") is None


def test_notes_are_of_published_figures():
    published = choose_published(["ds=34.4"], "s", None, ["test"], ["ds=a = b"])
    assert published.notes == {"ds": "a = b"}
    for notes, message in ((["fixup=x"], "note 'fixup'"), (["ds"], "note 'ds': expected NORM=TEXT .* figure: ds")):
        with pytest.raises(ValueError, match=message):
            choose_published(["ds=34.4"], "s", None, ["test"], notes)
    with pytest.raises(ValueError, match="no figure; give --published"):
        choose_published([], None, None, ["test"], ["ds=x"])


def test_without_figures_there_is_nothing():
    assert choose_published([], None, None, ["test", "valid"]) is None


@pytest.mark.parametrize(
    ("figures", "source", "test_set", "test_sets", "message"),
    [
        (["power"], "s", None, ["test"], "published figure 'power'; expected NORM=BLEU"),
        (["=3"], "s", None, ["test"], "published figure '=3'"),
        (["power=35.9,"], "s", None, ["test"], "published figure ''"),
        (["power=thirty"], "s", None, ["test"], "published BLEU of power is 'thirty', expected a number from 0 to 100"),
        (["power=nan"], "s", None, ["test"], "is 'nan', expected"),
        (["power=-1"], "s", None, ["test"], "is '-1', expected"),
        (["power=359"], "s", None, ["test"], "is '359', expected"),
        (["power=1", "power=2"], "s", None, ["test"], "published figures of power are 1 and 2; one is allowed"),
        (["power=1"], None, None, ["test"], "need a source; give --published-source"),
        (["power=1"], " ", None, ["test"], "need a source"),
        (["power=1"], "s", None, ["a", "b"], "one test set; give --published-test-set: a, b"),
        (["power=1"], "s", "c", ["a", "b"], "of 'c', not a test set here; there are: a, b"),
        ([], "s", None, ["test"], "no figure; give --published"),
        ([], None, "test", ["test"], "no figure; give --published"),
    ],
)
def test_what_is_refused(figures, source, test_set, test_sets, message):
    with pytest.raises(ValueError, match=message):
        choose_published(figures, source, test_set, test_sets)


def test_a_perplexity_may_be_above_100():
    assert choose_published(["layer=105.3"], "s", None, ["test"], kind="perplexity").bleu == {"layer": Decimal("105.3")}
