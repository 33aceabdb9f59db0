"""The clients of a soak: good ones, slow ones, and those that break off or send nonsense."""

import asyncio
import json
import os
import random
import signal
import socket
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

QUESTIONS = (
    "What causes a dry cough?", "Name a sign of anaemia.", "How is asthma treated?",
    "What is a stroke?", "Which vitamin prevents scurvy?", "What does the liver do?",
    "How long does influenza last?", "What is hypertension?", "Where is the femur?",
    "What is seen on a chest radiograph?", "What is insulin for?", "Why does the heart beat?",
)  # fmt: skip
CALLERS = ("ward-1", "ward-2", "ward-3", "ward-4")
KILLS = 3
TRIES = 60
"""Of one request: an engine that was killed is back within seconds."""


@dataclass(frozen=True)
class Got:
    """An answer, or what a client saw of one."""

    id: str
    caller: str
    question: str
    text: str
    is_whole: bool


@dataclass
class Soak:
    """The server that is asked, and what came of it."""

    url: str
    port: int
    keys: dict[str, str]
    model: str
    tokens: int
    client: httpx.AsyncClient
    expected: dict[tuple[str, str], str] = field(default_factory=dict)
    """The answer to each question, by the way it is asked, when nobody else asked."""
    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    got: list[Got] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    """Answers of others, and statuses that nothing explains."""

    def body(self, way: str, question: str, **more: Any) -> tuple[str, dict[str, Any]]:
        """The address and the body that ask a question."""
        if way == "plain":
            return "/generate", {"question": question, "max_length": self.tokens}
        asked = {"max_tokens": self.tokens, "model": self.model, **more}
        if way == "completion":
            return "/v1/completions", {**asked, "prompt": question}
        return "/v1/chat/completions", {
            **asked,
            "messages": [{"role": "user", "content": question}],
        }

    def headers(self, caller: str) -> dict[str, str]:
        """The key of a caller."""
        return {"Authorization": f"Bearer {self.keys[caller]}"}

    def raw(self, way: str, question: str, caller: str, **more: Any) -> bytes:
        """A request as bytes, for clients that do not keep to HTTP."""
        path, body = self.body(way, question, **more)
        return raw_request(path, json.dumps(body).encode(), self.keys[caller])

    def judge(self, kind: str, way: str, question: str, text: str) -> None:
        """Whether an answer is this question's."""
        if text == self.expected[way, question]:
            self.outcomes[kind]["right"] += 1
        elif text in {t for (w, _), t in self.expected.items() if w == way}:
            self.strange.append(f"{kind}: another question's answer to {question!r}")
            self.outcomes[kind]["another's answer"] += 1
        else:
            self.outcomes[kind]["differs"] += 1


