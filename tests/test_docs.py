"""The Python snippets of the documents run, one after the other."""

import importlib.util
import re
import xml.etree.ElementTree as ElementTree

import pytest

from fairseq_powernorm.norms.registry import NORMS

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


@pytest.fixture(scope="module")
def typeset(root):
    spec = importlib.util.spec_from_file_location("site_formulas", root / "docs" / "site_formulas.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.typeset


def test_a_fraction_with_a_root_is_typeset(typeset):
    math = ElementTree.fromstring(typeset("(x − μ_B)/√(σ_B² + ε)"))
    above, below = math.find(".//mfrac")
    assert "".join(above.itertext()) == "x−μB" and below.tag == "msqrt"
    base, subscript, superscript = below.find(".//msubsup")
    assert (base.text, subscript.text, superscript.text) == ("σ", "B", "2")
    assert "(" not in math.itertext()
    with pytest.raises(ValueError, match="without its \\)"):
        typeset("√(x")


@pytest.mark.parametrize("name", NORMS)
def test_every_norm_s_formulas_are_typeset_whole(name, typeset):
    """Nothing is lost but the signs that become a shape, and every fraction has both of its halves."""
    declared = NORMS[name].declaration
    for formula in (declared.training, declared.gradient, declared.evaluation):
        math = ElementTree.fromstring(typeset(formula))
        signs = str.maketrans(dict.fromkeys(" /√_{}()`") | {"²": "2"})
        assert sorted("".join(math.itertext()).translate(signs)) == sorted(formula.translate(signs))
        assert all(len(fraction) == 2 for fraction in math.iter("mfrac"))
