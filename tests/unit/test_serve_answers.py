"""What a request asks for comes back, or a refusal says why: several answers, limits, extras."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from medllm.clinical.settings import ReviewSettings
from medllm.data.example import read_jsonl
from medllm.engines.fake import FakeEngine

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from medllm.serve.answering import Around  # noqa: E402
from medllm.serve.app import build_app  # noqa: E402
from medllm.serve.audit.record import open_log  # noqa: E402
from medllm.serve.callers.callers import Callers  # noqa: E402
from medllm.serve.callers.keys import Caller, KeyRing  # noqa: E402
from medllm.serve.guard import Guard  # noqa: E402

CHAT, COMPLETE = "/v1/chat/completions", "/v1/completions"
TURNS = [{"role": "user", "content": "Hi"}]


def app_of(engine: Any = None, around: Around | None = None, callers: Callers | None = None) -> Any:
    return build_app(
        engine or FakeEngine(context_length=500), model_id="m", callers=callers or Callers(),
        max_tokens=99, around=around,
    )  # fmt: skip


def send(app: Any, path: str, body: Any, key: str = "") -> Any:
    async def ask() -> Any:
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post(path, json=body, headers=headers)

    return asyncio.run(ask())


def answered(path: str = CHAT, app: Any = None, **body: Any) -> dict[str, Any]:
    asked = ({"messages": TURNS} if path == CHAT else {"prompt": "Hi"}) | body
    response = send(app or app_of(), path, asked)
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    return told


def refused(path: str = CHAT, app: Any = None, **body: Any) -> dict[str, Any]:
    asked = ({"messages": TURNS} if path == CHAT else {"prompt": "Hi"}) | body
    response = send(app or app_of(), path, asked)
    assert response.status_code == 400, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


def test_each_prompt_gets_its_answers_in_order() -> None:
    told = answered(COMPLETE, prompt=["a", "bb"], n=2, max_tokens=20, seed=1)
    assert [each["index"] for each in told["choices"]] == [0, 1, 2, 3]
    texts = ["You said: a", "You said: a", "You said: bb", "You said: bb"]
    assert [each["text"] for each in told["choices"]] == texts
    # a prompt is read once, however many answers it gets
    assert told["usage"]["prompt_tokens"] == (1 + 1) + (1 + 2)
    assert told["usage"]["completion_tokens"] == sum(map(len, texts))


def test_several_answers_are_streamed_one_after_another() -> None:
    body = {"messages": TURNS, "n": 2, "stream": True, "stream_options": {"include_usage": True}}
    lines = send(app_of(), CHAT, body).text.split("\n\n")
    assert lines[-2] == "data: [DONE]"
    *events, usage = [json.loads(line[6:]) for line in lines[:-2]]
    texts = ["", ""]
    for event in events:
        (choice,) = event["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == ["You said: Hi"] * 2
    assert usage["usage"]["completion_tokens"] == 24


def test_one_request_gets_a_bounded_number_of_answers() -> None:
    assert refused(COMPLETE, prompt=["a"] * 65, n=2)["param"] == "n"
    assert refused(COMPLETE, prompt=["a"] * 129)["param"] == "prompt"
    assert refused(n=0)["param"] == "n"


def test_each_answer_is_reviewed_and_has_its_line(tmp_path: Path) -> None:
    log = open_log(tmp_path, "m")
    app = app_of(around=Around(guard=Guard(ReviewSettings()), audit=log))
    bad = "Take warfarin 5 mg and ibuprofen 400 mg daily."
    told = answered(COMPLETE, app, prompt=["Rest.", bad], max_tokens=90)
    log.close()
    first, second = (each["safety_report"]["risk_level"] for each in told["choices"])
    assert (first, second > 0) == (0, True)
    assert told["safety_report"]["risk_level"] == second  # beside all, the worst of them
    lines = [line for path in tmp_path.glob("*.jsonl") for line in read_jsonl(path)]
    mine = [line for line in lines if line["event"] == "answer"]
    assert {line["id"] for line in mine} == {told["id"].removeprefix("cmpl-")}
    assert sorted(line["choice"] for line in mine) == [0, 1]


def test_a_key_that_may_ask_twice_a_minute_gets_two_answers(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys.json")
    key = ring.add(Caller(name="ward", requests_per_minute=2))
    app = app_of(callers=Callers(None, ring))
    assert send(app, CHAT, {"messages": TURNS, "n": 3}, key).status_code == 429
    assert send(
        app_of(callers=Callers(None, ring)), CHAT, {"messages": TURNS, "n": 2}, key
    ).is_success


def test_more_tokens_than_there_are_is_clamped_and_said() -> None:
    told = answered(max_tokens=10**30)
    assert told["clamped"] == {"max_tokens": 99}
    room = answered(COMPLETE, prompt="x" * 450, max_tokens=80)
    assert room["clamped"] == {"max_tokens": 49} and room["usage"]["completion_tokens"] == 49
    assert room["choices"][0]["finish_reason"] == "length"
    assert "clamped" not in answered(max_tokens=99) and "clamped" not in answered()
    body = {"messages": TURNS, "max_completion_tokens": 100, "stream": True}
    events = send(app_of(), CHAT, body).text.split("\n\n")
    assert json.loads(events[-3][6:])["clamped"] == {"max_tokens": 99}


def test_embeddings_are_refused_with_the_reason() -> None:
    response = send(app_of(), "/v1/embeddings", {"input": "a", "model": "m"})
    assert response.status_code == 400
    assert "compare texts" in response.json()["error"]["message"]


def test_health_names_nothing() -> None:
    async def ask() -> Any:
        transport = httpx.ASGITransport(app_of(callers=Callers("key")))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return (await client.get("/health")).json()

    told = asyncio.run(ask())
    assert (told["status"], told["model_loaded"]) == ("ok", True)
    assert told.keys() == {"status", "model_loaded", "gpu_available"}
