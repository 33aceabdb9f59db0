"""`medllm` as it is typed: in this process (the fixture `typed`), or in one of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

Ended = CompletedProcess[str]
"""How a command ended: its exit code, and what it printed."""
Typed = Callable[..., Ended]
COMMAND = (sys.executable, "-m", "medllm")
QUIET = {"OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}


def run_alone(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> Ended:
    """The command in a process of its own: seconds of imports, so only where that is the point."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **QUIET, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
