"""Runs Python programs, each in a fork of this process, which has imported torch and fairseq already: that takes 4 s.

A request is a line of JSON on standard input: a list of programs that run side by side, each with the words behind
``python`` (``-m MODULE …``, ``-c PROGRAM …`` or ``SCRIPT …``), the folder, the environment, the file that it reads, and
those that take what it prints. The answer is a line with their exit statuses. If one fails, the others are killed: they
may wait for it. Nothing of this project is imported here: each program does that itself.
"""

import atexit
import gc
import json
import logging
import os
import runpy
import signal
import sys
from typing import NoReturn

import fairseq.tasks  # noqa: F401
import torch._dynamo  # noqa: F401 (which an optimizer imports)


def statuses_of(children: list[int]) -> list[int]:
    """Those with which they end."""
    statuses: dict[int, int] = {}
    while len(statuses) < len(children):
        child, status = os.wait()
        statuses[child] = os.waitstatus_to_exitcode(status)
        if status:
            for other in set(children) - set(statuses):
                os.kill(other, signal.SIGKILL)
    return [statuses[child] for child in children]


def run(program: dict) -> None:
    """The program, as the whole of this process."""
    os.chdir(program["folder"])
    os.environ.clear()
    os.environ.update(program["environment"])
    for descriptor, (path, flags) in enumerate(
        [(program["stdin"], os.O_RDONLY), (program["stdout"], os.O_WRONLY), (program["stderr"], os.O_WRONLY)]
    ):
        os.dup2(os.open(path, flags), descriptor)
    logging.root.handlers.clear()  # fairseq's commands set up logging before they import fairseq
    words = program["words"]
    sys.orig_argv = [sys.executable, *words]
    sys.argv, sys.path[0] = words, os.getcwd()
    if words[0] == "-m":
        del words[0]
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        exec(words.pop(1), {"__name__": "__main__"})
    else:
        sys.path[0] = os.path.dirname(words[0])
        runpy.run_path(words[0], run_name="__main__")


def run_and_end(program: dict) -> NoReturn:
    """The program, and an end as Python's own, but for a second in which that takes down all modules."""
    status = 0
    try:
        run(program)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:
        status = 1
        sys.excepthook(*sys.exc_info())
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


gc.freeze()  # no fork has to search all this for garbage
for line in sys.stdin:
    children = []
    for program in json.loads(line):
        if not (child := os.fork()):
            run_and_end(program)
        children.append(child)
    sys.stdout.write(f"{json.dumps(statuses_of(children))}\n")
    sys.stdout.flush()
