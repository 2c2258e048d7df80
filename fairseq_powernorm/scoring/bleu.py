"""BLEU, chrF and the paired bootstrap, all by sacreBLEU (Post 2018, "A Call for Clarity in Reporting BLEU Scores").

    python -m fairseq_powernorm.scoring.bleu --hypothesis H.txt --reference R.txt --protocol NAME --output score.json

What is ours here: what the protocols do to the text before (``protocols``), checks of the input, a record that goes to
disk whole, and the rule for equal scores in :func:`paired_bootstrap`.
"""

import argparse
import json
import logging
import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import sacrebleu
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.bleu import BLEUScore
from sacrebleu.significance import PairedTest, Result

from ..files import atomic_write, read_parallel_lines, refuse_to_overwrite, run_command_line
from .protocols import PROTOCOLS, Protocol, name_of, protocol_named, settings_of, sign

logger = logging.getLogger(__name__)

TOKENIZERS = ("13a", "none", "intl", "char", "zh")  # sacreBLEU's, less those that need a download or a dictionary
BOOTSTRAP_RESAMPLES = 1000


@dataclass(frozen=True)
class Score:
    """How close a file of translations is to its reference.

    Attributes:
        bleu: corpus BLEU, 0 to 100.
        precisions: of the 1-, 2-, 3- and 4-grams, in percent.
        brevity_penalty: 1 if the translations are as long as the reference or longer, else exp(1 - reference / ours).
        hypothesis_words: tokens in the translations, as sacreBLEU's tokenizer counts them.
        reference_words: tokens in the reference.
        sentences: number of lines.
        signature: sacreBLEU's, names every setting of ``bleu``; behind it, as ``prep:``, what was done to the text.
        chrf: chrF2, 0 to 100; None for the protocols of tokenised text: chrF is defined on text as people read it.
        chrf_signature: sacreBLEU's, names every setting of ``chrf``; None without chrF.
        protocol: the name of ``PROTOCOLS``; None for settings that no protocol has.
    """

    bleu: float
    precisions: tuple[float, float, float, float]
    brevity_penalty: float
    hypothesis_words: int
    reference_words: int
    sentences: int
    signature: str
    chrf: float | None
    chrf_signature: str | None
    protocol: str | None = None

    @property
    def settings(self) -> Protocol:
        """What the signature says; raises ``ValueError`` if that is unknown."""
        return settings_of(self.signature)

    def __str__(self) -> str:
        """Two lines for BLEU and, where there is one, two for chrF: the numbers, then the signature.

        BLEU is worded as by the protocol's own program: sacreBLEU, or multi-bleu.perl.
        """
        precisions = "/".join(f"{precision:.1f}" for precision in self.precisions)
        ratio = self.hypothesis_words / self.reference_words if self.reference_words else 0.0
        if self.settings.steps:
            line = (
                f"BLEU = {self.bleu:.2f}, {precisions} (BP={self.brevity_penalty:.3f}, ratio={ratio:.3f}, "
                f"hyp_len={self.hypothesis_words}, ref_len={self.reference_words})"
            )
        else:
            line = (
                f"BLEU = {self.bleu:.2f} {precisions} (BP = {self.brevity_penalty:.3f} ratio = {ratio:.3f} "
                f"hyp_len = {self.hypothesis_words} ref_len = {self.reference_words})"
            )
        chrf = "" if self.chrf is None else f"\nchrF2 = {self.chrf:.2f}\n{self.chrf_signature}"
        return f"{line}\n{self.signature}{chrf}"


@dataclass(frozen=True)
class PairedResult:
    """A system's BLEU and, unless it is the baseline, the p-value of its difference to the baseline."""

    bleu: float
    p_value: float | None


