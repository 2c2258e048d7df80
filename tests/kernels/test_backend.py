"""Which backend is chosen, and what is said where there is none."""

import shutil
import subprocess
import sys

import pytest
import torch

from fairseq_powernorm import build_norm
from fairseq_powernorm.kernels import backend, cpu

ROWS = torch.zeros(2, 4)


def test_the_variable_s_three_values(monkeypatch):
    monkeypatch.setattr(cpu, "reason", lambda: None)
    for value, expected in (("auto", cpu), ("off", None), ("force", cpu)):
        monkeypatch.setenv(backend.VARIABLE, value)
        assert backend.backend_for(ROWS) is expected
        assert backend.describe("cpu") == (
            "kernels (C++)" if expected else "plain torch (FAIRSEQ_POWERNORM_KERNELS is off)"
        )
    monkeypatch.setenv(backend.VARIABLE, "")  # as good as unset
    assert backend.backend_for(ROWS) is cpu
    monkeypatch.delenv(backend.VARIABLE)
    assert backend.backend_for(ROWS) is cpu
    monkeypatch.setenv(backend.VARIABLE, "on")
    with pytest.raises(ValueError, match=r"FAIRSEQ_POWERNORM_KERNELS is 'on'; it takes auto, off, force"):
        backend.backend_for(ROWS)
    with pytest.raises(ValueError, match=r"it takes auto, off, force"):
        backend.describe("cpu")


def test_without_a_compiled_library_plain_torch_does_it_and_force_says_why(monkeypatch):
    monkeypatch.setattr(
        cpu, "reason", lambda: "no kernels for the CPU, as the package was installed without a compiler"
    )
    monkeypatch.setenv(backend.VARIABLE, "auto")
    assert backend.backend_for(ROWS) is None
    assert backend.describe("cpu").startswith("plain torch (no kernels for the CPU, as the package was installed")
    norm = build_norm("power", 4)
    norm(torch.randn(3, 4)).sum().backward()
    monkeypatch.setenv(backend.VARIABLE, "force")
    with pytest.raises(
        ValueError, match=r"is force, but there are no kernels for the CPU, as the package was installed"
    ):
        norm(torch.randn(3, 4))


def test_other_dtypes_and_devices_have_no_kernels(monkeypatch):
    monkeypatch.setenv(backend.VARIABLE, "auto")
    assert backend.backend_for(ROWS.to(torch.complex64)) is None
    assert backend.backend_for(ROWS.to("meta")) is None
    monkeypatch.setenv(backend.VARIABLE, "force")
    with pytest.raises(ValueError, match=r"there are no kernels for torch.complex64"):
        backend.backend_for(ROWS.to(torch.complex64))


def test_a_library_of_another_torch_is_passed_over_with_a_warning(root, tmp_path):
    """As after an upgrade of torch: the package goes on in plain torch."""
    package = tmp_path / "fairseq_powernorm"
    shutil.copytree(root / "fairseq_powernorm", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (package / "kernels" / "_rows.so").write_bytes(b"\x7fELF of another torch")
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import torch; from fairseq_powernorm import build_norm; from fairseq_powernorm.kernels import cpu\n"
            "build_norm('power', 4)(torch.randn(3, 4)).sum().backward(); print(cpu.__file__, cpu.is_available())",
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(package / "kernels" / "cpu.py"), "False"]
    assert done.stderr.count("does not load (built for another torch?)") == 1


@pytest.mark.skipif(not cpu.is_available(), reason=str(cpu.reason()))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_operators_tell_torch_the_truth_about_themselves(dtype):
    rows, vector = torch.randn(6, 4).to(dtype), torch.rand(4)
    padding = torch.tensor([False, True] * 3)
    operators = torch.ops.fairseq_powernorm
    samples = {
        operators.normalize: (rows, padding, None, vector, vector, vector, 1e-5, 2),
        operators.moments: (rows, None, vector, 1e-5, 0),
        operators.gradient_sums: (rows, rows, padding, None, vector, 1e-5, 0),
        operators.gradient: (rows, rows, padding, vector, vector, vector, vector, vector, 1e-5, 0),
        operators.move_average: (torch.rand(4), vector, torch.tensor(3.0), 0.9),
        operators.ratio_and_correlation: (vector.to(dtype), vector, vector, vector, torch.tensor(3.0), 1e-5),
        operators.move_projection: (torch.rand(4), vector, vector, torch.tensor(3.0), 0.9),
    }
    for operator, arguments in samples.items():
        torch.library.opcheck(operator.default, arguments)


@pytest.mark.skipif(not cpu.is_available(), reason=str(cpu.reason()))
def test_wrong_arguments_are_named():
    operators, rows, vector = torch.ops.fairseq_powernorm, torch.randn(6, 4), torch.rand(4)
    with pytest.raises(RuntimeError, match="expected a number of groups that divides 4 channels, got 3"):
        operators.moments(rows, None, None, 1e-5, 3)
    with pytest.raises(RuntimeError, match="expected a contiguous bool column of 6 rows"):
        operators.moments(rows, torch.zeros(5, dtype=torch.bool), None, 1e-5, 0)
    with pytest.raises(RuntimeError, match="expected a vector of 4 channels"):
        operators.moments(rows, None, torch.rand(3), 1e-5, 0)
    with pytest.raises(RuntimeError, match="expected contiguous rows"):
        operators.moments(rows.t(), None, None, 1e-5, 0)
    with pytest.raises(RuntimeError, match="expected a contiguous gradient"):
        operators.gradient_sums(rows, rows.double(), None, None, vector, 1e-5, 0)
    with pytest.raises(RuntimeError, match="expected centre and mean together"):
        operators.gradient(rows, rows, None, vector, vector, vector, vector, None, 1e-5, 0)
