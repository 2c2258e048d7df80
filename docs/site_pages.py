"""The pages of the site that are made when it is built: the repository's own documents, the norms, the API.

Documents link to each other by their places in the repository; here a link goes to the page, an image comes along, and
what is no page (a script, a configuration) is left as text.
"""

import inspect
import io
import posixpath
import re
import sys
from pathlib import Path

import mkdocs_gen_files
import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parent))
from site_formulas import typeset

from fairseq_powernorm.functional import reference
from fairseq_powernorm.norms.registry import NORMS, build_norm

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "results/README.md": "results/index.md",
    "benchmarks/README.md": "benchmarks.md",
    **{f"docs/{path.name}": path.name for path in sorted((ROOT / "docs").glob("*.md"))},
}
FOLDERS = {"results": "results/README.md", "benchmarks": "benchmarks/README.md"}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
TRAINING = (
    "norms.update.one_update",
    "norms.update.OneUpdate",
    "norms.masks.padding_mask",
    "norms.replace.replace_norms",
    "norms.recalibration.gather_statistics",
    "norms.registry.build_norm",
    "recording.recorder.NormRecorder",
)
TOKENS, CHANNELS = 24, 16


def with_links(text: str, place: str, page: str) -> str:
    """A document's text with its links as the site has them."""

    def replace(match: re.Match) -> str:
        image, words, link = match.groups()
        target, hash_sign, anchor = link.partition("#")
        if "://" in link or not target:
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
        target = FOLDERS.get(target, target)
        if target in PAGES:
            return f"[{words}]({relative(PAGES[target], page)}{hash_sign}{anchor})"
        if image:
            with mkdocs_gen_files.open(target, "wb") as stream:
                stream.write((ROOT / target).read_bytes())
            return f"![{words}]({relative(target, page)})"
        return f"`{target}`" if words == link else words

    return LINK.sub(replace, text)


def relative(target: str, page: str) -> str:
    """The way from one page to another."""
    return posixpath.relpath(target, posixpath.dirname(page) or ".")


def write_documents() -> None:
    """The documents of the repository."""
    for place, page in PAGES.items():
        with mkdocs_gen_files.open(page, "w") as stream:
            stream.write(with_links((ROOT / place).read_text(encoding="utf-8"), place, page))


def picture(name: str) -> bytes:
    """What a norm does to a batch in training: tokens downwards, channels to the right."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(TOKENS, CHANNELS, generator=generator)
    x[:, 3] *= 4  # a loud channel
    x[:, 9] += 3  # one off the centre
    x[17] *= 3  # a loud token
    norm = build_norm(name, CHANNELS)
    with torch.no_grad():
        for _ in range(60):  # running statistics settle
            y = norm(x)
    figure = Figure(figsize=(6.4, 2.9), dpi=110, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for panel, values, title in zip(axes, (x, y), ("before", f"after {name}"), strict=True):
        shown = panel.imshow(values.numpy(), cmap="RdBu_r", vmin=-4, vmax=4, aspect="auto", interpolation="nearest")
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("channels")
    axes[0].set_ylabel("tokens")
    figure.colorbar(shown, ax=axes, shrink=0.9)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def write_norms() -> None:
    """A section for each norm: its formulas, a picture, its class."""
    lines = [
        "# The norms",
        "",
        "x is a real token's channel; ψ_B², μ_B, σ_B² are taken over the batch's real tokens; g = γ ⊙ dY. The pictures",
        "show one batch with a loud channel, a channel off the centre and a loud token, before and after each norm.",
    ]
    for name, norm in NORMS.items():
        declared = norm.declaration
        with mkdocs_gen_files.open(f"api/{name}.png", "wb") as stream:
            stream.write(picture(name))
        lines += [
            "",
            f"## {name}",
            "",
            f"*{declared.source}*",
            "",
            f"- training, forward: {typeset(declared.training)}",
            f"- training, backward: {typeset(declared.gradient)}",
            f"- evaluation: {typeset(declared.evaluation)}",
            "",
            f"![a batch before and after {name}]({name}.png)",
            "",
            f"::: {norm.__module__}.{norm.__name__}",
            "    options: {members: false}",
        ]
    with mkdocs_gen_files.open("api/norms.md", "w") as stream:
        stream.write("\n".join(lines) + "\n")


def write_api() -> None:
    """What a training loop of one's own calls, and the reference."""
    lines = ["# Training and models", *(f"\n::: fairseq_powernorm.{name}" for name in TRAINING)]
    with mkdocs_gen_files.open("api/training.md", "w") as stream:
        stream.write("\n".join(lines) + "\n")
    lines = ["# The definition in float64", "", inspect.getdoc(reference) or ""]
    functions = [
        name
        for name, value in vars(reference).items()
        if inspect.isfunction(value) and "Backward" in str(inspect.signature(value))
    ]
    lines += [f"\n::: {reference.__name__}.{name}\n    options: {{show_source: true}}" for name in functions]
    with mkdocs_gen_files.open("api/reference.md", "w") as stream:
        stream.write("\n".join(lines) + "\n")


write_documents()
write_norms()
write_api()
