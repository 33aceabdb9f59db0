"""An application on an address: the key, the socket, the running server, one question."""

import asyncio
import errno
import logging
import os
import re
import secrets
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.errors import ConfigError, SetupError
from medllm.places import is_loopback
from medllm.serve.callers.callers import Callers
from medllm.serve.callers.keys import KeyRing
from medllm.serve.callers.proxy import Proxies
from medllm.serve.config import ServeConfig
from medllm.serve.tls import Tls

if TYPE_CHECKING:
    from fastapi import FastAPI
    from uvicorn import Server

KEY_VARIABLE = "MEDLLM_API_KEY"
CONNECT_SECONDS = 10.0
CANNOT_LISTEN: dict[int | None, str] = {
    errno.EADDRINUSE: "choose another port with --port; --port 0 takes any free one",
    errno.EACCES: "choose a port above 1023 with --port",
}
OTHER_HOST = "choose an address of this machine with --host, such as 127.0.0.1"


def choose_callers(config: ServeConfig, environ: Mapping[str, str], ring: KeyRing) -> Callers:
    """Who may ask: holders of the one key, which is configured or in MEDLLM_API_KEY, and of `ring`.

    And users whom a proxy names. Where there are none of these a fresh key is made, or nobody is
    asked for one (`no_auth`).

    Raises:
        ConfigError: the address can be reached from other machines, and there would be no key; or
            the keys of `ring` cannot be read.
    """
    key, pages = config.api_key or environ.get(KEY_VARIABLE) or None, config.allow_origins
    if key and not re.fullmatch(r"[!-~]+", key):
        raise ConfigError(
            "the API key holds characters that no HTTP header can carry",
            "use printable ASCII without spaces",
        )
    proxies = None
    if config.user_header:
        proxies = Proxies(config.user_header, tuple(map(ip_network, config.trusted_proxies)))
    if key or proxies or ring.all_keys():
        return Callers(key, ring, pages, proxies)
    if config.no_auth and not is_loopback(config.host):
        raise ConfigError(
            f"refusing to serve without a key on {config.host}, which other machines can reach",
            f"leave out --no-auth and set {KEY_VARIABLE}, or listen on 127.0.0.1",
        )
    return Callers(None if config.no_auth else fresh_key(), None if config.no_auth else ring, pages)


def fresh_key() -> str:
    """A key of 256 random bits."""
    return secrets.token_urlsafe(32)


