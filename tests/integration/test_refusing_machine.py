"""A machine that refuses what a command needs: standard output, the working folder, a count."""

import os
import subprocess
import sys

import pytest


def run(shell: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A shell line in which `$M` is the command."""
    command = f"{sys.executable} -m medllm"
    return subprocess.run(
        ["bash", "-c", shell], text=True, capture_output=True, check=False,
        env={**os.environ, "M": command, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ("$M datasets list > /dev/full", 5, "no space left on device"),
        ("$M --help > /dev/full", 5, "no space left on device"),
        ("mkdir g && cd g && rmdir ../g && $M prepare --dataset x", 5, "working folder is gone"),
        ("set -o pipefail; $M datasets list | true", 141, ""),
        ("set -o pipefail; $M --help | true", 141, ""),
        ("$M datasets list >&-", 0, ""),
        ("$M datasets list <&- >&- 2>&-", 0, ""),
        ("PYTHONIOENCODING=ascii $M datasets show pubmedqa", 0, ""),
        ("COLUMNS=wide $M datasets list", 0, ""),
        ("COLUMNS=-5 $M datasets list", 0, ""),
        ("LOCAL_RANK=y WORLD_SIZE=many RANK=x $M datasets list", 2, "WORLD_SIZE is not a number"),
    ],
)
def test_a_machine_that_refuses_gets_no_traceback(shell: str, code: int, said: str) -> None:
    ended = run(shell)

    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
    assert ended.returncode in {code, 0 if code == 141 else code}, ended.stderr
    assert said in ended.stderr
    if code in {2, 5}:
        assert len(ended.stderr.splitlines()) == 2
    elif code == 141:
        assert ended.stderr == ""
