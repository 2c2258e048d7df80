"""The chart: one range for both panels, where it is from, and one line for bad input."""

import pytest

TABLE = """dtype,channels,tokens,padding,candidate,part,ratio,ratio_p20,ratio_p80
float32,512,64,yes,layer,both,1,1,1
float32,512,64,yes,layer,evaluation,1,1,1
float32,512,64,yes,power plain,both,17.5,17,18
float32,512,64,yes,power plain,evaluation,0.3,0.3,0.4
"""


def test_the_chart(run, script, tmp_path):
    (tmp_path / "a.b.csv").write_text(TABLE)
    (tmp_path / "a.b.json").write_text('{"hardware": "a machine", "commit": "abc", "versions": {"torch": "2"}}')
    run("plot", "--input", tmp_path / "a.b")
    assert (tmp_path / "a.b.png").read_bytes().startswith(b"\x89PNG")
    plot = script("plot")
    assert plot.measured_on(tmp_path / "a.b.json").strip() == "a machine, torch 2, commit abc"
    assert plot.measured_on(tmp_path / "none.json") == ""
    figure = plot.draw(plot.read_rows(tmp_path / "a.b.csv", "512", "float32", "yes"), "title", plot.NOTE)
    first, second = figure.axes
    assert first.get_ylim() == second.get_ylim() == (0.25, 32) and not second.get_ylabel()
    assert [label.get_text() for label in first.get_yticklabels()] == ["¼", "½", "1", "2", "4", "8", "16", "32"]
    assert "20th to 80th percentile" in figure.get_supxlabel() and "copy" in figure.get_supxlabel()
    assert len({str(plot.style(f"power {backend}", {})) for backend in plot.BACKENDS}) == 3


@pytest.mark.parametrize(
    ("content", "words", "said"),
    [
        (None, "", "is missing: benchmarks/bench_norms.py makes it"),
        (
            "candidate,part,ms\nlayer,update,1\n",
            "",
            "is not a table of benchmarks/bench_norms.py: it has no column dtype",
        ),
        ("", "", "is not a table of benchmarks/bench_norms.py"),
        (TABLE, "--channels 256", "holds no float32 rows of 256 channels with padding yes"),
    ],
)
def test_what_cannot_be_drawn_is_named_in_one_line(content, words, said, run, tmp_path):
    if content is not None:
        (tmp_path / "x.csv").write_text(content)
    with pytest.raises(SystemExit) as error:
        run("plot", "--input", tmp_path / "x", *words.split())
    assert said in str(error.value) and "x.csv" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "x.png").exists()
