"""Nothing is measured that fails its tests."""

import pytest


def test_nothing_is_measured_while_the_tests_are_red(script, monkeypatch, tmp_path):
    green_tests = script("green_tests")
    (tmp_path / "test_red.py").write_text("def test_red():\n    assert 1 == 2\n")
    monkeypatch.setattr(green_tests, "TESTS", (str(tmp_path / "test_red.py"),))
    monkeypatch.setattr(green_tests, "GREEN", tmp_path / "green")
    with pytest.raises(SystemExit, match=r"no benchmark while the tests are red: .*1 failed"):
        green_tests.require_green_tests()
    assert not (tmp_path / "green").exists()


def test_green_tests_are_run_once_for_the_same_code(script, monkeypatch, tmp_path, capsys):
    green_tests = script("green_tests")
    (tmp_path / "test_green.py").write_text("def test_green():\n    assert True\n")
    monkeypatch.setattr(green_tests, "TESTS", (str(tmp_path / "test_green.py"),))
    monkeypatch.setattr(green_tests, "GREEN", tmp_path / "cache" / "green")
    (tmp_path / "cache").mkdir()
    for said in ("1 passed", "the tests have passed on this code", "1 passed"):
        green_tests.require_green_tests()
        assert said in capsys.readouterr().err
        if "have" in said:
            monkeypatch.setenv("FAIRSEQ_POWERNORM_KERNELS", "off")  # another code is measured then
