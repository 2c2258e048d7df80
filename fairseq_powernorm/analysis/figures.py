"""Draws the PowerNorm paper's figures from a recipe's runs, those that there are runs for.

    python -m fairseq_powernorm.analysis.figures --runs runs/multi30k_de_en --images runs/cifar10 --output-prefix mine

Figures 2, 3 and 4 need records of norms (a recipe's ``record=true``; ``scripts/train_cifar10.sh`` writes them by
itself), for each recorded norm one of each; figure 5 the table of ``scripts/batch_size_study.sh``; figure 6 averaged
checkpoints of LayerNorm and PowerNorm; ``smoothness`` and ``bound`` the tables that ``scripts/smoothness_study.sh``
writes into IMAGES/smoothness. ``scripts/figures.sh`` is short for it.
"""

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..checkpoints.io import load_checkpoint
from ..files import run_command_line
from ..scoring.rows import rank
from . import paper_figures, theory_figures
from .bar_chart import norm_of
from .outputs import check_outputs, read_table, write_outputs
from .paper_figures import SIZES_OF_THE_PAPER, Drawing
from .recorded_runs import JUMPS, RECORD, RecordedRun, jumps, read_run

logger = logging.getLogger(__name__)

OF_RECORDS: dict[str, Callable[[Sequence[RecordedRun]], Drawing]] = {
    "2": paper_figures.figure2,
    "3": paper_figures.figure3,
    "4": paper_figures.figure4,
}
NAMES = (*OF_RECORDS, "5", "6", "smoothness", "bound")
"""By their numbers in the paper; those without are Lemma 2 and Theorem 4 by experiment."""
SPECTRA = ("layer", "power")
EMBEDDING = "encoder.embed_tokens.weight"


@dataclass(frozen=True)
class Sources:
    """Where the figures come from.

    Attributes:
        runs: a recipe's runs, NORM/seedN, or None.
        images: those of ResNet20, NORM/seedN, or None.
        batch_sizes: the table of the batch size study, or None.
        seed: which.
        norms: the norms to draw figures 2 to 4 for; all recorded ones if empty.
    """

    runs: Path | None
    images: Path | None
    batch_sizes: Path | None
    seed: int
    norms: Sequence[str] = ()

    def records(self, folder: Path | None) -> dict[str, Path]:
        """The records below a folder of runs by norm, in the order of tables."""
        found = folder.glob(f"*/seed{self.seed}/{RECORD}/record.csv") if folder else ()
        by_norm = {path.parents[2].name: path.parent for path in found}
        return {norm: by_norm[norm] for norm in sorted(by_norm, key=rank)}


def recorded_pairs(sources: Sources) -> dict[str, list[RecordedRun]]:
    """The runs to be drawn beside each other, by the norm's name: the Transformer's, and ResNet20's of the same norm,
    or of ``batch``.

    Raises:
        ValueError: a norm that was asked for has no record, or no record at all.
    """
    texts, images = sources.records(sources.runs), sources.records(sources.images)
    if missing := [norm for norm in sources.norms if norm not in texts and norm not in images]:
        known = ", ".join(dict.fromkeys([*texts, *images])) or "none"
        raise ValueError(f"no record of {', '.join(missing)} with seed {sources.seed}; recorded norms: {known}")
    if not (texts or images):
        places = " or ".join(str(folder) for folder in (sources.runs, sources.images) if folder)
        raise ValueError(
            f"no record of norms of seed {sources.seed} in {places or 'no folder'}: train with --override record=true"
        )
    pairs = {}
    for norm in sources.norms or texts or images:
        beside = next((name for name in (norm, norm_of(norm)) if name in images), "batch")
        pairs[norm] = [
            *([read_run(texts[norm], f"Transformer, {norm}")] if norm in texts else []),
            *([read_run(images[beside], f"ResNet20, {beside}")] if beside in images else []),
        ]
    return pairs


def batch_size_scores(path: Path | None) -> tuple[dict[str, dict[int, float]], str]:
    """BLEU of each norm by tokens a micro-batch, a mean over the test sets, and a note.

    Raises:
        ValueError: no such table, or one of another kind.
    """
    columns = {"test_set": str, "norm": str, "tokens": int, "bleu_mean": float}
    rows = read_table(path or "the table of the batch size study", columns, "scripts/batch_size_study.sh")
    scores: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        scores.setdefault(row["norm"], {}).setdefault(row["tokens"], []).append(row["bleu_mean"])
    test_sets, sizes = ({row[name] for row in rows} for name in ("test_set", "tokens"))
    note = f"Mean of {len(test_sets)} test sets. " if len(test_sets) > 1 else ""
    if missing := [str(size) for size in SIZES_OF_THE_PAPER if size not in sizes]:
        note += f"Missing of the paper's sizes: {', '.join(missing)}."
    means = {
        norm: {tokens: sum(values) / len(values) for tokens, values in points.items()}
        for norm, points in scores.items()
    }
    return means, note


