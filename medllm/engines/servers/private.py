"""A server of this process's own: on a socket that only this user can reach, with a random key."""

import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medllm.engines.servers.process import START_SECONDS, Supervised
from medllm.errors import SetupError

ADDRESS = "http://engine"
"""How a request names the server behind the socket."""

ServingEngine = Literal["auto", "transformers", "llama_cpp", "llama_server", "vllm"]
"""What may run a model that is served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How a server runs, under the names that servers and their users know."""

    parallel: int | None = None
    """How many answers are written at once."""
    n_threads: int | None = None
    """Threads that compute; by default one for each processor."""
    n_gpu_layers: int | None = None
    """Layers on the GPU; by default as many as llama-server finds room for."""
    tensor_parallel_size: int | None = None
    """GPUs that share each layer."""
    pipeline_parallel_size: int | None = None
    """Groups of GPUs that have some of the layers each."""
    distributed_executor_backend: Literal["mp", "ray"] | None = None
    """What joins several GPUs; Ray also those of other machines."""
    gpu_memory_utilization: float | None = None
    """The share of each GPU's memory that is taken."""


class PrivateServer:
    """A supervised server on a socket in a folder of this user's (0700), and a client of it."""

    def __init__(
        self,
        name: str,
        command: Callable[[Path], Sequence[str]],
        key_variable: str,
        environ: Mapping[str, str],
        fix: str,
    ) -> None:
        """Nothing is started yet.

        Args:
            name: What a user knows it as.
            command: Makes the command line from the socket that it shall listen at.
            key_variable: The environment variable from which it takes the key that it asks for.
            environ: More for its environment.
            fix: What helps where it does not start.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="medllm-"))
        self.socket = self._folder / "engine.sock"
        self.key = secrets.token_urlsafe(32)
        self._client: Any = None
        self._fix = fix
        self.process = Supervised(
            name, command(self.socket), self._answers, {**environ, key_variable: self.key},
            self.socket,
        )  # fmt: skip

    def start(self) -> None:
        """Start it, and return when it takes requests.

        Raises:
            SetupError: it ends, or does not become ready in time; its last lines say why.
        """
        try:
            self.process.start(START_SECONDS)
        except SetupError as problem:
            self.close()
            raise SetupError(problem.message, self._fix) from problem

    @property
    def client(self) -> Any:
        """An `httpx.AsyncClient` for the event loop of whoever asks first."""
        import httpx

        if self._client is None:
            self._client = httpx.AsyncClient(
                base_url=ADDRESS,
                transport=httpx.AsyncHTTPTransport(
                    uds=str(self.socket),
                    limits=httpx.Limits(max_connections=None),  # the request queue bounds them
                ),
                headers={"Authorization": f"Bearer {self.key}"},
                timeout=None,
                trust_env=False,
            )
        return self._client

    async def disconnect(self) -> None:
        """Close the connections of this event loop; another one opens its own."""
        if self._client:
            await self._client.aclose()
            self._client = None

    def close(self) -> None:
        """End the server and free what it held."""
        self.process.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        import httpx

        with socket.socket(socket.AF_UNIX) as probe:  # httpx leaves one open that is refused
            if probe.connect_ex(str(self.socket)):
                return False
        transport = httpx.HTTPTransport(uds=str(self.socket))
        try:
            with httpx.Client(transport=transport, trust_env=False) as client:
                return client.get(f"{ADDRESS}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False
