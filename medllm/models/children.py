"""Child processes that end with this one, however it ends."""

import os
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
"""Of Linux' prctl(2): the signal that a process gets when its parent is gone; exec keeps it."""
FOLLOW = f"""
import ctypes, os, signal, sys
getattr(ctypes.CDLL(None), "prctl", lambda *_: 0)({PR_SET_PDEATHSIG}, signal.SIGKILL)
os.getppid() == int(sys.argv[1]) or sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def following(command: Sequence[str]) -> list[str]:
    """The command, begun so that it is killed when this process is (on Linux).

    It begins as a small Python program, since what Python would run between fork and exec is not
    safe where there are threads.
    """
    return [sys.executable, "-S", "-E", "-c", FOLLOW, str(os.getpid()), *command]
