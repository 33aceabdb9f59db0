"""Requests to a server from an event loop, and the lines of what it streams.

aiohttp and not httpx, whose pool loses a connection whenever the one who waits is cancelled at the
wrong moment (https://github.com/encode/httpcore/issues/1093), as each client that leaves does.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm.engines.base import EngineDown

if TYPE_CHECKING:
    import aiohttp

CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Requests:
    """Asks one server, each time over a connection of its own.

    A kept one may be closed by the server just when it is used again, and the answer would be lost.
    """

    url: str
    """What all paths begin with."""
    headers: Mapping[str, str]
    """Sent with each request."""
    socket: Path | None = None
    """Where the server listens, if it is not a port."""

    @asynccontextmanager
    async def post(
        self, path: str, body: Mapping[str, Any]
    ) -> AsyncIterator["aiohttp.ClientResponse"]:
        """The response to a JSON body, of any status; who leaves the context ends the request.

        Raises:
            EngineDown: the server is not there, or is gone before all was read.
        """
        import aiohttp

        connector = aiohttp.UnixConnector(str(self.socket)) if self.socket else None
        patient = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        place = f"{self.url}{path}"
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=patient) as session,
                # elsewhere is a place that nobody named, and perhaps not on this machine
                session.post(place, json=body, headers=self.headers, allow_redirects=False) as told,
            ):
                yield told
        except aiohttp.ClientError as problem:
            raise EngineDown from problem


class Lines:
    r"""The lines of a stream, which end with \n alone.

    An answer may hold what Python also splits lines at, such as U+2028.
    """

    def __init__(self) -> None:
        self._rest = b""

    def read(self, chunk: bytes) -> list[str]:
        """The lines that end in the next bytes of the stream."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [line.decode().removesuffix("\r") for line in lines]

    def end(self) -> list[str]:
        """What the stream ended with, where that is no end of a line."""
        return self.read(b"\n") if self._rest else []


async def lines_of(told: "aiohttp.ClientResponse") -> AsyncGenerator[str, None]:
    """Each line of a streamed response once it is whole."""
    lines = Lines()
    async for chunk in told.content.iter_any():
        for line in lines.read(chunk):
            yield line
    for line in lines.end():
        yield line
