"""A chart of bench_norms.py: time over LayerNorm's by norm and backend, against the number of tokens.

python benchmarks/plot.py --input results/benchmarks/norms_cpu
"""

import argparse
import json
import math
from pathlib import Path

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from fairseq_powernorm.analysis.outputs import read_table
from fairseq_powernorm.files import atomic_write, run_command_line

PARTS = {"both": "training: forward and backward", "evaluation": "evaluation"}
COLUMNS = ("dtype", "channels", "tokens", "padding", "candidate", "part", "ratio", "ratio_p20", "ratio_p80")
BACKENDS = {
    # the line's dashes, and how much white is mixed into the norm's colour
    "kernels": ("-", 0.0),
    "plain": ((0, (7, 3)), 0.4),
    "compiled": ((0, (2, 2)), 0.2),
}
OTHERS = {"layer": {"color": "black"}, "copy": {"color": "grey", "linestyle": (0, (1, 1.5))}}
FRACTIONS = {0.125: "⅛", 0.25: "¼", 0.5: "½"}
NOTE = (
    "Lines are medians over rounds, bands the 20th to 80th percentile. "
    "copy: reading and writing as many bytes as any norm has to."
)


def read_rows(path: Path, channels: str, dtype: str, padding: str) -> list[dict[str, str]]:
    """The rows of one case.

    Raises:
        ValueError: no table of bench_norms.py, or one without the case.
    """
    rows = read_table(path, dict.fromkeys(COLUMNS, str), "benchmarks/bench_norms.py")
    case = (channels, dtype, padding)
    rows = [row for row in rows if (row["channels"], row["dtype"], row["padding"]) == case and row["part"] in PARTS]
    if not rows:
        raise ValueError(f"{path} holds no {dtype} rows of {channels} channels with padding {padding}")
    return rows


def measured_on(path: Path) -> str:
    """Hardware, torch and commit by the record beside the table; nothing where there is none."""
    if not path.exists():
        return ""
    record = json.loads(path.read_text(encoding="utf-8"))
    parts = [record.get("hardware"), f"torch {record.get('versions', {}).get('torch', 'unknown')}"]
    parts += [f"commit {record['commit']}"] if "commit" in record else []
    return "\n" + ", ".join(part for part in parts if part)


def ticks(values: list[float]) -> list[float]:
    """The powers of two from the one at or below the least value to the one at or above the largest."""
    first, last = math.floor(math.log2(min(values))), math.ceil(math.log2(max(values)))
    return [2.0**power for power in range(first, max(last, first + 1) + 1)]


def style(name: str, colours: dict[str, str]) -> dict:
    """A colour a norm, lighter and dashed by the backend; ``colours`` are those given so far."""
    if name in OTHERS:
        return OTHERS[name]
    norm, _, backend = name.rpartition(" ")
    dashes, white = BACKENDS.get(backend, BACKENDS["kernels"])
    colour = to_rgb(colours.setdefault(norm, f"C{len(colours)}"))
    return {"color": [white + (1 - white) * part for part in colour], "linestyle": dashes}


def draw(rows: list[dict[str, str]], title: str, note: str) -> Figure:
    """The chart, a panel each for training and evaluation."""
    colours: dict[str, str] = {}
    sizes = sorted({int(row["tokens"]) for row in rows})
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    axes = figure.subplots(1, len(PARTS), sharex=True, sharey=True)
    for axis, (part, heading) in zip(axes, PARTS.items(), strict=True):
        for name in dict.fromkeys(row["candidate"] for row in rows):
            points = [row for row in rows if row["candidate"] == name and row["part"] == part]
            points.sort(key=lambda row: int(row["tokens"]))
            tokens = [int(row["tokens"]) for row in points]
            ratios, low, high = ([float(row[key]) for row in points] for key in ("ratio", "ratio_p20", "ratio_p80"))
            chosen = style(name, colours)
            solid = chosen.get("linestyle", "-") == "-"  # a marker would hide the dashes of a short line
            marker = "o" if solid or len(sizes) == 1 else None
            axis.plot(tokens, ratios, marker=marker, markersize=3, label=name, **chosen)
            axis.fill_between(tokens, low, high, color=chosen["color"], alpha=0.12, linewidth=0)
        axis.set(xscale="log", yscale="log", title=heading, xlabel="tokens")
        axis.set_xticks(sizes, labels=sizes)
        axis.grid(alpha=0.3)
    limits = ticks([float(row[key]) for row in rows for key in ("ratio_p20", "ratio_p80")])
    axes[0].set_yticks(limits, labels=[FRACTIONS.get(tick, f"{tick:g}") for tick in limits])
    axes[0].set(ylabel="time over nn.LayerNorm", ylim=(limits[0], limits[-1]))
    for axis in axes:
        axis.minorticks_off()
    axes[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False, handlelength=4)
    figure.suptitle(title)
    figure.supxlabel(note, fontsize=8, color="dimgrey")
    return figure


def chart(options: argparse.Namespace) -> None:
    """Writes INPUT.png."""
    rows = read_rows(Path(f"{options.input}.csv"), options.channels, options.dtype, options.padding)
    padding = "a fifth of padding" if options.padding == "yes" else "no padding"
    note = NOTE + measured_on(Path(f"{options.input}.json"))
    figure = draw(rows, f"{options.channels} channels, {options.dtype}, {padding}", note)
    with atomic_write(f"{options.input}.png", "wb") as stream:
        figure.savefig(stream, dpi=150, format="png")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", type=Path, required=True, help="INPUT.csv of bench_norms.py; writes INPUT.png")
    parser.add_argument("--channels", default="512", help="(default: 512)")
    parser.add_argument("--dtype", default="float32", help="(default: float32)")
    parser.add_argument("--padding", default="yes", choices=("yes", "no"), help="(default: yes)")
    options = parser.parse_args()
    run_command_line(lambda: chart(options))


if __name__ == "__main__":
    main()
