"""``python -IS die_with_parent.py PARENT PROGRAM ARGUMENT…`` becomes PROGRAM, which ends when its parent does.

A process whose parent is killed (SIGKILL, out of memory) lives on by itself, a torchrun worker forever. Linux sends
SIGTERM instead to whoever asked for it (``prctl(PR_SET_PDEATHSIG)``; the request survives ``execve``). PARENT is the
process that must still be the parent, or 0 where the caller cannot know it.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if int(sys.argv[1]) in (0, os.getppid()):  # else it died in the meantime
        os.execvp(sys.argv[2], sys.argv[2:])
