"""No benchmark of what its tests do not pass."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from fairseq_powernorm.files import atomic_write
from fairseq_powernorm.kernels.operators import VARIABLE
from fairseq_powernorm.pipeline.provenance import hardware, versions

ROOT = Path(__file__).resolve().parent.parent
GREEN = ROOT / ".pytest_cache" / "benchmarks-green"
TESTS = ("tests/functional", "tests/kernels", "tests/norms", "tests/checkpoints/test_fold.py")


def state_of_code() -> str:
    """A digest of the package, its tests, and what they run on."""
    digest = hashlib.sha256(json.dumps([versions(), hardware(), os.environ.get(VARIABLE)]).encode())
    for folder in ("fairseq_powernorm", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".cpp", ".so"):
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def require_green_tests() -> None:
    """Ends the program where the tests of what is to be measured fail: a wrong result is not worth timing.

    Once they have passed they are not run again for the same code on the same machine.
    """
    passed, state = GREEN.read_text() if GREEN.exists() else "", state_of_code()
    if passed == state:
        sys.stderr.write("the tests have passed on this code\n")
        return
    sys.stderr.write(f"first the tests: {' '.join(TESTS)}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "--no-header", "-p", "no:warnings", *TESTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr
    if done.returncode:
        sys.exit(f"no benchmark while the tests are red: {last}")
    sys.stderr.write(f"{last}\n")
    with atomic_write(GREEN) as stream:
        stream.write(state)