def raw_request(path: str, body: bytes, key: str) -> bytes:
    """A POST of HTTP/1.1."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def text_of(way: str, answer: dict[str, Any]) -> str:
    """The text of an answer, or of a chunk of a stream."""
    if way == "plain":
        return str(answer["response"])
    choice = answer["choices"][0]
    if "text" in choice:
        return str(choice["text"])
    return str((choice.get("message") or choice.get("delta") or {}).get("content") or "")


async def patiently(soak: Soak, kind: str, ask: Callable[[], Awaitable[int | None]]) -> None:
    """Ask again while the server says that it cannot answer now."""
    for _ in range(TRIES):
        status = await ask()
        if status is None:
            return
        soak.outcomes[kind][str(status)] += 1
        if status not in (429, 503):
            soak.strange.append(f"{kind}: status {status}")
            return
        await asyncio.sleep(0.3)
    soak.strange.append(f"{kind}: never answered")


async def whole(soak: Soak, kind: str, question: str, caller: str) -> None:
    """A whole answer; the kind says by which address."""
    path, body = soak.body(kind, question)

    async def ask() -> int | None:
        response = await soak.client.post(path, json=body, headers=soak.headers(caller))
        if response.status_code != 200:
            return response.status_code
        answer = response.json()
        text = text_of(kind, answer)
        soak.judge(kind, kind, question, text)
        if "id" in answer:
            soak.got.append(Got(answer["id"], caller, question, text, True))
        return None

    await patiently(soak, kind, ask)


async def streamed(soak: Soak, kind: str, question: str, caller: str) -> None:
    """A streamed answer; `cut` hangs up after its first piece, `slow reader` takes its time."""
    path, body = soak.body("chat", question, stream=True)

    async def ask() -> int | None:
        seen, texts, is_whole = "", list[str](), False
        async with soak.client.stream(
            "POST", path, json=body, headers=soak.headers(caller)
        ) as response:
            if response.status_code != 200:
                return response.status_code
            async for line in response.aiter_lines():
                event = json.loads(line[6:]) if line.startswith("data: {") else {}
                if "error" in event:
                    return 503
                is_whole = is_whole or line == "data: [DONE]"
                if event:
                    seen = event["id"]
                    texts.append(text_of("chat", event))
                if kind == "cut" and "".join(texts):
                    break
                if kind == "slow reader":
                    await asyncio.sleep(0.05)
        text = "".join(texts)
        soak.got.append(Got(seen, caller, question, text, is_whole))
        if is_whole:
            soak.judge(kind, "chat", question, text)
        else:
            soak.outcomes[kind]["left" if kind == "cut" else "broken off"] += 1
            if kind != "cut":
                soak.strange.append(f"{kind}: broken off without an error")
        return None

    await patiently(soak, kind, ask)


@asynccontextmanager
async def connection(
    soak: Soak,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection with small buffers, closed without manners."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", soak.port))
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def slow_sender(soak: Soak, kind: str, question: str, caller: str) -> None:
    """A request that arrives a few bytes at a time, and its answer."""
    content = soak.raw("chat", question, caller)

    async def ask() -> int | None:
        async with connection(soak) as (reader, writer):
            for at in range(0, len(content), 40):
                writer.write(content[at : at + 40])
                await writer.drain()
                await asyncio.sleep(0.03)
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split()[1])
            if status != 200:
                return status
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            answer = json.loads(await reader.readexactly(length))
        text = text_of("chat", answer)
        soak.judge(kind, "chat", question, text)
        soak.got.append(Got(answer["id"], caller, question, text, True))
        return None

    await patiently(soak, kind, ask)


async def gone(soak: Soak, kind: str, question: str, caller: str) -> None:
    """A client that hangs up: within its request, at once after it, or after some of the answer."""
    content = soak.raw("chat", question, caller, stream=random.random() < 0.5)
    async with connection(soak) as (reader, writer):
        cut = {"cut within a request": len(content) // 2}.get(kind, len(content))
        writer.write(content[:cut])
        await writer.drain()
        if kind == "gone while it waits":
            await asyncio.sleep(random.random() / 20)
        if kind == "idle":
            await asyncio.sleep(0.5)
    soak.outcomes[kind]["left"] += 1


def refused_requests(key: str, n_ctx: int) -> dict[str, tuple[bytes, set[int]]]:
    """Requests that are refused, and the statuses that may come for them."""

    def chat(body: bytes, by: str = key) -> bytes:
        return raw_request("/v1/chat/completions", body, by)

    def text(length: int) -> bytes:
        message = {"role": "user", "content": "fever " * length}
        return json.dumps({"messages": [message]}).encode()

    return {
        "malformed JSON": (chat(b'{"messages": [{"role": "user"'), {400}),
        "nested JSON": (chat(b"[" * 100_000), {400}),
        "wrong types": (chat(b'{"messages": "hello", "max_tokens": -1}'), {400}),
        "unknown field": (chat(b'{"messages": [{"role": "user", "content": "a"}], "x": 1}'), {400}),
        "no UTF-8": (chat(b'{"messages": "\xff\xfe"}'), {400}),
        "wrong key": (chat(b"{}", "wrong"), {401}),
        "no such address": (raw_request("/v1/none", b"{}", key), {404}),
        "too long for the context": (chat(text(n_ctx)), {400}),
        "oversized body": (chat(text(1_000_000)), {413}),
        "no HTTP": (b"\x16\x03\x01\x02\x00hello\r\n\r\n", {400}),
        "endless header": (b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000, {400, 431}),
    }


async def refused(soak: Soak, kind: str, content: bytes, allowed: set[int]) -> None:
    """A request that the server must refuse, with the status that fits."""
    head = b""
    async with connection(soak) as (reader, writer):
        with suppress(ConnectionError):  # it may close before all has been sent
            writer.write(content)
            await writer.drain()
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    status = int(head.split()[1]) if head else 0
    soak.outcomes[kind][str(status) if status else "closed"] += 1
    if status and status not in allowed:
        soak.strange.append(f"{kind}: status {status}")


WAYS: tuple[tuple[int, str, Callable[..., Awaitable[None]]], ...] = (
    (28, "chat", whole), (8, "completion", whole), (6, "plain", whole), (26, "stream", streamed),
    (4, "slow reader", streamed), (4, "slow sender", slow_sender), (5, "cut", streamed),
    (3, "cut within a request", gone), (3, "gone at once", gone), (3, "gone while it waits", gone),
)  # fmt: skip
REFUSED_SHARE = 10
"""Of the requests, in percent, like the numbers above."""


async def ask_all(soak: Soak, requests: int, at_once: int, engine: Callable[[], int]) -> None:
    """All requests, so many at once; the engine is killed at each quarter."""
    bad = refused_requests(soak.keys[CALLERS[0]], 4096)
    weights = [each[0] for each in WAYS]
    numbers = iter(range(requests))

    async def ask() -> None:
        for number in numbers:
            if number and number % max(1, requests // (KILLS + 1)) == 0 and number < requests:
                with suppress(ProcessLookupError):
                    os.kill(engine(), signal.SIGKILL)
            if random.random() * 100 < REFUSED_SHARE:
                kind = random.choice(list(bad))
                await refused(soak, kind, *bad[kind])
                continue
            _, kind, way = random.choices(WAYS, weights)[0]
            await way(soak, kind, random.choice(QUESTIONS), random.choice(CALLERS))

    await asyncio.gather(*(ask() for _ in range(at_once)))


async def learn(soak: Soak) -> None:
    """The answer to each question, asked alone."""
    for way in ("chat", "completion", "plain"):
        for question in QUESTIONS:
            path, body = soak.body(way, question)
            response = await soak.client.post(path, json=body, headers=soak.headers(CALLERS[0]))
            response.raise_for_status()
            soak.expected[way, question] = text_of(way, response.json())
            if way != "plain":
                known = response.json()["id"]
                text = soak.expected[way, question]
                soak.got.append(Got(known, CALLERS[0], question, text, True))
