"""The Python snippets of the documents run, one after the other."""

import re

import pytest

OPTIONAL = ("transformers", "timm")


def snippets(text):
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("package", [None, *OPTIONAL])
def test_any_torch_model(package, root, optional_package):
    """Those that need an optional package in a test of their own, after what all of them need."""
    if package:
        optional_package(package)
    names, ran = {}, 0
    for code in snippets((root / "docs" / "any_torch_model.md").read_text(encoding="utf-8")):
        needed = next((name for name in OPTIONAL if re.search(rf"^(import|from) {name}\b", code, re.MULTILINE)), None)
        if needed in (None, package):
            exec(compile(code, f"docs/any_torch_model.md, {code.splitlines()[0]}", "exec"), names)
            ran += needed == package
    assert ran == {None: 5, "transformers": 2, "timm": 1}[package]


def test_a_norm_as_a_module(root):
    code = [code for code in snippets((root / "docs" / "norms.md").read_text(encoding="utf-8")) if "build_norm" in code]
    assert code
    for each in code:
        exec(compile(each, "docs/norms.md", "exec"), {})
