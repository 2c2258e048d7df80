"""The benchmarks as modules and as commands of this process."""

import importlib
import sys

import pytest


@pytest.fixture
def script(root, monkeypatch):
    """``script(NAME)`` imports benchmarks/NAME.py as the scripts there import one another."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def interleaved(script):
    return script("interleaved")


@pytest.fixture
def run(script, interleaved, monkeypatch):
    """``run(NAME, WORDS)`` runs a script's command line in this process; it may not get to the tests of the norms."""
    monkeypatch.setattr(interleaved, "keep_pages", lambda: None)
    monkeypatch.setattr(interleaved, "require_green_tests", lambda: pytest.fail("the tests were run first"))

    def call(name, *words):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        script(name).main()

    return call