def embeddings(sources: Sources) -> dict[str, np.ndarray]:
    """The encoder's word embedding of averaged checkpoints.

    Raises:
        ValueError: one is missing, or has no such tensor.
    """
    found = {}
    for norm in SPECTRA:
        path = (sources.runs or Path()) / norm / f"seed{sources.seed}" / "averaged.pt"
        if not path.is_file():
            raise ValueError(f"{path} is missing: the recipe's run of {norm} makes it")
        model = load_checkpoint(path, mmap=True)["model"]
        if EMBEDDING not in model:
            raise ValueError(f"{path} has no {EMBEDDING}")
        found[norm] = model[EMBEDDING].double().numpy()
    return found


def make(figure: str, sources: Sources, title: str) -> dict[str, Drawing]:
    """The drawings of a figure by what is added to their names.

    Raises:
        ValueError: what it is drawn from is missing.
    """
    if figure in OF_RECORDS:
        pairs = recorded_pairs(sources)
        return {f"figure{figure}_{norm}": OF_RECORDS[figure](runs) for norm, runs in pairs.items()}
    if figure in ("smoothness", "bound"):
        folder = (sources.images or Path()) / "smoothness"
        if figure == "bound":
            return {"bound": theory_figures.bound(theory_figures.read_bound(folder))}
        return {"smoothness": theory_figures.smoothness(theory_figures.read_smoothness(folder))}
    if figure == "5":
        scores, note = batch_size_scores(sources.batch_sizes)
        return {"figure5": paper_figures.figure5(scores, title, note)}
    return {"figure6": paper_figures.figure6(embeddings(sources), title)}


def draw_all(sources: Sources, asked: Sequence[str], prefix: str, title: str, force: bool) -> list[str]:
    """Writes the figures asked for, or, with none, those that there are runs for.

    Returns:
        The files' prefixes.

    Raises:
        ValueError: a figure asked for cannot be made, or none can.
        FileExistsError: a file is there and ``force`` is not set.
    """
    drawings: dict[str, Drawing] = {}
    for figure in asked or NAMES:
        try:
            drawings |= make(figure, sources, title)
        except ValueError as error:
            if asked:
                raise ValueError(f"figure {figure}: {error}") from None
            logger.info("figure %s is left out: %s", figure, error)
    if not drawings:
        raise ValueError("there are runs for none of the figures")
    pairs = {}
    if any(name.startswith(tuple(f"figure{figure}_" for figure in OF_RECORDS)) for name in drawings):
        pairs = recorded_pairs(sources)
        drawings |= {f"relative_{norm}": paper_figures.relative(runs) for norm, runs in pairs.items()}
    for name in drawings:
        check_outputs(f"{prefix}_{name}", force, "png", "csv")
    if pairs:
        check_outputs(f"{prefix}_jumps", force, "csv")
    for name, drawing in drawings.items():
        write_outputs(f"{prefix}_{name}", [drawing.header, *drawing.rows], drawing.chart)
    if pairs:
        once = {run.label: run for runs in pairs.values() for run in runs}
        write_outputs(f"{prefix}_jumps", [JUMPS, *jumps([*once.values()])])
    return [f"{prefix}_{name}" for name in drawings]


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the figures; see ``--help``."""
    parser = argparse.ArgumentParser(description="The PowerNorm paper's figures from runs of one's own.")
    parser.add_argument("--runs", type=Path, help="a recipe's runs, e.g. runs/multi30k_de_en")
    parser.add_argument("--images", type=Path, help="ResNet20's runs, e.g. runs/cifar10")
    parser.add_argument("--batch-sizes", type=Path, help="the CSV of scripts/batch_size_study.sh")
    parser.add_argument("--figures", default="", metavar="LIST", help=f"of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--norms", default="", metavar="LIST", help="for figures 2 to 4 (default: all recorded ones)")
    parser.add_argument("--seed", type=int, default=1, help="(default 1)")
    parser.add_argument("--output-prefix", required=True, help="writes PREFIX_figure2_NORM.png and .csv and so on")
    parser.add_argument("--title", default="", help="the data's name")
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asked = [word for word in options.figures.split(",") if word]
    if unknown := [word for word in asked if word not in NAMES]:
        raise ValueError(f"--figures takes {', '.join(NAMES)}, got {', '.join(unknown)}")
    norms = [word for word in options.norms.split(",") if word]
    sources = Sources(options.runs, options.images, options.batch_sizes, options.seed, norms)
    for prefix in draw_all(sources, asked, options.output_prefix, options.title, options.force):
        logger.info("wrote %s.png and .csv", prefix)


if __name__ == "__main__":
    run_command_line(main)
