"""Requests to another server: where they go, what they leave behind, and where a line ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, StreamingResponse

from medllm.engines.base import EngineDown, GenerateRequest, Sampling
from medllm.engines.servers.address import AddressEngine
from medllm.engines.servers.http import Lines, Requests, lines_of
from medllm.engines.servers.openai import OpenAIEngine
from medllm.serve.server import running_server

SAID = "fever\u2028cough\u0085\u2029rash\x0b\x1c"
"""With all that Python calls a line's end and JSON may leave as it is."""


def other() -> FastAPI:
    app = FastAPI()
    app.state.end_answers = lambda: None
    app.state.count_error = lambda status: None
    app.state.asked = []

    @app.get("/v1/models")
    def list_models() -> Any:
        return {"data": [{"id": "theirs", "max_model_len": 100}]}

    @app.post("/v1/moved")
    def moved() -> RedirectResponse:
        return RedirectResponse("/v1/elsewhere", 307)

    @app.post("/v1/elsewhere")
    async def elsewhere(request: Request) -> dict[str, bool]:
        app.state.asked.append(await request.body())
        return {"taken": True}

    @app.post("/v1/completions")
    async def complete() -> StreamingResponse:
        return StreamingResponse(told(), media_type="text/event-stream")

    async def told() -> AsyncIterator[bytes]:
        for text, reason in ((SAID, None), ("", "stop")):
            choice = {"text": text, "finish_reason": reason}
            event = json.dumps({"choices": [choice]}, ensure_ascii=False)
            for byte in f"data: {event}\r\n\r\n".encode():
                yield bytes([byte])
            await asyncio.sleep(0.02)
        yield b"data: [DONE]"  # some servers end so

    return app


@pytest.fixture
def url() -> Iterator[str]:
    with running_server(app := other()) as address:
        yield f"{address}/v1"
    assert not app.state.asked


ASKED = GenerateRequest(prompt="?", sampling=Sampling(max_tokens=9))


def test_an_answer_is_whole_whatever_its_text_holds(url: str) -> None:
    async def read() -> str:
        return "".join([piece.text async for piece in OpenAIEngine(url).stream(ASKED)])

    assert asyncio.run(read()) == SAID
    engine = AddressEngine(url)
    assert "".join(piece.text for piece in engine.generate(ASKED)) == SAID
    engine.close()


def test_no_request_follows_to_a_place_that_nobody_named(url: str) -> None:
    async def ask() -> int:
        async with Requests(url, {}).post("/moved", {"prompt": "Zebulon Quackenbush"}) as told:
            return told.status

    assert asyncio.run(ask()) == 307


def test_whoever_leaves_at_any_moment_leaves_no_connection(url: str) -> None:
    requests = Requests(url, {})

    async def read() -> None:
        async with requests.post("/completions", {}) as told:
            async for _ in lines_of(told):
                pass

    async def leave(after: float) -> None:
        asked = asyncio.create_task(read())
        await asyncio.sleep(after)
        asked.cancel()
        await asyncio.wait([asked])

    async def leave_often() -> int:
        problems = list[Any]()
        asyncio.get_running_loop().set_exception_handler(lambda _, told: problems.append(told))
        before = count_sockets()
        await asyncio.gather(*(leave(number / 4000) for number in range(200)))
        await read()
        assert not problems
        for _ in range(100):  # the server, in this process, closes its ends in a while
            if count_sockets() <= before:
                break
            await asyncio.sleep(0.05)
        return count_sockets() - before

    assert asyncio.run(leave_often()) <= 0


def count_sockets() -> int:
    count = 0
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            count += "socket" in str(file.readlink())
    return count


def test_a_server_that_is_not_there_is_down(tmp_path: Path) -> None:
    async def ask(requests: Requests) -> None:
        async with requests.post("/x", {}):
            raise AssertionError

    for requests in (Requests("http://127.0.0.1:9", {}), Requests("http://e", {}, tmp_path / "s")):
        with pytest.raises(EngineDown):
            asyncio.run(ask(requests))


def test_a_line_ends_where_the_stream_says_so() -> None:
    lines, stream = Lines(), "a\u2028b\r\n\nç\n".encode()
    told = [line for byte in stream for line in lines.read(bytes([byte]))]
    assert told == Lines().read(stream) == ["a\u2028b", "", "ç"]
    assert lines.end() == []
    assert lines.read(b"rest") == [] and lines.end() == ["rest"]
