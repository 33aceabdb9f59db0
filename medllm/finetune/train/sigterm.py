"""Who answers SIGTERM while a training runs."""

import signal
import threading
from typing import Any


def answer_sigterm(handler: Any) -> Any:
    """Let `handler` answer SIGTERM; returns the one that did before, to be given back.

    Outside the main thread, as in a notebook's worker, Python lets nobody do so: then nothing
    happens and None is returned, and None that is given back changes nothing.
    """
    if handler is None or threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, handler)
