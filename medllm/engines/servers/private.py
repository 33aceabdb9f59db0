"""A server of this process's own: on a socket that only this user can reach, with a random key."""

import importlib
import secrets
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from medllm.engines.base import EngineDown
from medllm.engines.servers.http import Requests
from medllm.engines.servers.process import START_SECONDS, Supervised
from medllm.errors import SetupError

ASK_SECONDS = 30.0
"""The longest that a request takes which writes no answer."""


class PrivateServer:
    """A supervised server on a socket in a folder of this user's (0700), and who asks it."""

    process: Supervised
    requests: Requests

    def __init__(self, name: str, key_variable: str, environ: Mapping[str, str]) -> None:
        """Nothing is started yet.

        Args:
            name: What a user knows it as.
            key_variable: The environment variable from which it takes the key that it asks for.
            environ: More for its environment.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="medllm-"))
        self.socket = self._folder / "engine.sock"
        self.key = secrets.token_urlsafe(32)
        self.requests = Requests("http://engine", self._keys, self.socket)
        self._name, self._environ = name, {**environ, key_variable: self.key}

    def start(self, command: Sequence[str]) -> None:
        """Start it, and return when it takes requests; the command tells it to listen at `socket`.

        Raises:
            SetupError: it ends, or does not become ready in time; its last lines say why.
        """
        importlib.import_module("aiohttp")  # takes time, which the first answer should not
        environ, socket = self._environ, self.socket
        self.process = Supervised(self._name, command, self._answers, environ, socket)
        try:
            self.process.start(START_SECONDS)
        except SetupError:
            self.close()
            raise

    def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """An `httpx.Response` to one request, for who waits in a thread.

        Raises:
            EngineDown: the server is not there now.
        """
        import httpx

        transport = httpx.HTTPTransport(uds=str(self.socket))
        try:
            with httpx.Client(
                transport=transport, headers=self._keys, timeout=ASK_SECONDS
            ) as client:
                return client.post(f"http://engine{path}", json=body)
        except httpx.HTTPError as problem:
            raise EngineDown from problem

    def close(self) -> None:
        """End the server and free what it held."""
        self.process.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _keys(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def _answers(self) -> bool:
        """Whether it says that it is well, without a client that would have to be closed."""
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.settimeout(5)
            probe.connect(str(self.socket))
            probe.sendall(b"GET /health HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n")
            return probe.recv(64).split()[1:2] == [b"200"]
        return False
