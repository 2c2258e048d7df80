"""From the output of ``fairseq-generate`` to a file of translations in the order of the test set."""

from collections.abc import Iterable


def read_translations(lines: Iterable[str], sentences: int) -> list[str]:
    """The detokenised best translation of every sentence (the ``D-`` lines), in order.

    Args:
        lines: the output of ``fairseq-generate`` with ``--remove-bpe``, any order.
        sentences: how many sentences the test set has.

    Returns:
        One translation per sentence, possibly empty.

    Raises:
        ValueError: a sentence has no translation, or one is numbered beyond the test set.
    """
    found: dict[int, str] = {}
    for line in lines:
        if line.startswith("D-"):
            number, _, text = line.rstrip("\n").split("\t", 2)
            found.setdefault(int(number[2:]), text)
    missing = [number for number in range(sentences) if number not in found]
    if missing or len(found) > sentences:
        raise ValueError(
            f"expected translations of {sentences} sentences, got {len(found)}"
            + (f"; the first one missing is number {missing[0]}" if missing else "")
        )
    return [found[number] for number in range(sentences)]
