"""CONTRIBUTING's steps for a new norm are all that it takes: a norm is added by them to a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys

import pytest

STEM, NAME = "centre_norm", "centre"

REFERENCE = '''

def centre_norm(
    x: Tensor, padding: Tensor, weight: Tensor, bias: Tensor, state: State, alpha_fwd: float
) -> tuple[Tensor, Backward]:
    """Mean-only batch normalization (Salimans, Kingma 2016): x̂ = x − μ_B; then μ ← αμ + (1−α)μ_B."""
    rows, y = real_rows(padding), torch.full_like(x, math.nan)
    mean = sum(x[row] for row in rows) / len(rows)
    normalized = x - mean
    y[rows] = weight * normalized[rows] + bias
    state["running_mean"] = alpha_fwd * state["running_mean"] + (1 - alpha_fwd) * mean
    centring = torch.eye(len(rows), dtype=x.dtype) - torch.ones(len(rows), len(rows), dtype=x.dtype) / len(rows)
    return y, exact_backward(x, normalized, weight, rows, lambda channel: centring)
'''

MODULE = '''
"""Mean-only batch normalization (Salimans and Kingma 2016)."""

from typing import ClassVar, Unpack

from torch import Tensor

from ..functional import reference
from ..functional.group_scaling import scaled_rows
from ..functional.masking import count_tokens, zero_padding
from ..functional.reduction import Reduce, keep_local
from ..kernels.plain import at_least_float32
from .batch_statistics import BatchStatisticsNorm
from .declaration import Declaration, Setting, Statistic, positive_number
from .token_norm import ModuleOptions


class CentreNorm(BatchStatisticsNorm):
    """Training: y = γ ⊙ (x − μ_B) + β. Evaluation: running μ."""

    declaration = Declaration(
        name="centre",
        short_name="MBN",
        color="#F0E442",
        source="Salimans, Kingma 2016",
        training="x − μ_B",
        gradient="exact",
        evaluation="running μ",
        reference=reference.centre_norm,
        auto_group_scaling="1",
    )
    statistics: ClassVar[dict[str, Statistic]] = {"running_mean": Statistic(0.0)}
    own_settings: ClassVar[dict[str, Setting]] = {"gain": positive_number("what comes out is multiplied by it")}

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        alpha_fwd: float = 0.9,
        group_scaling: int = 0,
        gain: float = 1.0,
        **options: Unpack[ModuleOptions],
    ):
        """Args as in :class:`BatchStatisticsNorm`, and gain > 0."""
        super().__init__(channels, eps, alpha_fwd, group_scaling, **options)
        self.take_settings(gain=gain)
        self.gain = gain

    def scaled(self, rows: Tensor, padding: Tensor | None) -> Tensor:
        """The scaled rows (N, C) in float32 or wider, 0 at padding."""
        return scaled_rows(rows, padding, self.group_scaling, self.eps)

    def batch_statistics(
        self, rows: Tensor, padding: Tensor | None, reduce: Reduce = keep_local
    ) -> tuple[list[Tensor], Tensor]:
        """μ_B, and the number of tokens."""
        count = count_tokens(rows, padding)
        return [self.scaled(rows, padding).sum(dim=0) / count.clamp(min=1)], count

    def normalize(self, rows: Tensor, padding: Tensor | None, mean: Tensor, count: Tensor) -> Tensor:
        """Differentiable through μ_B."""
        scaled = self.scaled(rows, padding)
        output = self.gain * self.affine(scaled - scaled.sum(dim=0) / count.clamp(min=1))
        output = zero_padding(output, None if padding is None else padding.reshape(-1, 1))
        return output.to(rows.dtype).view_as(rows)

    def normalize_by(self, rows: Tensor, mean: Tensor) -> Tensor:
        """Evaluation: y = γ ⊙ (x − μ) + β."""
        output = self.gain * self.affine(self.scaled(rows, None) - at_least_float32(mean))
        return output.to(rows.dtype).view_as(rows)
'''


@pytest.fixture(scope="module")
def steps(root):
    """The paths that CONTRIBUTING's section on norms lists, in order."""
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = re.search(r"## Adding a norm\n(.*?)\n## ", text, re.DOTALL)[1]
    return re.findall(r"^\d+\. `([^`]+)`", section, re.MULTILINE)


