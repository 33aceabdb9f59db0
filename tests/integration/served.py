"""A server that runs in the main thread, as `serve` does, until somebody has asked it."""

import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from medllm import console

SECONDS = 60
"""The longest that a tiny model takes to be served."""


@contextmanager
def interrupted_once_served(
    capfd: pytest.CaptureFixture[str], ask: Callable[[str, str], None]
) -> Iterator[None]:
    """Call `ask` with the address once it is told, and all that was printed; then press Ctrl-C.

    What is printed is read once, when all is: of what comes while it is read some would be lost.
    """
    is_served, notice = threading.Event(), console.notice

    def note(text: str) -> None:
        notice(text)
        if "Ctrl-C stops" in text:
            is_served.set()

    def ask_and_interrupt() -> None:
        is_served.wait(SECONDS)
        printed = "".join(capfd.readouterr())
        try:
            (url,) = re.findall(r"^address +(.*)$", printed, re.MULTILINE)
            ask(url, printed)
        finally:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=ask_and_interrupt)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console, "notice", note)
        thread.start()
        try:
            yield
        finally:
            thread.join()
