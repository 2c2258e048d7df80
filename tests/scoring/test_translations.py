"""From fairseq-generate's output to translations in order."""

import pytest

from fairseq_powernorm.scoring.translations import read_translations

OUTPUT = [
    "S-1\tein",
    "H-1\t-0.5\t▁a",
    "D-1\t-0.5\ta",
    "P-1\t-0.1",
    "D-0\t-0.2\tthe\tdog\n",
    "D-2\t-9\t",
    "Generate test",
]


def test_the_order_is_the_test_sets():
    assert read_translations(OUTPUT, 3) == ["the\tdog", "a", ""]


def test_only_the_best_of_several_is_taken():
    assert read_translations(["D-0\t-0.1\tbest", "D-0\t-0.2\tsecond"], 1) == ["best"]


@pytest.mark.parametrize(
    ("sentences", "message"), [(5, "the first one missing is number 3"), (2, "of 2 sentences, got 3")]
)
def test_missing_or_too_many(sentences, message):
    with pytest.raises(ValueError, match=message):
        read_translations(OUTPUT, sentences)
