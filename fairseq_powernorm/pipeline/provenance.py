"""What a record says of its surroundings: commit, hardware, versions."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
from pathlib import Path

from .configuration import IN_CLONE, ROOT

PACKAGES = ("fairseq-powernorm", "fairseq-fixed", "torch", "numpy", "sacrebleu", "sentencepiece", "hydra-core")
CODE = (".", ":(exclude)results")  # git's pathspecs of what a result can depend on


def commit() -> str:
    """The repository's short commit, with ``-dirty`` after it if tracked files differ from it; the version, as
    ``v0.1.0``, where a wheel was installed; ``unknown`` in a clone without git.

    What lies in results/ does not count: several benchmarks in a row rewrite it, and it changes no figure.
    """
    if not IN_CLONE:
        return f"v{versions()[PACKAGES[0]]}"
    git = ["git", "-C", str(ROOT)]
    try:
        short = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *CODE], capture_output=True, check=False)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return short.stdout.strip() + ("-dirty" if changes.returncode else "")


def processor() -> str:
    """The processor's model name."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", cpuinfo.read_text(encoding="utf-8")) if cpuinfo.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def hardware() -> str:
    """The CUDA devices, or else the processor and the number of cores."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{processor()}, {os.cpu_count()} cores"


def description() -> str:
    """What ``--version`` says: this package, its commit, what a result depends on, and what computes on the CPU."""
    found = versions()
    own = found.pop(PACKAGES[0], "not installed")
    others = ", ".join(f"{name} {version}" for name, version in found.items())
    compiled = importlib.util.find_spec("fairseq_powernorm.kernels._cpu") is not None
    cpu = "compiled kernels" if compiled else "plain torch (built without torch or a C++ compiler)"
    return f"fairseq_powernorm {own} ({commit()}); {others}; on the CPU: {cpu}"


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
