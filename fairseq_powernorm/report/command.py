"""``powernorm-report``: writes one HTML file on the runs of a recipe, which works offline.

powernorm-report --runs runs/multi30k_de_en
"""

import argparse
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from ..analysis import curves
from ..analysis.recorded_runs import RECORD, read_run
from ..files import atomic_write, refuse_to_overwrite, run_command_line
from ..scoring.runs import run_folders
from . import figures
from .content import read_content

logger = logging.getLogger(__name__)


def code(text: str) -> Markup:
    """Text with what stands in backticks as code, everything else escaped."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def render(folder: Path, baseline: str = "layer", command: str = "") -> str:
    """The report on the runs below a recipe's folder, as HTML.

    Raises:
        ValueError: no finished run, or one that is malformed.
    """
    content = read_content(folder, baseline, command)
    try:
        points = curves.read_runs(folder)
    except ValueError as error:
        logger.warning("no curves: %s", error)
        points = []
    records = {}
    for run in run_folders(folder):
        if (run / RECORD).is_dir():
            try:
                records[run.parent.name, int(run.name.removeprefix("seed"))] = read_run(run / RECORD, run.parent.name)
            except ValueError as error:
                logger.warning("no statistics of %s: %s", run, error)
    distances = figures.draw_distances(records)
    environment = Environment(
        loader=PackageLoader("fairseq_powernorm", "report"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["code"] = code
    script = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(
        content=content,
        curves=figures.to_html(figures.draw_losses(points)) if points else "",
        statistics="" if distances is None else figures.to_html(distances),
        plotly_script=get_plotlyjs(),
        page_script=script,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the report; see ``--help``."""
    parser = argparse.ArgumentParser(prog="powernorm-report", description="One HTML file on the runs of a recipe.")
    parser.add_argument("--runs", required=True, type=Path, metavar="DIR", help="of one recipe: runs/multi30k_de_en")
    parser.add_argument("--baseline", default="layer", metavar="NORM", help="what others are compared with")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: report.html in the folder of the runs")
    parser.add_argument("--command", default="", help="what makes the runs again")
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("sacrebleu").setLevel(logging.WARNING)
    output = options.output or options.runs / "report.html"
    refuse_to_overwrite(output, options.force)
    page = render(options.runs, options.baseline, options.command)
    with atomic_write(output) as stream:
        stream.write(page)
    logger.info("wrote %s", output)


def command() -> None:
    """The console script."""
    run_command_line(main)


if __name__ == "__main__":
    command()
