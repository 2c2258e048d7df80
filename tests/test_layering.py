"""Who may import whom: the package's layers, read off its imports."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "fairseq_powernorm"

# What a module or folder may import of ours; a folder may always import itself.
ALLOWED = {
    "__init__": {"import_hooks", "transformer", "norms"},  # the latter two when they are asked for
    "import_hooks": set(),
    "files": set(),
    "options": set(),
    "kernels": set(),
    "functional": {"kernels"},
    "norms": {"functional", "kernels"},
    "recording": {"functional", "kernels", "norms", "files"},
    "images": {"norms", "recording", "files", "options"},
    "initialization": set(),
    "flags": {"norms", "initialization"},
    "checkpoints": {"flags", "norms", "files"},
    "transformer": {
        "flags",
        "initialization",
        "norms",
        "functional",
        "checkpoints",
        "kernels",
        "files",
        "import_hooks",
        "recording",
    },
    "corpora": {"files"},
    "scoring": {"files", "norms"},  # how a norm is called in papers
    "analysis": {"checkpoints", "files", "norms", "initialization", "scoring", "recording"},
    "report": {"files", "norms", "scoring", "analysis"},
    "pipeline": {"files", "options", "norms", "checkpoints", "corpora", "scoring", "analysis", "transformer"},
    "launch": {"pipeline"},
    "command_line": {"checkpoints", "files", "kernels", "transformer"},
    "sweep": {"pipeline"},
}
OUTSIDE = {
    "fairseq": {"transformer", "corpora", "pipeline"},
    "fairseq_cli": {"command_line"},
    "triton": {"kernels"},
    "scipy": {"analysis"},
    "matplotlib": {"analysis"},
    "plotly": {"report"},
    "jinja2": {"report"},
    "hydra": {"pipeline"},
    "sacrebleu": {"scoring"},
    "sacremoses": {"corpora"},
    "subword_nmt": {"corpora"},
    "sentencepiece": {"corpora"},
}


# Former places, which hand on to where their contents are now, and go with the next release.
FORMER = {"checkpoints/recalibrate.py"}


def layer_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """The first part of every absolute import, and the layer of every import of ours, those by name included."""
    package = ["fairseq_powernorm", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            yield from ([*module, alias.name] if module == ["fairseq_powernorm"] else module for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            name = ast.unparse(node.args[0]).strip("'")
            yield [*package, *name.strip(".").split(".")] if name.startswith(".") else name.split(".")


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if str(path.relative_to(PACKAGE)) not in FORMER)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports(path):
    layer = layer_of(path)
    for parts in imports_of(path):
        if parts[0] == "fairseq_powernorm" and len(parts) > 1:
            assert parts[1] == layer or parts[1] in ALLOWED[layer], f"{layer} may not import {parts[1]}"
        elif parts[0] in OUTSIDE:
            assert layer in OUTSIDE[parts[0]], f"{layer} may not import {parts[0]}"


def test_no_cycle():
    """Every layer may import only what, in turn, may not import it."""

    def below(layer, seen=()):
        assert layer not in seen, f"a cycle: {' imports '.join([*seen, layer])}"
        for other in ALLOWED[layer]:
            below(other, (*seen, layer))

    for layer in ALLOWED:
        below(layer)


def test_former_places_only_hand_on():
    for name in FORMER:
        assert len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) < 15


def test_the_table_names_what_exists():
    assert {layer_of(path) for path in MODULES} <= set(ALLOWED) | {"kernels"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_readable(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
