"""Child processes end with their parent, and SIGTERM is answered where Python lets us."""

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from medllm.finetune.train.sigterm import answer_sigterm
from medllm.models.children import following

PARENT = """
import subprocess, sys
from medllm.models.children import following
waits = "import signal; print('on', flush=True); signal.pause()"
child = subprocess.Popen(following([sys.executable, "-c", waits]), stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
input()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_with_its_parent(how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        ended = os.pidfd_open(child)
        parent.send_signal(how)
        assert select.select([ended], [], [], 10)[0], "the child lives on"
        os.close(ended)


def test_a_child_runs_as_it_would_by_itself(tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['SAID'], sys.argv[1:]); sys.exit(3)"
    done = subprocess.run(
        following([sys.executable, "-c", code, "a b", "é"]),
        env={**os.environ, "SAID": "x"}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (3, "x ['a b', 'é']\n")


def test_sigterm_is_answered_in_the_main_thread_and_given_back() -> None:
    def handler(*_: Any) -> None: ...

    before = signal.getsignal(signal.SIGTERM)
    assert answer_sigterm(handler) is before
    assert signal.getsignal(signal.SIGTERM) is handler
    assert answer_sigterm(before) is handler
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_another_thread_nothing_happens() -> None:
    found: list[Any] = ["not run"]

    def ask() -> None:
        found[:] = [answer_sigterm(signal.SIG_IGN), answer_sigterm(None)]

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()

    assert found == [None, None]
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN
