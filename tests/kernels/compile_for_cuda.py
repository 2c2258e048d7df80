"""Compiles every Triton kernel for a CUDA device that need not be there, and prints what the compiler made of each.

    python tests/kernels/compile_for_cuda.py CAPABILITY TYPE...    # such as 90 float32: a line of JSON for each kernel

The kernels are launched by the backend's own functions, so what is compiled is what they launch.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

os.environ.pop("TRITON_INTERPRET", None)

import torch
import triton
from triton.backends.compiler import GPUTarget

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
MULTIPROCESSORS = 132
TOKENS, CHANNELS = 65536, 512


def pretend_to_be(capability: int) -> None:
    """Triton compiles for such a device from here on."""
    driver = SimpleNamespace(
        get_current_target=lambda: GPUTarget("cuda", capability, 32),
        get_current_device=lambda: 0,
        get_current_stream=lambda device=None: 0,
        get_active_torch_device=lambda: torch.device("cpu"),
    )
    triton.runtime.driver.set_active(driver)


class Compiled:
    """Stands in for a kernel: a launch compiles it and prints."""

    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        def launch(*arguments, **constants):
            binary = self.kernel.warmup(*arguments, grid=grid, **constants)
            flags = sorted(name for name, value in constants.items() if value is True)
            types = sorted({str(each.dtype) for each in arguments if isinstance(each, torch.Tensor)})
            found = {"kernel": self.kernel.__name__, "flags": flags, "types": types, **read_binary(binary.asm["cubin"])}
            sys.stdout.write(json.dumps(found) + "\n")

        return launch


def read_binary(binary: bytes) -> dict:
    """Registers, bytes of stack (what does not fit into registers) and the instructions that read device memory."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as stream:
        stream.write(binary)
        stream.flush()
        usage, code = (
            subprocess.run([TOOLS / tool, option, stream.name], capture_output=True, text=True, check=True).stdout
            for tool, option in (("cuobjdump", "--dump-resource-usage"), ("nvdisasm", "-c"))
        )
    registers, stack = map(int, re.search(r"REG:(\d+) STACK:(\d+)", usage).groups())
    return {"registers": registers, "stack": stack, "loads": sorted(set(re.findall(r"LDG(?:STS)?\.[.\w]+", code)))}


def main() -> None:
    """Every launch of the CUDA backend."""
    pretend_to_be(int(sys.argv[1]))
    from fairseq_powernorm.kernels import cuda

    cuda._programs = lambda device: cuda.PROGRAMS_PER_MULTIPROCESSOR * MULTIPROCESSORS
    for name, value in list(vars(cuda).items()):
        if isinstance(value, triton.runtime.JITFunction):
            setattr(cuda, name, Compiled(value))
    for dtype in (getattr(torch, name) for name in sys.argv[2:]):
        rows = torch.zeros(TOKENS, CHANNELS, dtype=dtype)
        vector = torch.zeros(CHANNELS, dtype=torch.promote_types(dtype, torch.float32))
        for groups, padding, centre in ((0, True, None), (4, False, vector)):
            mask = torch.zeros(TOKENS, dtype=torch.bool) if padding else None
            cuda.normalize(rows, mask, centre, vector, vector, vector, 1e-5, groups)
            cuda.normalize_by_constants(rows, centre, vector, vector, vector, 1e-5, groups)
            cuda.moments(rows, mask, centre, 1e-5, groups)
            cuda.gradient_sums(rows, rows, mask, centre, vector, 1e-5, groups)
            cuda.gradient(rows, rows, mask, centre, vector, vector, vector, centre, 1e-5, groups)


if __name__ == "__main__":
    main()