@contextmanager
def bound_socket(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that holds the address; port 0 takes a free one.

    A taken port is so known before a model is loaded; nobody can connect before it listens.

    Raises:
        SetupError: the address is taken, not allowed or not one of this machine.
    """
    with _explained(host, port):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # named TCP, else asyncio leaves Nagle's algorithm on, and the end of an answer waits for
        # the client's delayed acknowledgement: 40 ms
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    with sock:
        with _explained(host, port):
            if os.name == "posix":  # elsewhere it would let two servers share a port
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host.strip("[]"), port))
        yield sock


def listen(sock: socket.socket) -> None:
    """Let clients connect from here on.

    Raises:
        SetupError: another server has begun to listen on the same port meanwhile.
    """
    host, port = sock.getsockname()[:2]
    with _explained(host, port):
        sock.listen()


@contextmanager
def _explained(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        message = f"cannot listen on {host}:{port}: {problem.strerror or problem}"
        raise SetupError(message, CANNOT_LISTEN.get(problem.errno, OTHER_HOST)) from problem
    except (UnicodeError, TypeError) as problem:  # too long a part of a name, or none; a NUL
        raise SetupError(f"{host[:80]!r} is no name or address of a host", OTHER_HOST) from problem


def base_url(sock: socket.socket, scheme: str = "http") -> str:
    """The HTTP address of a bound socket."""
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


@contextmanager
def running_server(app: "FastAPI") -> Iterator[str]:
    """Serve from a thread meanwhile, on a free loopback port; yields the base URL.

    Raises:
        SetupError: the server did not start.
    """
    server = build_server(app)
    with bound_socket("127.0.0.1", 0) as sock, _in_thread(server, sock) as ended:
        while not server.started and not ended.is_set():
            time.sleep(0.01)
        if not server.started:
            raise SetupError("the server did not start", "see the lines above for the reason")
        yield base_url(sock)


def run_server(server: "Server", sock: socket.socket) -> None:
    """Answer until Ctrl-C, which comes out as KeyboardInterrupt.

    In a notebook, whose thread runs an event loop already, the server gets a thread of its own.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # there is none
        server.run([sock])
        return
    with _in_thread(server, sock) as ended:
        ended.wait()


@contextmanager
def _in_thread(server: "Server", sock: socket.socket) -> Iterator[threading.Event]:
    """Answer in a thread meanwhile, and let it end; yields what is set when it has ended.

    To wait for the thread itself will not do: before Python 3.13 one whose `join` was interrupted
    counts as ended.
    """
    ended = threading.Event()

    def answer() -> None:
        try:
            server.run([sock])
        finally:
            ended.set()

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield ended
    finally:
        server.should_exit = True
        thread.join()


def build_server(app: "FastAPI", tls: Tls | None = None) -> "Server":
    """The server, for `run_server`."""
    from uvicorn import Config

    from medllm.serve.connections import Connection, OrderlyServer, max_connections

    _log_as_notices()
    config = Config(
        app,
        http=Connection,
        backlog=max_connections(),  # as many are accepted before the first is counted
        access_log=False,
        log_level="warning",
        log_config=None,  # one would close the handlers of all loggers, the caller's too
        server_header=False,
        proxy_headers=False,
        ws="none",
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )
    return OrderlyServer(config, app.state.end_answers)


class TextFreeNotices(logging.Handler):
    """Sends uvicorn's warnings to the console.

    Of an exception they tell the place and type, but not the message, which may quote text.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record; an answer cut off by the server's own end is no news."""
        lines = [f"server: {record.getMessage()}"]
        if record.exc_info and record.exc_info[0]:
            kind, _, trace = record.exc_info
            if issubclass(kind, asyncio.CancelledError):
                return
            frames = traceback.extract_tb(trace)
            lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
            lines.append(f"  {kind.__name__}")
        console.notice("\n".join(lines))


def _log_as_notices() -> None:
    for name in ("uvicorn", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [TextFreeNotices()]
        logger.propagate = False
        logger.setLevel(logging.WARNING)


def ask(base_url: str, api_key: str | None, question: str, max_tokens: int) -> str:
    """The answer of a running server to one question; a plain continuation where it cannot chat.

    Raises:
        SetupError: the server refused, or could not answer.
    """
    import httpx

    def checked(response: httpx.Response) -> Any:
        content = response.json()
        if not response.is_success:
            raise SetupError(
                f"the server answered {response.status_code}: {content['error']['message']}",
                "check the key, the length of the question and the memory of this machine",
            )
        return content

    logging.getLogger("httpx").setLevel(logging.WARNING)  # else it logs every request
    # trust_env=False: a proxy of the environment must not get to see the question.
    with (
        _answering(),
        httpx.Client(
            base_url=f"{base_url}/v1/",
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(
                CONNECT_SECONDS, read=None
            ),  # a large model on a CPU takes its time
            trust_env=False,
        ) as client,
    ):
        model = checked(client.get("models"))["data"][0]["id"]
        body = {"model": model, "max_tokens": max_tokens}
        messages = [{"role": "user", "content": question}]
        response = client.post("chat/completions", json=body | {"messages": messages})
        if response.is_error and response.json()["error"]["code"] == "no_chat_template":
            response = client.post("completions", json=body | {"prompt": question})
        choice = checked(response)["choices"][0]
        return str(choice["message"]["content"] if "message" in choice else choice["text"])


@contextmanager
def _answering() -> Iterator[None]:
    from httpx import HTTPError

    try:
        yield
    except HTTPError as problem:  # its message may name the address, but no text
        message = f"the server did not answer: {problem or type(problem).__name__}"
        raise SetupError(message, "see the lines above for the reason; is it running?") from problem
