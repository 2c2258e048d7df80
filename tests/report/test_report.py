"""The report: what it shows, that text of a corpus stays text, and that the page works in a browser."""

import html
import json
import re
import shutil
import subprocess

import pytest

from fairseq_powernorm.analysis.recorded_runs import RecordedRun
from fairseq_powernorm.report import command, content, figures
from fairseq_powernorm.scoring import bleu

HOSTILE = '</script><script>window.broken = 1</script> <img src=x onerror="window.broken = 1"> & "quotes"'
REFERENCE = [f"a b c d e f g {number} ." for number in range(118)] + [HOSTILE, "the very last needle ."]


def write_run(folder, norm, seed, wrong, **config):
    """A finished run whose sentences ``wrong`` are nonsense."""
    run = folder / norm / f"seed{seed}"
    (run / "test").mkdir(parents=True)
    lines = ["x" if number in wrong else line for number, line in enumerate(REFERENCE)]
    for name, text in (("hypothesis", lines), ("reference", REFERENCE)):
        (run / "test" / f"{name}.txt").write_text("".join(f"{line}\n" for line in text), encoding="utf-8")
    files = [f"--{name}={run / 'test' / name}.txt" for name in ("hypothesis", "reference")]
    bleu.main([*files, "--output", str(run / "test" / "score.json")])
    record = {"recipe": folder.name, "norm": norm, "seed": seed, "updates": 100, "train_seconds": 60.0}
    record |= {"commit": "abc123", "hardware": "1 × CPU", "versions": {"torch": "2"}}
    (run / "run.json").write_text(json.dumps(record))
    flags = {"norm-type": norm, "lr": 0.1, **config}
    raw = {"raw": str(folder.parent / "raw"), "source": "de", "target": "en"}
    (run / "config.yaml").write_text(json.dumps({"seed": seed, "recipe": raw, "train": flags}))
    statistics = {"num_updates": 50, "loss": 4, "nll_loss": 3, "lr": 0.1, "gnorm": 1, "wall": 9}
    valid = {f"valid_{name}": value for name, value in statistics.items()}
    (run / "train.log").write_text(
        f"x | INFO | train_inner | {json.dumps(statistics)}\nx | INFO | valid | {json.dumps(valid)}\n"
    )
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "tiny_de_en"
    write_run(folder, "layer", 1, {3, 4})
    write_run(folder, "layer", 2, {3})
    write_run(folder, "power", 1, {7, 8, 9}, **{"norm-group-scaling": "heads"})
    raw = folder.parent / "raw"
    raw.mkdir()
    (raw / "test.en").write_text("".join(f"{line}\n" for line in REFERENCE), encoding="utf-8")
    (raw / "test.de").write_text("".join(f"quelle {number}\n" for number in range(120)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def page(runs):
    return command.render(runs, command="scripts/run_recipe.sh")


def test_the_content(runs):
    found = content.read_content(runs, "layer", "again")
    assert [row[0] for row in found.tables[0].rows] == ["layer (LN)", "power (PN)"]
    assert list(found.labels) == ["layer, seed 1", "layer, seed 2", "power, seed 1"]
    assert dict(found.settings) == {
        "train.norm-type": ["layer", "layer", "power"],
        "train.norm-group-scaling": ["–", "–", "heads"],
    }
    translations = found.translations[0]
    assert list(translations.hypotheses) == ["layer (LN), seed 1", "power (PN), seed 1"]
    assert translations.source[5] == "quelle 5" and translations.reference == REFERENCE
    scores = translations.scores["power (PN), seed 1"]
    assert [number for number, score in enumerate(scores) if score < 99] == [7, 8, 9]
    assert "Reproduce: `again`" in found.how


def test_other_raw_text_is_not_taken_for_the_source(runs, tmp_path):
    copy = tmp_path / "tiny_de_en"
    shutil.copytree(runs, copy)
    shutil.copytree(runs.parent / "raw", tmp_path / "raw")
    for path in copy.glob("*/seed*/config.yaml"):
        path.write_text(path.read_text().replace(str(runs.parent / "raw"), str(tmp_path / "raw")))
    with (tmp_path / "raw" / "test.en").open("a") as stream:
        stream.write("one more\n")
    assert content.read_content(copy, "layer").translations[0].source is None


def test_distances_are_means_over_micro_batches():
    columns = [name for _, name in figures.DISTANCES]
    rows = [
        {"update": update, "place": place, **dict(zip(columns, values, strict=True))}
        for update, place, *values in (
            (10, "input", 1, 2, 3), (10, "scaled", 9, 9, 9), (10, "input", 3, 4, 5), (20, "input", 6, 7, 8)
        )
    ]  # fmt: skip
    found = figures.distances_of(RecordedRun("power", "first", 10, "", rows))
    assert list(found.values()) == [([10, 20], [2, 6]), ([10, 20], [3, 7]), ([10, 20], [4, 8])]
    assert len(figures.draw_distances({("power", 1): RecordedRun("power", "first", 10, "", rows)}).data) == 3
    assert figures.draw_distances({}) is None


def test_runs_of_one_colour_have_lines_of_their_own():
    curve = ([1, 2], [3.0, 2.0])
    runs = [("power", 1), ("power", 2), ("power-plain", 1), ("layer", 1)]
    drawn = figures.draw_panels({"loss": dict.fromkeys(runs, curve)}).data
    styles = [(trace.line.color, trace.line.dash) for trace in drawn]
    assert len(set(styles)) == 4 and styles[0][0] == styles[1][0] == styles[2][0]


def test_the_page_needs_no_network_and_text_stays_text(page):
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL))
    assert "<img" not in page and "window.broken = 1</script>" not in page
    assert "<code>scripts/run_recipe.sh</code>" in page


