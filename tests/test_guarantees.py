"""docs/guarantees.md names tests that exist."""

import re


def test_every_proof_exists(root):
    text = (root / "docs" / "guarantees.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z_]+/)+test_[a-z0-9_]+\.py)(?:::(test_[a-z0-9_]+))?`", text))
    assert len(named) > 20
    for path, test in named:
        file = root / "tests" / path
        assert file.is_file(), path
        assert not test or f"def {test}(" in file.read_text(encoding="utf-8"), f"{path}::{test}"


def test_every_promise_has_a_proof(root):
    text = (root / "docs" / "guarantees.md").read_text(encoding="utf-8")
    promises = re.split(r"^### ", text.partition("## An update is the unit")[0], flags=re.MULTILINE)[1:]
    assert len(promises) > 25
    for promise in promises:
        assert "test_" in promise.partition("- Proof: ")[2], promise.splitlines()[0]
