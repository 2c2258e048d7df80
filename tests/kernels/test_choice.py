"""Which implementation is chosen, and what is said where there is none. The variable is read once, so each value has a
process of its own."""

import os
import shutil
import subprocess
import sys

import pytest
import torch

from fairseq_powernorm.kernels import operators

MISSING = operators.missing("cpu")
NEEDS_CPU_KERNELS = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
STEP = """
import torch
from fairseq_powernorm import build_norm
norm = build_norm("power", 4)
norm(torch.ones(3, 4)).sum().backward()
print(norm.running_square_mean.tolist())
"""
DESCRIBE = "from fairseq_powernorm.kernels.operators import describe; print(describe('cpu'), end=';')\n"
KERNEL = "import torch; print(torch._C._dispatch_has_kernel_for_dispatch_key('fairseq_powernorm::normalize', 'CPU'))\n"


def run(code, value, folder):
    """The exit status, what was printed, and the last line of the errors."""
    surroundings = {name: text for name, text in os.environ.items() if name != operators.VARIABLE}
    surroundings["PYTHONPATH"] = str(folder)
    if value is not None:
        surroundings[operators.VARIABLE] = value
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=surroundings, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def without_library(root, tmp_path):
    """A copy of the package as it is after an installation without a compiler."""
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(root / "fairseq_powernorm", tmp_path / "fairseq_powernorm", ignore=ignored)
    return tmp_path


@NEEDS_CPU_KERNELS
@pytest.mark.parametrize("value", ["", "force"])
def test_kernels_are_used_unless_they_are_switched_off(root, value):
    status, printed, errors = run(DESCRIBE + KERNEL + STEP, value, root)
    assert (status, printed) == (0, "kernels (C++);True\n[1.0, 1.0, 1.0, 1.0]\n"), errors


def test_off_is_plain_torch(root):
    status, printed, errors = run(DESCRIBE + KERNEL + STEP, "off", root)
    expected = "plain torch (FAIRSEQ_POWERNORM_KERNELS is off);False\n[1.0, 1.0, 1.0, 1.0]\n"
    assert (status, printed) == (0, expected), errors


def test_another_value_is_one_clear_error(root):
    """In the words that the command line and the log of a model have, and in a pass."""
    status, printed, errors = run(f"try:\n    {DESCRIBE}except ValueError as error: print(error)\n{STEP}", "on", root)
    said = "FAIRSEQ_POWERNORM_KERNELS is 'on'; it takes auto, off, force"
    assert status == 1 and printed == f"{said}\n" and errors.strip().splitlines()[-1] == f"ValueError: {said}"


def test_without_a_compiled_library_plain_torch_does_it(without_library):
    status, printed, errors = run(DESCRIBE + STEP, "auto", without_library)
    assert status == 0, errors
    reason = "no kernels for the CPU, as the package was installed without a C++ compiler"
    assert printed == f"plain torch ({reason});[1.0, 1.0, 1.0, 1.0]\n"


def test_force_says_why_there_is_none(without_library):
    code = f"try:\n    {DESCRIBE}except ValueError as error: print(error)\n{STEP}"
    status, printed, errors = run(code, "force", without_library)
    said = "FAIRSEQ_POWERNORM_KERNELS is force, but there are no kernels for the CPU, as the package was installed"
    assert status == 1 and printed.startswith(said) and f"ValueError: {said}" in errors


def test_a_library_of_another_torch_is_passed_over_with_a_warning(without_library):
    """As after an upgrade of torch: the package goes on in plain torch."""
    (without_library / "fairseq_powernorm" / "kernels" / "_cpu.so").write_bytes(b"\x7fELF of another torch")
    status, printed, errors = run(DESCRIBE + STEP, None, without_library)
    assert status == 0 and printed.startswith("plain torch (no kernels for the CPU, as _cpu.so is of another build"), (
        errors
    )
    assert errors.count("is of another build") == 1


@NEEDS_CPU_KERNELS
def test_a_library_of_other_schemas_is_passed_over_with_a_warning(root, without_library):
    """As where the package was updated and not built again."""
    folder = without_library / "fairseq_powernorm" / "kernels"
    (built,) = (root / "fairseq_powernorm" / "kernels").glob("_cpu*.so")
    shutil.copy(built, folder / built.name)
    source = folder / "operators.py"
    changed = source.read_text(encoding="utf-8").replace("Tensor count, float alpha) -> ()", "Tensor count) -> ()")
    source.write_text(changed, encoding="utf-8")
    status, printed, errors = run(DESCRIBE + KERNEL, None, without_library)
    assert status == 0 and "is of another build" in printed and printed.endswith(";False\n"), errors
    assert errors.count("is of another build") == 1


@NEEDS_CPU_KERNELS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_operators_tell_torch_the_truth_about_themselves(dtype):
    rows, vector = torch.randn(6, 4).to(dtype), torch.rand(4)
    padding = torch.tensor([False, True] * 3)
    samples = {
        operators.normalize_by_constants: (rows, None, vector, vector, vector, 1e-5, 2),
        operators.normalize: (rows, padding, None, vector, vector, vector, 1e-5, 2),
        operators.moments: (rows, None, vector, 1e-5, 0),
        operators.gradient_sums: (rows, rows, padding, None, vector, 1e-5, 0),
        operators.gradient: (rows, rows, padding, vector, vector, vector, vector, vector, 1e-5, 0),
        operators.move_average: (torch.rand(4), vector, torch.tensor(3.0), 0.9),
        operators.move_projection: (
            *(torch.rand(4), vector.to(dtype), vector, vector, vector, torch.tensor(3.0), 1e-5, 0.9),
        ),
    }
    for operator, arguments in samples.items():
        torch.library.opcheck(operator, arguments)


@NEEDS_CPU_KERNELS
def test_wrong_arguments_are_named():
    rows, vector = torch.randn(6, 4), torch.rand(4)
    with pytest.raises(RuntimeError, match="expected a number of groups that divides 4 channels, got 3"):
        operators.moments(rows, None, None, 1e-5, 3)
    with pytest.raises(RuntimeError, match="expected a bool for each of 6 rows"):
        operators.moments(rows, torch.zeros(5, dtype=torch.bool), None, 1e-5, 0)
    with pytest.raises(RuntimeError, match="expected a vector of 4 channels"):
        operators.moments(rows, None, torch.rand(3), 1e-5, 0)
    with pytest.raises(RuntimeError, match="expected floating-point rows"):
        operators.moments(rows.long(), None, None, 1e-5, 0)
    with pytest.raises(RuntimeError, match="expected a gradient"):
        operators.gradient_sums(rows, rows[:5], None, None, vector, 1e-5, 0)
    with pytest.raises(RuntimeError, match="expected mean and grad_mean together"):
        operators.gradient(rows, rows, None, vector, vector, vector, vector, None, 1e-5, 0)
