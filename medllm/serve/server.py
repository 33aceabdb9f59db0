"""An application on an address: the key, the socket, the running server, one question."""

import asyncio
import errno
import logging
import os
import secrets
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.errors import ConfigError, SetupError
from medllm.serve.config import ServeConfig, is_loopback

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI
    from uvicorn import Server

KEY_VARIABLE = "MEDLLM_API_KEY"
GRACE_SECONDS = 3  # how long a stopping server waits for the answers it is giving
START_SECONDS = 30.0
CONNECT_SECONDS = 10.0


def choose_key(config: ServeConfig, environ: Mapping[str, str]) -> str | None:
    """The key callers must send: the configured one, MEDLLM_API_KEY, none, or a fresh one.

    Raises:
        ConfigError: the address can be reached from other machines, and there would be no key.
    """
    key = config.api_key or environ.get(KEY_VARIABLE)
    if key:
        _check_key(key)
        return key
    if not config.no_auth:
        return secrets.token_urlsafe(32)
    if not is_loopback(config.host):
        raise ConfigError(
            f"refusing to serve without a key on {config.host}, which other machines can reach",
            f"leave out no_auth and set {KEY_VARIABLE}, or listen on 127.0.0.1",
        )
    return None


def _check_key(key: str) -> None:
    if not all("!" <= character <= "~" for character in key):
        raise ConfigError(
            "the API key holds characters that no HTTP header can carry",
            "use printable ASCII without spaces",
        )


@contextmanager
def bound_socket(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that holds the address; port 0 takes a free one.

    A taken port is so known before a model is loaded; nobody can connect before it listens.

    Raises:
        SetupError: the address is taken, not allowed or not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        if os.name == "posix":  # elsewhere it would let two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host.strip("[]"), port))
        except OSError as problem:
            raise _cannot_listen(host, port, problem) from problem
        yield sock


def _cannot_listen(host: str, port: int, problem: OSError) -> SetupError:
    fix = {
        errno.EADDRINUSE: "choose another port with --port; --port 0 takes any free one",
        errno.EACCES: "choose a port above 1023 with --port",
    }.get(problem.errno or 0, "choose an address of this machine with --host, such as 127.0.0.1")
    return SetupError(f"cannot listen on {host}:{port}: {problem.strerror or problem}", fix)


def base_url(sock: socket.socket) -> str:
    """The HTTP address of a bound socket."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_on(app: "FastAPI", sock: socket.socket) -> None:
    """Serve on a bound socket until Ctrl-C, which comes out as KeyboardInterrupt."""
    _build_server(app).run(sockets=[sock])


@contextmanager
def running_server(app: "FastAPI") -> Iterator[str]:
    """Serve from a thread meanwhile, on a free loopback port; yields the base URL.

    Raises:
        SetupError: the server did not start.
    """
    server = _build_server(app)
    with bound_socket("127.0.0.1", 0) as sock:
        url = base_url(sock)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        try:
            _await_start(server, thread)
            yield url
        finally:
            server.should_exit = True
            thread.join()


def _await_start(server: "Server", thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise SetupError("the server did not start", "see the lines above for the reason")
        time.sleep(0.01)


def _build_server(app: "FastAPI") -> "Server":
    from uvicorn import Config, Server

    config = Config(
        app,
        access_log=False,
        log_level="warning",
        log_config=LOG_CONFIG,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return Server(config)


class NoticeHandler(logging.Handler):
    """Sends uvicorn's warnings to the console."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record; an answer cut off by the server's own end is no news."""
        if not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)):
            console.notice(self.format(record))


class TextFreeFormatter(logging.Formatter):
    """Tells the place and type of an exception, but not its message, which may quote text."""

    def formatException(self, ei: Any) -> str:  # the name is logging's
        """The places of a traceback, without source or message."""
        kind, _, trace = ei
        places = [
            f"  {frame.filename}:{frame.lineno} in {frame.name}"
            for frame in traceback.extract_tb(trace)
        ]
        return "\n".join([*places, f"  {kind.__name__ if kind else 'no exception'}"])


LOG_CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"text_free": {"()": TextFreeFormatter, "fmt": "server: %(message)s"}},
    "handlers": {"notice": {"()": NoticeHandler, "formatter": "text_free"}},
    "loggers": {"uvicorn": {"handlers": ["notice"], "propagate": False}},
}


def ask(base_url: str, api_key: str | None, question: str, max_tokens: int) -> str:
    """The answer of a running server to one question; a plain continuation where it cannot chat.

    Raises:
        SetupError: the server refused, or could not answer.
    """
    import httpx

    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    logging.getLogger("httpx").setLevel(logging.WARNING)  # else it logs every request
    timeout = httpx.Timeout(CONNECT_SECONDS, read=None)  # a large model on a CPU takes its time
    # trust_env=False: a proxy of the environment must not get to see the question.
    with httpx.Client(
        base_url=base_url, headers=headers, timeout=timeout, trust_env=False
    ) as client:
        model = _checked(client.get("/v1/models"))["data"][0]["id"]
        body = {"model": model, "max_tokens": max_tokens}
        messages = [{"role": "user", "content": question}]
        response = client.post("/v1/chat/completions", json=body | {"messages": messages})
        if _error_code(response) == "no_chat_template":
            response = client.post("/v1/completions", json=body | {"prompt": question})
        choice = _checked(response)["choices"][0]
        return str(choice["message"]["content"] if "message" in choice else choice["text"])


def _error_code(response: "httpx.Response") -> str | None:
    return None if response.is_success else response.json().get("error", {}).get("code")


def _checked(response: "httpx.Response") -> Any:
    if not response.is_success:
        message = response.json().get("error", {}).get("message", response.reason_phrase)
        raise SetupError(
            f"the server answered {response.status_code}: {message}",
            "check the key, the length of the question and the memory of this machine",
        )
    return response.json()
