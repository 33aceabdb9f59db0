"""A server that runs in the main thread, as `serve` does, until somebody has asked it."""

import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

SECONDS = 60
"""The longest that a tiny model takes to be served."""


@contextmanager
def interrupted_once_served(
    capfd: pytest.CaptureFixture[str], ask: Callable[[str, str], None]
) -> Iterator[None]:
    """Call `ask` with the address once it is told, and all that was printed; then press Ctrl-C."""

    def ask_and_interrupt() -> None:
        printed, pause = "", threading.Event()
        for _ in range(SECONDS * 20):
            printed += "".join(capfd.readouterr())
            if "Ctrl-C stops" in printed:
                break
            pause.wait(0.05)
        try:
            (url,) = re.findall(r"^address +(.*)$", printed, re.MULTILINE)
            ask(url, printed)
        finally:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=ask_and_interrupt)
    thread.start()
    try:
        yield
    finally:
        thread.join()
