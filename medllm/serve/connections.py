"""Connections that nobody can hold for ever, and a server that ends in order.

uvicorn bounds neither the time that a request takes to arrive nor the number of connections.
"""

import asyncio
import resource
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from medllm import console
from medllm.serve.refusals import error_response
from medllm.serve.wire import ApiError

REQUEST_SECONDS = 30.0
"""For a request to arrive whole, headers and body, from its first byte or the connection on."""
STUCK_SECONDS = 60.0
"""For a client to take up an answer that fills all buffers."""
MAX_CONNECTIONS = 256
GRACE_SECONDS = {signal.SIGINT: 3.0, signal.SIGTERM: 30.0}
"""For the answers that a stopping server is giving; whoever presses Ctrl-C wants no more of them,
and Kubernetes waits for 30 s after SIGTERM."""
LAST_WORDS_SECONDS = 2.0  # to tell clients that their answer is cut


class Clock:
    """Does something when time is up; to start it again while it runs changes nothing."""

    def __init__(self, seconds: float, do: Callable[[], None]) -> None:
        self._seconds, self._do = seconds, do
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to count."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._do)

    def stop(self) -> None:
        """There was time enough."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Connection(H11Protocol):
    """A connection whose request must arrive, and whose answer must be taken up, in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection; beyond the bound it is told so, far beyond it is dropped."""
        super().connection_made(transport)
        self._arriving = Clock(REQUEST_SECONDS, self._give_up)
        self._stuck = Clock(STUCK_SECONDS, transport.abort)
        self._arriving.start()
        limit = max_connections()
        if len(self.connections) > limit:
            self.app = _refuse_busy
            self._count(503)
        if len(self.connections) > 2 * limit:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read on; the clock runs until the request is whole."""
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._arriving.stop()
        else:
            self._arriving.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._arriving.stop()
        self._stuck.stop()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client takes nothing up: the buffers are full."""
        super().pause_writing()
        self._stuck.start()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        self._stuck.stop()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, and close."""
        self._close(ApiError(400, msg))

    def _should_upgrade(self) -> bool:
        return False  # uvicorn would log advice to install WebSockets for every request

    def _give_up(self) -> None:
        has_begun = bool(self.conn.trailing_data[0]) or self.conn.their_state is h11.SEND_BODY
        message = f"the request was incomplete after {REQUEST_SECONDS:.0f} s"
        self._close(ApiError(408, message) if has_begun else None)

    def _close(self, error: ApiError | None) -> None:
        """Close, with an error for a client that waits for an answer and has got nothing of it."""
        if error and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send(error)
        self.transport.close()

    def _count(self, status: int) -> None:
        """Count an error that the application never sees."""
        app: Any = self.config.app
        app.state.count_error(status)

    def _send(self, error: ApiError) -> None:
        self._count(error.status)
        response = error_response(error)
        headers = [*response.raw_headers, (b"connection", b"close")]
        head = h11.Response(status_code=error.status, headers=headers)
        for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")


def max_connections() -> int:
    """How many connections are answered at once: a quarter of the files that may be open."""
    return max(1, min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))


async def _refuse_busy(scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"Retry-After": "5", "Connection": "close"}
    error = ApiError(503, "too many connections; try again later", "server_busy", headers=headers)
    await error_response(error)(scope, receive, send)


class OrderlyServer(Server):
    """A server that finishes what it is answering, for a while, before it ends."""

    def __init__(self, config: Config, end_answers: Callable[[], None]) -> None:
        super().__init__(config)
        self._end_answers, self._grace = end_answers, GRACE_SECONDS[signal.SIGINT]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second Ctrl-C ends at once."""
        self._grace = GRACE_SECONDS.get(signal.Signals(sig), self._grace)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more requests, and wait for the answers; then tell the clients of the rest."""
        if self.server_state.tasks:
            seconds = f"{self._grace:.0f} s"
            console.notice(f"server: waiting up to {seconds} for the answers that are running")
        asyncio.get_running_loop().call_later(self._grace, self._end_answers)
        self.config.timeout_graceful_shutdown = int(self._grace + LAST_WORDS_SECONDS)
        await super().shutdown(sockets)
