"""A chart of bench_norms.py: time over LayerNorm's by norm and backend, against the number of tokens.

python benchmarks/plot.py --input results/benchmarks/norms_cpu
"""

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from fairseq_powernorm.files import atomic_write

PARTS = {"both": "training: forward and backward", "evaluation": "evaluation"}


def main() -> None:
    """Writes INPUT.png."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", type=Path, required=True, help="INPUT.csv of bench_norms.py; writes INPUT.png")
    parser.add_argument("--channels", default="512", help="(default: 512)")
    parser.add_argument("--dtype", default="float32", help="(default: float32)")
    parser.add_argument("--padding", default="yes", choices=("yes", "no"), help="(default: yes)")
    options = parser.parse_args()
    with open(options.input.with_suffix(".csv"), encoding="utf-8", newline="") as stream:
        rows = [
            row
            for row in csv.DictReader(stream)
            if (row["channels"], row["dtype"], row["padding"]) == (options.channels, options.dtype, options.padding)
        ]
    if not rows:
        raise SystemExit(f"{options.input}.csv holds no {options.dtype} rows of {options.channels} channels")
    norms: dict[str, str] = {}
    figure, axes = plt.subplots(1, len(PARTS), figsize=(11, 4.2), sharex=True, layout="constrained")
    for axis, (part, title) in zip(axes, PARTS.items(), strict=True):
        for name in dict.fromkeys(row["candidate"] for row in rows):
            points = [row for row in rows if row["candidate"] == name and row["part"] == part]
            tokens = [int(row["tokens"]) for row in points]
            ratios, low, high = ([float(row[key]) for row in points] for key in ("ratio", "ratio_p20", "ratio_p80"))
            norm, _, backend = name.rpartition(" ")
            norms.setdefault(norm, f"C{len(norms)}")  # a colour a norm, a line style a backend
            style = {"color": norms[norm], "linestyle": {"plain": "--", "compiled": ":"}.get(backend, "-")}
            style = {"layer": {"color": "black"}, "copy": {"color": "grey", "linestyle": ":"}}.get(name, style)
            (line,) = axis.plot(tokens, ratios, marker="o", markersize=3, label=name, **style)
            axis.fill_between(tokens, low, high, color=line.get_color(), alpha=0.12)
        axis.set(xscale="log", yscale="log", title=title, xlabel="tokens", ylabel="time over nn.LayerNorm")
        axis.set_xticks(
            sorted({int(row["tokens"]) for row in rows}), labels=sorted({int(row["tokens"]) for row in rows})
        )
        axis.set_yticks([0.25, 0.5, 1, 2, 4, 8], labels=["¼", "½", "1", "2", "4", "8"])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)
    figure.suptitle(
        f"{options.channels} channels, {options.dtype}, "
        + ("a fifth of padding" if options.padding == "yes" else "no padding")
    )
    with atomic_write(options.input.with_suffix(".png"), "wb") as stream:
        figure.savefig(stream, dpi=150, format="png")


if __name__ == "__main__":
    main()
