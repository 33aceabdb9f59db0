"""A server in a process of its own: started, waited for, started again when it dies, stopped."""

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from medllm import console
from medllm.errors import SetupError

STOP_SECONDS = 10.0
START_SECONDS = 600.0
"""A large model is read from a slow disk within this time."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a server is started again; doubled each time it dies before it was ready."""
KEPT_LINES = 20
OF_LLAMA = "LLAMA_"
"""How the names of llama-server's settings in the environment begin: its rotary base, its chat
template, and whatever else would change answers of a model that was checked, or print prompts."""
_PR_SET_PDEATHSIG = 1


def _inherited() -> dict[str, str]:
    """The environment without llama-server's settings."""
    return {name: each for name, each in os.environ.items() if not name.startswith(OF_LLAMA)}


class Supervised:
    """A process that answers, or is started again.

    Its lines on stdout and stderr are read and thrown away but for the last ones, which tell why
    it died; a server that prints prompts must be told not to.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        is_ready: Callable[[], bool],
        environ: Mapping[str, str] | None = None,
        socket: Path | None = None,
    ) -> None:
        """`socket` is a file that the server listens at, and cannot listen at while it is there."""
        self.name = name
        self.starts = 0
        """How often it was started."""
        self._command, self._environ, self._is_ready = command, environ, is_ready
        self._socket = socket
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._process: subprocess.Popen[str] | None = None
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    @property
    def ready(self) -> bool:
        """Whether it takes requests."""
        has_died = self._process and self._process.poll() is not None
        return self._ready.is_set() and not has_died

    @property
    def pid(self) -> int | None:
        """Its number, while it runs."""
        return self._process.pid if self._process else None

    def start(self, timeout_s: float) -> None:
        """Start it, and return when it takes requests.

        Raises:
            SetupError: it ends or does not become ready in time; its last lines say why.
        """
        self._process = self._spawn()
        deadline = time.monotonic() + timeout_s
        while not self._becomes_ready(self._process, deadline):
            ended = self._process.poll() is not None
            self.stop()
            why = "ended at its start" if ended else f"was not ready within {timeout_s:.0f} s"
            raise SetupError(f"{self.name} {why}\n{self.last_lines}", "see its last lines above")
        self._watcher.start()

    def stop(self) -> None:
        """End it; one that does not end by itself is killed."""
        self._stopping.set()
        self._ready.clear()
        self._end()
        if self._watcher.is_alive():
            self._watcher.join()
            self._end()  # one that was just being started again

    @property
    def last_lines(self) -> str:
        """What it printed last; of one that has ended, to its end."""
        if self._process and self._process.poll() is not None:
            self._reader.join(1)
        return "\n".join(f"  {line}" for line in self._lines)

    def _spawn(self) -> "subprocess.Popen[str]":
        self.starts += 1
        self._lines.clear()
        if self._socket:
            self._socket.unlink(missing_ok=True)
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                env={**_inherited(), **(self._environ or {})},
                start_new_session=True,  # a Ctrl-C is for medllm, which ends it in order
                preexec_fn=_END.end_with_parent if _END else None,
            )
        except OSError as problem:
            message = f"{self._command[0]} cannot be started: {problem.strerror}"
            raise SetupError(message, "see that the file is there and may be run") from problem
        self._reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._reader.start()
        return process

    def _read(self, output: IO[str]) -> None:
        with output as lines:
            for line in lines:
                self._lines.append(line.rstrip())

    def _becomes_ready(self, process: "subprocess.Popen[str]", deadline: float) -> bool:
        while process.poll() is None and time.monotonic() < deadline:
            if self._stopping.is_set():
                return False
            if self._is_ready():
                self._ready.set()
                return True
            time.sleep(0.05)
        return False

    def _end(self) -> None:
        """End it, where it runs, and what it left running."""
        process = self._process
        if process and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process:
            with suppress(ProcessLookupError):  # workers in its session, which may hold a GPU
                os.killpg(process.pid, signal.SIGKILL)

    def _watch(self) -> None:
        """Start it again whenever it has died, with longer and longer pauses."""
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            assert self._process
            code = _wait(self._process)
            self._ready.clear()
            if self._stopping.is_set():
                return
            self._end()
            console.notice(f"{self.name} ended ({_told(code)}); it is started again")
            if self._stopping.wait(pause):
                return
            pause = min(2 * pause, LONGEST_PAUSE)
            try:
                self._process = self._spawn()
            except SetupError as problem:
                console.notice(f"{self.name}: {problem.message}")
                continue
            if self._becomes_ready(self._process, time.monotonic() + START_SECONDS):
                pause = FIRST_PAUSE
            elif not self._stopping.is_set():
                self._end()  # one that hangs


def _wait(process: "subprocess.Popen[str]") -> int:
    """The exit code, once it has ended; `poll` of another thread is not kept waiting meanwhile."""
    with suppress(ChildProcessError):  # it was polled first
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process.wait()


def _told(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


class _EndWithParent:
    """Asks Linux to end a child when its parent dies, even by SIGKILL (prctl(2))."""

    def __init__(self) -> None:
        self._prctl = ctypes.CDLL(None).prctl  # looked up before any fork

    def end_with_parent(self) -> None:
        """Called in the child between fork and exec."""
        self._prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


_END = _EndWithParent() if os.uname().sysname == "Linux" else None
