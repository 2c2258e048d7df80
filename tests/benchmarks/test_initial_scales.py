"""The chart of initial scales: every scheme, on one layer."""

import csv

from fairseq_powernorm.initialization.schemes import available_schemes


def test_every_scheme_is_measured(run, tmp_path, monkeypatch):
    monkeypatch.setattr("logging.disable", lambda level: None)
    run("initial_scales", "--layers", "1", "--output", tmp_path / "scales")
    with open(tmp_path / "scales.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = {"fairseq, pre-norm", "fairseq, post-norm", "fairseq, no norm"} | set(available_schemes()) - {"fairseq"}
    assert {row["model"] for row in rows} == names and len(rows) == 2 * len(names)
    scales = {(row["model"], row["module"]): float(row["activation"]) for row in rows}
    for name in ("fairseq, post-norm", "ds", "admin", "deepnet"):  # whose layers end with a norm
        assert abs(scales[name, "encoder.layers.0"] - 1) < 1e-3
    assert scales["fixup", "encoder.layers.0"] == scales["rezero", "encoder.layers.0"]  # both identities
    assert (tmp_path / "scales.png").stat().st_size > 1000