def test_contributing_lists_the_files_that_a_norm_is_in(root, steps):
    """``rms`` stands in each of them, and in no other file of the package and of its configuration."""
    assert len(steps) == 6 and all((root / step).is_file() for step in steps)
    names = re.compile(r"""["'`]rms["'`]|\brms_norm\b|\bRMSNorm\b|name: rms$""", re.MULTILINE)
    for step in steps:
        assert names.search((root / step).read_text(encoding="utf-8")), step
    files = [path for folder in ("fairseq_powernorm", "configs") for path in sorted((root / folder).rglob("*.[py]*"))]
    having = {
        path.relative_to(root).as_posix()
        for path in files
        if path.suffix in (".py", ".yaml")
        and names.search(re.sub(r"F\.rms_norm|nn\.RMSNorm", "", path.read_text("utf-8")))
    }
    assert having == {step for step in steps if not step.endswith(".md")}


def test_nothing_asks_for_a_norm_by_its_name(root):
    """Whether a norm has statistics, for example, is what it declares and not that it is called otherwise than
    ``layer``."""
    asks = re.compile(r"""[!=]= "(layer|batch|pn-v|power)"|startswith\("power"\)""")
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for folder in ("fairseq_powernorm", "benchmarks")
        for path in sorted((root / folder).rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if asks.search(line)
    ]
    assert not found, found


def insert(path, before, text):
    content = path.read_text(encoding="utf-8")
    assert content.count(before) == 1, f"{path} has {before!r} {content.count(before)} times"
    path.write_text(content.replace(before, text + before), encoding="utf-8")


def add_by_the_steps(scratch, steps):
    """Does what CONTRIBUTING says, file by file; gives the files that were written."""
    reference, module, registry, config, table, changelog = (
        scratch / step.replace("rms_norm", STEM).replace("/rms.", f"/{NAME}.") for step in steps
    )
    reference.write_text(reference.read_text("utf-8").rstrip() + "\n" + REFERENCE, encoding="utf-8")
    module.write_text(MODULE.lstrip(), encoding="utf-8")
    insert(registry, "from .declaration import", f"from .{STEM} import CentreNorm\n")
    insert(registry, "        PNV,\n", "        CentreNorm,\n")
    rms = (scratch / steps[3]).read_text(encoding="utf-8")
    config.write_text(rms.replace("rms", NAME), encoding="utf-8")
    insert(table, "| `pn-v` |", f"| `{NAME}` | x − μ_B | exact | running μ |\n")
    insert(changelog, "### Fixed\n", f"- `--norm-type {NAME}`.\n\n")


@pytest.mark.slow
def test_a_norm_that_is_added_by_the_steps_passes(root, steps, tmp_path):
    """The contract, the reference, flags, layers, tables and charts, without a change anywhere else."""
    scratch = tmp_path / "repository"
    left_out = shutil.ignore_patterns("__pycache__")
    for folder in ("fairseq_powernorm", "configs", "tests/norms", "tests/benchmarks", "benchmarks"):
        shutil.copytree(root / folder, scratch / folder, ignore=left_out)
    for file in ("pyproject.toml", "docs/norms.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/conftest.py"):
        (scratch / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / file, scratch / file)
    for file in ("tests/flags/test_norm_flags.py", "tests/test_layering.py"):
        (scratch / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / file, scratch / file)
    add_by_the_steps(scratch, steps)
    chosen = f"({NAME} or registry or flags or layering) and not compile and not drift"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests", "-k", chosen],
        cwd=scratch,
        env={**os.environ, "PYTHONPATH": str(scratch)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 150
    known = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys; sys.path.insert(0, 'benchmarks')\n"
            "from fairseq_powernorm.analysis.bar_chart import COLORS\n"
            "from fairseq_powernorm.scoring.markdown import SHORT_NAMES\n"
            "from fairseq_powernorm.scoring.rows import NORM_ORDER\n"
            "import bench_norms\n"
            f"name = '{NAME}'\n"
            "from fairseq_powernorm.flags.own import OWN_FLAGS\n"
            "print(COLORS[name], SHORT_NAMES[name], NORM_ORDER.index(name), name in bench_norms.NORMS,\n"
            "      OWN_FLAGS['norm_centre_gain'].norms)",
        ],
        cwd=scratch,
        env={**os.environ, "PYTHONPATH": str(scratch)},
        capture_output=True,
        text=True,
    )
    words = known.stdout.split()
    assert words[:2] == ["#F0E442", "MBN"] and words[3:] == ["True", "('centre',)"], known.stderr
