"""A copy of the audit log for a syslog server (RFC 5424), without texts.

A copy only: what counts is on this disk. The numbers of the lines tell the receiver what it lacks.
"""

import os
import queue
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

from medllm import console
from medllm.errors import ConfigError, SetupError
from medllm.serve.audit.chain import Line, render_line

PRIORITY = 13 * 8 + 6
"""Facility "log audit", severity "informational" (RFC 5424, 6.2.1)."""
PORTS = {"udp": 514, "tcp": 601}
"""Where none is named: RFC 5426 and RFC 6587."""
SECONDS = 2.0
"""To connect, to send a line, and at the end for those that wait."""
MOST_WAITING = 10_000
FIX = "write it as unix:/dev/log, udp://HOST:514 or tcp://HOST:601"


class Syslog:
    """Sends lines from a thread of its own, so that no answer waits for the receiver."""

    def __init__(self, address: str) -> None:
        """Raises ConfigError where the address is none, SetupError where nobody is there."""
        self.address = address
        self._scheme, self._place = _read_address(address)
        self._socket: socket.socket | None = None
        self._waiting: queue.Queue[Line | None] = queue.Queue(MOST_WAITING)
        self.lost = 0
        """Lines that were not sent since it last could be reached."""
        try:
            self._socket = self._connect()
        except OSError as problem:
            message = f"syslog at {address} cannot be reached: {problem.strerror or problem}"
            raise SetupError(message, "start it, or leave out serve.audit_syslog") from problem
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def send(self, line: Line) -> None:
        """Send a line soon; where too many wait it is lost, and that is said."""
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            self._lose("too many lines wait for it")

    def close(self) -> None:
        """Send what waits, for a while, and close."""
        try:
            self._waiting.put(None, timeout=SECONDS)
        except queue.Full:
            return
        self._thread.join(SECONDS)

    def _run(self) -> None:
        while (line := self._waiting.get()) is not None:
            message = render_message(line)
            try:
                self._send(message)
            except OSError as problem:
                self._lose(problem.strerror or str(problem))
            else:
                self._tell_back()
        if self._socket:
            self._socket.close()

    def _send(self, message: bytes) -> None:
        """Send, over a new connection where there is none or the old one is broken."""
        content = b"%d %b" % (len(message), message) if self._scheme == "tcp" else message
        if self._socket:
            try:
                return self._socket.sendall(content)
            except OSError:
                self._socket.close()
                self._socket = None
        self._socket = self._connect()
        return self._socket.sendall(content)

    def _connect(self) -> socket.socket:
        if self._scheme == "tcp":
            return socket.create_connection(self._place, SECONDS)
        if self._scheme == "unix":
            family, place = socket.AF_UNIX, self._place
        else:
            host, port = self._place
            family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        connection = socket.socket(family, socket.SOCK_DGRAM)
        connection.settimeout(SECONDS)
        try:
            connection.connect(place)
        except OSError:
            connection.close()
            raise
        return connection

    def _lose(self, why: str) -> None:
        self.lost += 1
        if self.lost == 1:
            console.notice(f"syslog at {self.address}: {why}; lines of the audit log are not sent")

    def _tell_back(self) -> None:
        if self.lost:
            console.notice(f"syslog at {self.address} is back; it lacks {self.lost:,} lines")
            self.lost = 0


def render_message(line: Line) -> bytes:
    """A line as a message of RFC 5424 (6); encrypted texts are left out."""
    told = {key: value for key, value in line.items() if key != "text"}
    head = (
        f"<{PRIORITY}>1 {line['time']} {socket.gethostname() or '-'} medllm "
        f"{os.getpid()} {line['event'].replace(' ', '-')} - "
    )
    return head.encode("ascii", "replace") + render_line(told)


def _read_address(address: str) -> tuple[str, Any]:
    """The way and the place of a receiver; raises ConfigError."""
    parts = urlsplit(address)
    try:
        port = parts.port or PORTS.get(parts.scheme)
    except ValueError:
        port = None
    if parts.scheme == "unix" and parts.path and not parts.netloc:
        return "unix", parts.path
    if parts.scheme in PORTS and parts.hostname and port and not parts.path.strip("/"):
        return parts.scheme, (parts.hostname, port)
    raise ConfigError(f"no address of a syslog server: {address:.80}", FIX)
