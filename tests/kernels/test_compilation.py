"""The Triton kernels compile for CUDA devices, without one: the interpreter takes code that the compiler refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
pytestmark = pytest.mark.slow
PASSES = ("forward_kernel", "backward_kernel")
THREADS_OF_A_PROGRAM, REGISTERS_OF_A_MULTIPROCESSOR = 256, 65536


@pytest.mark.parametrize(("capability", "types"), [(90, ["float32", "bfloat16"]), (80, ["float16", "float64"])])
def test_every_kernel_compiles_and_reads_16_bytes_at_a_time(root, capability, types):
    surroundings = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    surroundings["PYTHONPATH"] = str(root)
    command = [sys.executable, Path(__file__).parent / "compile_for_cuda.py", str(capability), *types]
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {each["kernel"] for each in found} == {*PASSES, "finish_kernel"}
    for each in (each for each in found if each["kernel"] in PASSES):
        assert any(load.endswith("128") for load in each["loads"]), each
        if "torch.float64" not in each["types"]:
            programs = REGISTERS_OF_A_MULTIPROCESSOR // (THREADS_OF_A_PROGRAM * each["registers"])
            assert programs >= 2 and each["stack"] == 0, each
            assert any(load.startswith("LDGSTS") for load in each["loads"]), f"nothing is read ahead: {each}"
