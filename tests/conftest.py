"""What several tests need: the repository's root, the real data, the norms and their running."""

import gc
import importlib
import json
import logging
import os
import shutil
import subprocess
import sys
from collections import Counter, namedtuple
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = ROOT.parent / "shared" / "data"


def pytest_configure(config):
    if not torch.cuda.is_available():  # before anything imports Triton
        os.environ.setdefault("TRITON_INTERPRET", "1")
    torch.set_num_threads(1)  # tiny tensors; more threads only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items):
    # Files with many slow tests first, so that no worker is left with one of them at the end.
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
    for item in items:
        if item.get_closest_marker("realdata") and not REAL_DATA.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"no real data: {REAL_DATA} does not exist"))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
        if item.get_closest_marker("slurm") and shutil.which("sbatch") is None:
            item.add_marker(pytest.mark.skip(reason="no Slurm (Debian's packages slurm-wlm and munge)"))


def pytest_collection_finish():
    gc.freeze()  # modules and tests stay to the end: no search for garbage has to go through them


def pytest_unconfigure():
    gc.unfreeze()  # or what Triton keeps in cycles is reported as leaked


@pytest.fixture
def limit_disk(monkeypatch):
    """``limit_disk(FREE)`` makes every disk look as if it had FREE bytes left."""
    usage = namedtuple("usage", "total used free")

    def limit(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**13, 10**13 - free, free))

    return limit


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    return REAL_DATA


@pytest.fixture(scope="session")
def run_programs(tmp_path_factory):
    """``run_programs([("-m", MODULE, ...), ("-c", PROGRAM, ...), (SCRIPT, ...)])``: ``subprocess.run`` of Python with
    these words, side by side, which ``fork_server.py`` starts without the seconds that importing fairseq takes.
    """
    folder = tmp_path_factory.mktemp("output of programs")
    server = subprocess.Popen(
        [sys.executable, ROOT / "tests" / "fork_server.py"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run(programs, cwd=ROOT, input=""):
        requests = []
        for number, words in enumerate(programs):
            paths = {name: str(folder / f"{name}{number}") for name in ("stdin", "stdout", "stderr")}
            for name, path in paths.items():
                Path(path).write_text(input if name == "stdin" else "", encoding="utf-8")
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            words = [str(word) for word in words]
            requests.append({"words": words, "folder": str(cwd), "environment": environment, **paths})
        server.stdin.write(f"{json.dumps(requests)}\n")
        server.stdin.flush()
        return [
            subprocess.CompletedProcess(
                words, status, *(Path(request[name]).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
            )
            for words, request, status in zip(programs, requests, json.loads(server.stdout.readline()), strict=True)
        ]

    yield run
    server.terminate()
    server.wait()


@pytest.fixture(scope="session")
def run_python(run_programs):
    """``run_python(*words)``: one of them."""
    return lambda *words, **options: run_programs([words], **options)[0]


@pytest.fixture(scope="session")
def run_ranks(run_programs):
    """``run_ranks(RANKS, FOLDER, *words)``: a program on so many ranks, started with its rank, their number, the file
    at which they meet and one to write to; what each wrote there with ``torch.save``.
    """

    def run(ranks, folder, *words):
        outputs = [folder / f"{ranks}_{rank}.pt" for rank in range(ranks)]
        store = folder / f"store_{ranks}"
        done = run_programs([(*words, rank, ranks, store, output) for rank, output in enumerate(outputs)])
        assert [each.returncode for each in done] == [0] * ranks, [each.stderr for each in done]
        return [torch.load(output) for output in outputs]

    return run


@pytest.fixture(scope="module")
def optional_package():
    """``optional_package(NAME)`` gives a module of the extra ``models``, or skips the test and says why.

    torchvision and torchaudio may be there, but built for another torch: transformers looks no further than that they
    are installed, and then fails with them. Such ones are hidden meanwhile.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    hidden = []
    for name in ("torchvision", "torchaudio"):
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        except Exception:  # whatever a library for another torch raises
            hidden.append(name)
            sys.modules[name] = None

    def find(name: str):
        try:
            return importlib.import_module(name)
        except ImportError as error:
            pytest.skip(f"{name}: {error}")

    yield find
    for name in hidden:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def log_level():
    """Python's own level before every test: fairseq's command line sets another for the whole process."""
    logging.getLogger().setLevel(logging.WARNING)