def score(
    hypothesis_path: str | Path,
    reference_path: str | Path,
    lowercase: bool = False,
    tokenize: str | None = None,
    protocol: str | None = None,
) -> Score:
    """Scores translations, one sentence a line, against one reference.

    Args:
        hypothesis_path: the translations. An empty line is a translation of no words.
        reference_path: the reference, line by line.
        lowercase: ignore case, in BLEU and chrF. Instead of a protocol.
        tokenize: sacreBLEU's tokenizer, one of ``TOKENIZERS``, by default ``"13a"``; ``"none"`` is for text that is
            tokenised already. Instead of a protocol.
        protocol: a name of ``PROTOCOLS``; by default the settings are those of ``lowercase`` and ``tokenize``, which
            without them are the protocol ``"detokenized"``.

    Raises:
        ValueError: an unknown protocol or tokenizer, or both given; files of different length, without lines or not
            UTF-8; an empty line in the reference.
    """
    if protocol is not None and (lowercase or tokenize is not None):
        given = [f"tokenizer {tokenize}"] * (tokenize is not None) + ["lowercase"] * lowercase
        raise ValueError(f"protocol {protocol} and {' and '.join(given)} are given; a protocol says both, give one")
    settings = Protocol(lowercase, tokenize or "13a") if protocol is None else protocol_named(protocol)
    bleu = _bleu(settings)
    hypothesis, reference = read_parallel_lines(hypothesis_path, reference_path)
    for number, line in enumerate(reference, start=1):
        if not line.strip():
            raise ValueError(f"{reference_path}, line {number}: empty; a reference needs words in every line")
    bleu_score = bleu.corpus_score(settings.prepare(hypothesis), [settings.prepare(reference)])
    precisions = bleu_score.precisions
    if settings.smoothing == "none":  # in Perl's order of operations, for the same digit where .05 has to be rounded
        counts = zip(bleu_score.counts, bleu_score.totals, strict=True)
        precisions = [100 * (correct / total) if total else 0.0 for correct, total in counts]
    chrf = chrf_score = None
    if not settings.steps:
        chrf = CHRF(lowercase=settings.lowercase)
        chrf_score = chrf.corpus_score(hypothesis, [reference])
    return Score(
        bleu=bleu_score.score,
        precisions=tuple(precisions),
        brevity_penalty=bleu_score.bp,
        hypothesis_words=bleu_score.sys_len,
        reference_words=bleu_score.ref_len,
        sentences=len(hypothesis),
        signature=sign(str(bleu.get_signature()), settings.steps),
        chrf=None if chrf_score is None else chrf_score.score,
        chrf_signature=None if chrf is None else str(chrf.get_signature()),
        protocol=name_of(settings),
    )


def score_lines(hypothesis: Sequence[str], reference: Sequence[str], settings: Protocol) -> BLEUScore:
    """sacreBLEU's score of lines by a protocol, or by what a signature says."""
    return _bleu(settings).corpus_score(settings.prepare(hypothesis), [settings.prepare(reference)])


def sentence_chrf(hypothesis: Sequence[str], reference: Sequence[str]) -> list[float]:
    """chrF2 of every sentence by itself, 0 to 100; of use to compare sentences, not systems."""
    metric = CHRF()
    pairs = zip(hypothesis, reference, strict=True)
    return [metric.sentence_score(line, [sentence]).score for line, sentence in pairs]


