"""Time and memory of the WMT14 preparation on a generated corpus of its size.

    python benchmarks/bench_preparation.py --pairs 4500000 --folder /tmp/bench_preparation --output results/preparation

The text is generated (nothing of WMT14 is needed) to be as hard as the real one: sentences of about 25 words a side,
1 million English and 2 million German word forms drawn by Zipf's law, capitals, numbers, quotes, hyphens,
abbreviations. The stages are those of scripts/prepare_wmt14_en_de.sh behind the download, each in a process of its own;
memory is the sum of the proportional set sizes of all processes of a stage, looked at every second.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy
from interleaved import add_output_options, check_numbers, check_output, finish, surroundings
from tqdm import tqdm

from fairseq_powernorm.corpora.wmt14 import LANGUAGES, TRAINING_TEXT
from fairseq_powernorm.files import atomic_write, bytes_below, run_command_line

ROOT = Path(__file__).resolve().parent.parent
WORD_FORMS = {"en": 1_000_000, "de": 2_000_000}
CONSONANTS = ["b", "ch", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "sch", "t", "w", "z", "st", "v", "j"]
SYLLABLES = [consonant + vowel for consonant in CONSONANTS for vowel in "aeiou"]
SYLLABLES = {"en": SYLLABLES, "de": [syllable.replace("u", "ü") for syllable in SYLLABLES]}
EXTRAS = ["1.990", "z. B.", "„so“", '"so"', "Dr.", "e.g.", "x-y-z", "(und)", "3,5 %", "it's", "und/oder", "–"]
SHARES = (0.43, 0.51, 0.06)  # of the three corpora among the pairs
BLOCK = 20_000


def word(number: int, language: str) -> str:
    """The word form of a rank: common ones are short; German ones are capitalised as often as nouns are."""
    syllables, text, rest = SYLLABLES[language], "", number
    while True:
        text += syllables[rest % len(syllables)]
        rest = rest // len(syllables) - 1
        if rest < 0:
            break
    return text.capitalize() if language == "de" and number % 3 == 0 else text


def generate(folder: Path, pairs: int) -> None:
    """Writes the three corpora where the archives would put them, and a small validation and test set."""
    generator = numpy.random.default_rng(14)
    words = {language: [word(number, language) for number in range(WORD_FORMS[language])] for language in LANGUAGES}
    cumulative = {language: zipf(WORD_FORMS[language]) for language in LANGUAGES}
    for pattern, share in zip(TRAINING_TEXT.values(), SHARES, strict=True):
        for language in LANGUAGES:
            path = folder / "original" / pattern.format(language=language)
            with atomic_write(path) as stream, tqdm(total=round(share * pairs), desc=path.name) as progress:
                while progress.n < progress.total:
                    count = min(BLOCK, progress.total - progress.n)
                    stream.writelines(sentences(generator, count, cumulative[language], words[language]))
                    progress.update(count)
    for split in ("valid", "test"):
        for language in LANGUAGES:
            with atomic_write(folder / "tokenized" / f"{split}.{language}") as stream:
                stream.writelines(sentences(generator, 3000, cumulative[language], words[language]))


def zipf(forms: int) -> numpy.ndarray:
    """The cumulative probabilities of word forms by rank (Zipf's law in Mandelbrot's form)."""
    weights = 1 / (numpy.arange(forms) + 2.7) ** 1.05
    return numpy.cumsum(weights / weights.sum())


def sentences(generator: numpy.random.Generator, count: int, cumulative: numpy.ndarray, words: list[str]) -> list[str]:
    """Lines of text."""
    lengths = numpy.clip(generator.lognormal(3.05, 0.6, count), 1, 140).astype(int)
    ranks = numpy.searchsorted(cumulative, generator.random(lengths.sum()))
    extras = generator.integers(0, 6 * len(EXTRAS), count)
    lines, start = [], 0
    for length, extra in zip(lengths.tolist(), extras.tolist(), strict=True):
        chosen = [words[rank] for rank in ranks[start : start + length].tolist()]
        if extra < len(EXTRAS):
            chosen.insert(length // 2, EXTRAS[extra])
        comma = ", " if length > 12 else " "
        middle = length // 3
        lines.append(" ".join(chosen[:middle]) + comma + " ".join(chosen[middle:]) + ".\n")
        start += length
    return lines


def memory_of_group(group: int) -> int:
    """Bytes in use by all processes of a session: the sum of their proportional set sizes."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == group:
                rollup = (folder / "smaps_rollup").read_text(encoding="ascii")
                total += 1024 * int(rollup.split("Pss:")[1].split()[0])
        except (OSError, IndexError):  # it ended meanwhile
            continue
    return total


def measure(name: str, command: list[str], pairs: int) -> dict:
    """Runs a stage and returns what it took."""
    sys.stderr.write(f"{name}: {' '.join(command)}\n")
    started, peak = time.monotonic(), 0
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    while process.poll() is None:
        peak = max(peak, memory_of_group(process.pid))
        time.sleep(1)
    if process.returncode:
        raise SystemExit(f"{name} failed with status {process.returncode}")
    seconds = time.monotonic() - started
    cores = len(os.sched_getaffinity(0))
    return {
        "stage": name,
        "seconds": round(seconds),
        "pairs_per_second": round(pairs / seconds),
        "pairs_per_second_and_core": round(pairs / seconds / cores),
        "peak_memory_gb": round(peak / 1e9, 2),
    }


def benchmark(options: argparse.Namespace) -> None:
    """Generates the text if it is not there, runs the stages, and writes OUTPUT.csv and OUTPUT.json."""
    check_numbers(options)
    check_output(options)
    folder = options.folder.absolute()
    if not (folder / "tokenized" / "test.de").exists():
        generate(folder, options.pairs)
    python = sys.executable
    tokenize = "import sys, pathlib; from fairseq_powernorm.corpora.wmt14 import write_training_text as write; "
    tokenize += "folder = pathlib.Path(sys.argv[1]); write(folder / 'original', folder / 'tokenized')"
    bpe = [python, "-m", "fairseq_powernorm.corpora.subword_bpe", "--text", f"{folder}/tokenized"]
    bpe += ["--destination", f"{folder}/bpe", "--languages", "en,de", "--merges", str(options.merges)]
    binarize = [python, "-m", "fairseq_powernorm.corpora.binarize", "--text", f"{folder}/bpe", "--languages", "en,de"]
    binarize += ["--destination", f"{folder}/bin", "--log", f"{folder}/preprocess.log"]
    stages = {
        "normalise, tokenise, clean": [python, "-c", tokenize, str(folder)],
        "learn the merges": [*bpe, "--splits", "train", "--learn-only"],
        "split into subwords": [*bpe, "--splits", "train", "valid", "test"],
        "binarise": binarize,
    }
    rows = [measure(name, command, options.pairs) for name, command in stages.items()]
    totals = {
        "seconds": sum(row["seconds"] for row in rows),
        "peak_memory_gb": max(row["peak_memory_gb"] for row in rows),
        "disk_gb_without_archives": round(bytes_below(folder) / 1e9, 2),
    }
    finish(options, {**totals, **surroundings(options)}, rows)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=4_500_000)
    parser.add_argument("--merges", type=int, default=32_764)
    parser.add_argument("--folder", type=Path, required=True, help="for the text, 6 GB at full size")
    add_output_options(parser, required=True)
    options = parser.parse_args()
    run_command_line(lambda: benchmark(options))


if __name__ == "__main__":
    main()
