"""Runs Python programs, each in a fork of this process, which has imported torch and fairseq already: that takes 4 s.

A request is a line of JSON on standard input: the words behind ``python`` (``-m MODULE …`` or ``SCRIPT …``), the
folder, the environment, the file that the program reads, and those that take what it prints. The answer is a line with
its exit status. Nothing of this project is imported here: each program does that itself.
"""

import json
import logging
import os
import runpy
import sys

import fairseq.tasks  # noqa: F401
import torch._dynamo  # noqa: F401 (which an optimizer imports)

for line in sys.stdin:
    request = json.loads(line)
    if child := os.fork():
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()
        continue
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for descriptor, (path, flags) in enumerate(
        [(request["stdin"], os.O_RDONLY), (request["stdout"], os.O_WRONLY), (request["stderr"], os.O_WRONLY)]
    ):
        os.dup2(os.open(path, flags), descriptor)
    logging.root.handlers.clear()  # fairseq's commands set up logging before they import fairseq
    words = request["words"]
    sys.orig_argv = [sys.executable, *words]
    if words[0] == "-m":
        sys.argv, sys.path[0] = words[1:], os.getcwd()
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = words, os.path.dirname(words[0])
        runpy.run_path(words[0], run_name="__main__")
    sys.exit()
