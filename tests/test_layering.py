"""Who may import whom: the package's layers, read off its imports."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "fairseq_powernorm"

# What a module or folder may import of ours; a folder may always import itself.
ALLOWED = {
    "__init__": {"transformer", "norms"},  # both by importlib, so that fairseq and torch are not loaded in vain
    "files": set(),
    "kernels": set(),
    "functional": {"kernels"},
    "norms": {"functional", "kernels"},
    "flags": {"norms"},
    "transformer": {"flags", "norms", "checkpoints", "kernels"},
    "checkpoints": {"flags", "norms", "files", "transformer"},
    "corpora": {"files"},
    "scoring": {"files", "norms"},  # how a norm is called in papers
    "analysis": {"files", "norms", "scoring"},
    "recipes": set(),
    "execution": {"recipes"},
    "settings": {"files"},
    "stages": {"settings", "execution", "recipes", "files", "checkpoints", "corpora", "scoring"},
    "dry_run": {"execution", "recipes", "stages"},
    "launch": {"settings", "dry_run", "execution", "stages", "recipes", "files", "scoring"},
    "sweep": {"stages", "recipes", "files"},
    "command_line": {"transformer", "checkpoints", "files", "kernels"},
}
OUTSIDE = {
    "fairseq": {"transformer", "command_line", "checkpoints", "corpora"},
    "fairseq_cli": {"command_line"},
    "triton": {"kernels"},
    "scipy": {"analysis"},
    "matplotlib": {"analysis"},
    "hydra": {"recipes", "sweep"},
    "sacrebleu": {"scoring"},
    "sacremoses": {"corpora"},
    "subword_nmt": {"corpora"},
    "sentencepiece": {"corpora"},
}


def layer_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """The first part of every absolute import, and the layer of every import of ours."""
    package = ["fairseq_powernorm", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            yield from ([*module, alias.name] if module == ["fairseq_powernorm"] else module for alias in node.names)


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports(path):
    layer = layer_of(path)
    for parts in imports_of(path):
        if parts[0] == "fairseq_powernorm" and len(parts) > 1:
            assert parts[1] == layer or parts[1] in ALLOWED[layer], f"{layer} may not import {parts[1]}"
        elif parts[0] in OUTSIDE:
            assert layer in OUTSIDE[parts[0]], f"{layer} may not import {parts[0]}"


def test_the_table_names_what_exists():
    assert {layer_of(path) for path in MODULES} <= set(ALLOWED) | {"kernels"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_readable(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