def read_score(path: str | Path) -> Score:
    """The ``Score`` that this module's command wrote to ``path``.

    A file from before there were protocols has the one that its signature describes, or None.

    Raises:
        ValueError: not JSON, a field is missing, BLEU is not a finite number, or the protocol is unknown or not the
            signature's; the message names the file.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        loaded = Score(**{**record, "precisions": tuple(record["precisions"])})
    except KeyError as error:
        raise ValueError(f"{path}: has no field {error}") from None
    except (TypeError, ValueError) as error:  # JSON and UTF-8 errors are ValueErrors
        raise ValueError(f"{path}: not a score written by fairseq_powernorm.scoring.bleu ({error})") from None
    for name, value in (("bleu", loaded.bleu), ("chrf", loaded.chrf)):
        if (value is not None or name == "bleu") and not (isinstance(value, int | float) and math.isfinite(value)):
            raise ValueError(f"{path}: {name} is {value!r}, expected a finite number")
    if not isinstance(loaded.signature, str):
        raise ValueError(f"{path}: signature is {loaded.signature!r}, expected sacreBLEU's signature")
    try:
        described = name_of(loaded.settings)
        if loaded.protocol is not None and protocol_named(loaded.protocol) != loaded.settings:
            raise ValueError(f"protocol is {loaded.protocol!r}, but the signature {loaded.signature!r} is of another")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return replace(loaded, protocol=described)


def bootstrap_seed() -> int:
    """The seed of the paired bootstrap: ``SACREBLEU_SEED`` or sacreBLEU's default, 12345.

    Raises:
        ValueError: ``SACREBLEU_SEED`` is not a positive integer; sacreBLEU takes ``none`` and 0 for "a new one each
            time", and p-values in a table must come out the same again.
    """
    seed = os.environ.get("SACREBLEU_SEED", "12345")
    if not seed.isdecimal() or int(seed) == 0:
        raise ValueError(f"SACREBLEU_SEED is {seed!r}; p-values are repeatable with a positive integer only")
    return int(seed)


def paired_bootstrap(
    systems: Mapping[str, Sequence[str]], reference: Sequence[str], signature: str
) -> dict[str, PairedResult]:
    """The paired bootstrap (Koehn 2004), by sacreBLEU, of every system against the first one, with BLEU.

    Where a system's BLEU equals the baseline's to the two digits that tables show, the p-value is 1: from translations
    that are identical, or nearly so, sacreBLEU makes one of the smallest p-values it has, which would read as a
    significant difference of zero.

    Args:
        systems: the lines of each system by its name; the first is the baseline.
        reference: the reference's lines.
        signature: of the scores that are compared; its settings are used again, and what it says was done to the text
            is done again.

    Raises:
        ValueError: a signature without known settings, or a seed that is not repeatable.
    """
    bootstrap_seed()
    settings = settings_of(signature)
    test = PairedTest(
        [(name, settings.prepare(lines)) for name, lines in systems.items()],
        {"BLEU": _bleu(settings, warn=False)},
        [settings.prepare(reference)],
        test_type="bs",
        n_samples=BOOTSTRAP_RESAMPLES,
    )
    _, results = test()  # sacrebleu annotates it as text
    names, bleu = cast(list[str], results["System"]), cast(list[Result], results["BLEU"])
    return {
        name: PairedResult(
            result.score, 1.0 if result.p_value and f"{result.score - bleu[0].score:z.2f}" == "0.00" else result.p_value
        )
        for name, result in zip(names, bleu, strict=True)
    }


def _bleu(settings: Protocol, warn: bool = True) -> BLEU:
    """The metric; ``warn`` lets it complain of text that looks tokenised unless that is on purpose."""
    if settings.tokenize not in TOKENIZERS:
        raise ValueError(f"tokenizer {settings.tokenize!r} is unknown; known are {', '.join(TOKENIZERS)}")
    return BLEU(
        lowercase=settings.lowercase,
        tokenize=settings.tokenize,
        smooth_method=settings.smoothing,
        force=not warn or settings.text == "tokenized",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Scores one file and prints the result; see ``--help``."""
    parser = argparse.ArgumentParser(description="BLEU and chrF of translations, with signatures.")
    parser.add_argument("--hypothesis", required=True, type=Path, help="translations, one sentence a line")
    parser.add_argument("--reference", required=True, type=Path, help="reference, one sentence a line")
    parser.add_argument(
        "--protocol", metavar="NAME", help=f"one of: {', '.join(PROTOCOLS)} (default: detokenized); says all settings"
    )
    parser.add_argument("--lowercase", action="store_true", help="ignore case; not beside --protocol")
    parser.add_argument(
        "--tokenize", choices=TOKENIZERS, help="sacreBLEU's tokenizer (default: 13a); not beside --protocol"
    )
    parser.add_argument("--output", type=Path, help="also write the score here, as JSON")
    parser.add_argument("--force", action="store_true", help="replace --output if it exists")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    given = sys.argv[1:] if arguments is None else arguments
    logger.info("sacreBLEU %s, arguments: %s", sacrebleu.__version__, shlex.join(given))
    if options.output is not None:
        refuse_to_overwrite(options.output, options.force)
    result = score(options.hypothesis, options.reference, options.lowercase, options.tokenize, options.protocol)
    if options.output is not None:
        with atomic_write(options.output) as stream:
            json.dump(asdict(result), stream, indent=2)
            stream.write("\n")
    sys.stdout.write(f"{result}\n")


if __name__ == "__main__":
    run_command_line(main)
