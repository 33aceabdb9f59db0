"""Connections that misbehave, over real sockets: each is ended in time, and nobody else waits."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest

from medllm.engines.base import GenerateRequest, Piece
from medllm.engines.fake import FakeEngine
from medllm.serve.answering import Around
from medllm.serve.callers.callers import Callers
from medllm.serve.metrics import Metrics
from medllm.serve.server import ask, running_server

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
build_app = pytest.importorskip("medllm.serve.app").build_app
connections = pytest.importorskip("medllm.serve.connections")

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"


@contextmanager
def serving(engine: FakeEngine | None = None, metrics: Metrics | None = None) -> Iterator[str]:
    app = build_app(
        engine or FakeEngine(),
        model_id="m",
        callers=Callers(None),
        max_tokens=100_000,
        around=Around(metrics=metrics),
    )
    with running_server(app) as url:
        yield url


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def request(body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}"
    )
    return head.encode() + b"\r\n\r\n" + content


def read_all(sock: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    content = b""
    try:
        while more := sock.recv(65536):
            content += more
    except ConnectionResetError:
        pass
    return content


def error_of(answer: bytes, status: int) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status) and b"connection: close" in head.lower()
    error: dict[str, Any] = json.loads(body)["error"]
    return error


@pytest.mark.parametrize(
    "sent",
    [
        b"P",
        POST + b"X-A: b\r\n",
        request(CHAT)[:-1],
        POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nab",
    ],
    ids=["one byte", "headers", "body", "chunks"],
)
def test_half_a_request_is_closed(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.5)
    with serving() as url, connect(url) as sock:
        started = time.monotonic()
        sock.sendall(sent)
        assert "incomplete" in error_of(read_all(sock), 408)["message"]
        assert time.monotonic() - started < 5
        assert ask(url, None, "Hi", 20) == "You said: Hi"


def test_drop_by_drop_is_too_slow_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.5)
    with serving() as url, connect(url) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nX-A: ")
        with pytest.raises(OSError):
            while True:
                time.sleep(0.05)
                sock.sendall(b"a")


def test_silent_connections_are_closed_and_kept_ones_not_too_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.5)
    with serving() as url, connect(url) as silent:
        assert read_all(silent) == b""
    with serving() as url, connect(url) as kept:
        kept.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)  # pipelined
        answers = b""
        while answers.count(b'"status":"ok"') < 2:
            answers += kept.recv(4096) or pytest.fail("closed too soon")
        time.sleep(1)
        kept.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b'"status":"ok"' in read_all(kept)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /a\x1b[2J HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(sent: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with serving() as url, connect(url) as sock:
        sock.sendall(sent)
        assert "Invalid HTTP" in error_of(read_all(sock), 400)["message"]
    assert capfd.readouterr().err == "server: Invalid HTTP request received.\n"


def test_odd_bytes_while_an_answer_is_written_are_no_bug(capfd: pytest.CaptureFixture[str]) -> None:
    last = POST + b"Connection: close\r\n" + request(CHAT | {"stream": True}).removeprefix(POST)
    with serving(FakeEngine(seconds_per_piece=0.02)) as url:
        for late in (b"\0\0garbage\r\n\r\n", b"GET / HTTP/1.1\r\n"):
            for sent in (last, request(CHAT | {"stream": True})):
                with connect(url) as sock:
                    sock.sendall(sent)
                    assert b"200 OK" in sock.recv(65536)
                    sock.sendall(late)
                    time.sleep(0.1)
        assert ask(url, None, "Hi", 20) == "You said: Hi"
    assert set(capfd.readouterr().err.splitlines()) <= {"server: Invalid HTTP request received."}


class Burst(FakeEngine):
    """Has hundreds of pieces ready at once, when its client has gone."""

    parallel, is_ready = 4, True

    async def stream(self, request: GenerateRequest) -> Any:
        for _ in range(9):
            yield Piece("a" * 99, 1)
        await asyncio.sleep(0.1)
        time.sleep(0.5)  # the whole server is busy meanwhile
        for _ in range(500):
            yield Piece("a", 1)
        yield Piece("", 0, "stop")

    async def disconnect(self) -> None: ...


def test_what_is_written_to_a_client_that_left_fills_no_log(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with serving(Burst()) as url:
        for _ in range(3):
            with connect(url) as sock:
                sock.sendall(request(CHAT | {"stream": True}))
                assert b"200 OK" in sock.recv(100)  # what is left unread resets the connection
                time.sleep(0.3)
            time.sleep(0.6)
    assert not capfd.readouterr().err


def test_websockets_are_not_offered(capfd: pytest.CaptureFixture[str]) -> None:
    upgrade = {"Connection": "upgrade", "Upgrade": "websocket"}
    with serving() as url:
        assert httpx.get(f"{url}/health", headers=upgrade, trust_env=False).status_code == 200
    assert capfd.readouterr().err == ""


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    metrics = Metrics()
    with serving(metrics=metrics) as url:
        held = [connect(url) for _ in range(3)]
        time.sleep(0.3)
        response = httpx.get(f"{url}/health", trust_env=False)
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        assert response.json()["error"]["code"] == "server_busy"
        assert metrics.registry.get_sample_value("medllm_errors_total", {"status": "503"}) == 1
        held += [connect(url) for _ in range(3)]
        with connect(url) as one_too_many:
            assert read_all(one_too_many) == b""
        for sock in held:
            sock.close()
        time.sleep(0.3)
        assert httpx.get(f"{url}/health", trust_env=False).status_code == 200


class Talkative(FakeEngine):
    """Writes more than all buffers hold."""

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        for _ in range(400):
            yield Piece("x" * 50_000)
        yield Piece("", 0, "stop")


def test_a_client_that_never_reads_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STUCK_SECONDS", 0.5)
    with serving(Talkative()) as url, connect(url) as stuck, connect(url) as reading:
        stuck.sendall(request(CHAT | {"stream": True}))
        reading.sendall(request(CHAT | {"stream": True}))
        content = b""
        while b"data: [DONE]" not in content[-100:]:
            content += reading.recv(2**20) or pytest.fail("closed too soon")
        assert content.count(b"x" * 50_000) == 400
        time.sleep(1)
        assert b"data: [DONE]" not in read_all(stuck)


class LongPrompt(FakeEngine):
    """Reads its prompts in steps, half a minute long, but for short ones."""

    steps = 0

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        for _ in range(600 if len(request.prompt) > 1000 else 0):
            self.steps += 1
            time.sleep(0.05)
            yield Piece("", 0)
        yield from super().generate(request)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_while_its_prompt_is_read_frees_the_turn(stream: bool) -> None:
    engine = LongPrompt()
    long = {"messages": [{"role": "user", "content": "x" * 1500}], "stream": stream}
    with serving(engine) as url:
        for _ in range(3):  # one is being read, two wait for their turn
            with connect(url) as sock:
                sock.sendall(request(CHAT | long))
                time.sleep(0.2)
        started = time.monotonic()
        assert ask(url, None, "Hi", 20) == "You said: Hi"
        assert time.monotonic() - started < 3
    assert 0 < engine.steps < 60


def test_answers_of_many_clients_do_not_cross() -> None:
    with serving(FakeEngine(seconds_per_piece=0.001)) as url, ThreadPoolExecutor(24) as pool:
        questions = [f"question {number}" for number in range(24)]
        answers = pool.map(lambda question: ask(url, None, question, 100), questions)
        assert list(answers) == [f"You said: {question}" for question in questions]


SERVE = """
import signal, sys
from medllm.engines.fake import FakeEngine
from medllm.serve import connections, verb
from medllm.serve.config import ServeConfig
connections.GRACE_SECONDS[signal.SIGTERM] = float(sys.argv[1])
engine = FakeEngine(seconds_per_piece=0.1)
verb.serve(ServeConfig(model="m", port=0, no_auth=True), engine)
"""


@pytest.mark.parametrize(("grace", "is_whole"), [(30, True), (0.3, False)])
def test_sigterm_lets_answers_end(grace: float, is_whole: bool) -> None:
    arguments = [sys.executable, "-c", SERVE, str(grace)]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        url = process.stdout.readline().split()[1].removesuffix("/v1")
        with closing(connect(url)) as sock:
            sock.sendall(request(CHAT | {"stream": True}))
            begun = sock.recv(65536)
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            events = (begun + read_all(sock)).decode()
        process.wait(20)
        assert "Traceback" not in process.stderr.read()
    assert ("data: [DONE]" in events) == is_whole
    assert ("this answer is incomplete" in events) != is_whole


def test_the_thread_that_serves_ends_in_time() -> None:
    before = threading.active_count()
    with serving(FakeEngine(seconds_per_piece=0.05)) as url, connect(url) as sock:
        sock.sendall(request(CHAT)[:-5])
        started = time.monotonic()
    assert time.monotonic() - started < 10
    assert threading.active_count() <= before + 2  # the engine's two