def test_what_is_wrong_is_one_line(tmp_path, runs):
    with pytest.raises(ValueError, match="no such folder of runs"):
        command.main(["--runs", str(tmp_path / "none")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no run is trained and scored yet"):
        command.main(["--runs", str(tmp_path / "empty"), "--output", str(tmp_path / "x.html")])
    (tmp_path / "there.html").write_text("mine")
    with pytest.raises(FileExistsError, match="--force"):
        command.main(["--runs", str(runs), "--output", str(tmp_path / "there.html")])
    assert (tmp_path / "there.html").read_text() == "mine" and not (tmp_path / "x.html").exists()


ACTIONS = """
<script>
const seen = () => [...document.querySelectorAll(".sentence > .muted")].map((each) => each.textContent);
const set = (id, value, event) => { $(id).value = value; $(id).dispatchEvent(new Event(event)); };
const outcome = { start: seen().length, plots: document.querySelectorAll(".js-plotly-plot .main-svg").length };
outcome.marked = [...document.querySelectorAll(".sentence")][3].querySelectorAll("mark").length;
$("more").click();
outcome.more = seen().length;
set("order", "down", "change");
outcome.worst = seen().slice(0, 3);
set("order", "up", "change");
outcome.best = seen().slice(0, 3);
set("search", "NEEDLE", "input");
outcome.found = seen();
set("search", "<img", "input");
outcome.hostile = document.querySelector(".sentence").textContent;
outcome.images = document.images.length;
outcome.broken = window.broken ?? 0;
outcome.errors = errors;
document.body.replaceChildren(JSON.stringify(outcome));
</script>
"""


@pytest.mark.slow
def test_the_page_works_in_a_browser(page, tmp_path):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium")
    watched = page.replace("<head>", "<head><script>const errors = []; onerror = (e) => errors.push(e);</script>", 1)
    path = tmp_path / "page.html"
    path.write_text(watched.replace("</body>", f"{ACTIONS}</body>"), encoding="utf-8")
    words = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    done = subprocess.run([*words, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120)
    outcome = json.loads(html.unescape(re.search(r"<body>(.*?)</body>", done.stdout, re.DOTALL)[1]))
    assert outcome["errors"] == [] and outcome["broken"] == outcome["images"] == 0
    assert (outcome["start"], outcome["more"]) == (50, 100) and outcome["plots"] > 0 and outcome["marked"] == 1
    assert outcome["worst"][:2] == ["sentence 4", "sentence 5"]  # power is better where layer is wrong
    assert sorted(outcome["best"]) == ["sentence 10", "sentence 8", "sentence 9"]
    assert outcome["found"] == ["sentence 120"] and HOSTILE in outcome["hostile"]
