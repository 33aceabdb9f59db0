"""Where this process connects to: what a server that keeps to itself must show."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

Made = tuple[int, Any]
"""A thread, and where it connected to: host and port, a path, or a name to look up."""
_watching: list[list[Made]] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        _watching[-1].append((threading.get_ident(), arguments[1]))
    if _watching and event == "socket.getaddrinfo":
        _watching[-1].append((threading.get_ident(), (arguments[0], arguments[1])))


sys.addaudithook(_note)  # for ever: there is no way to take it back


@contextmanager
def outgoing() -> Iterator[list[Made]]:
    """All connections that Python code makes meanwhile, in whatever thread."""
    made: list[Made] = []
    _watching.append(made)
    try:
        yield made
    finally:
        _watching.remove(made)


def places(made: list[Made], *askers: int) -> set[Any]:
    """Where all threads but those of the askers connected to."""
    found = (where for thread, where in made if thread not in askers)
    return {where if isinstance(where, str) else where[:2] for where in found if where}
