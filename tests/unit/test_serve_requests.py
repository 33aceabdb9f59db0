"""No body, however odd, gets anything but an answer or a refusal in OpenAI's form."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medllm.engines.fake import FakeEngine
from medllm.serve.callers.callers import Callers
from medllm.serve.forms.strict import HARMLESS  # noqa: E402
from medllm.serve.server import build_server  # noqa: E402
from medllm.serve.wire import ChatRequest, CompletionRequest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("openai")
build_app = pytest.importorskip("medllm.serve.app").build_app

from openai.types import completion_create_params as completions  # noqa: E402
from openai.types.chat import completion_create_params as chats  # noqa: E402

OPENAI_FIELDS = {
    *chats.CompletionCreateParamsBase.__annotations__,
    *completions.CompletionCreateParamsBase.__annotations__,
}
"""All that the installed client of OpenAI can send, but for `stream`."""
CHAT, COMPLETE = "/v1/chat/completions", "/v1/completions"
TURN = {"role": "user", "content": "Hi"}
GOOD: dict[str, dict[str, Any]] = {
    CHAT: {"model": "m", "messages": [TURN]},
    COMPLETE: {"model": "m", "prompt": "Hi"},
}


class StrictEngine(FakeEngine):
    """Takes only text that can be encoded, as tokenizers do; 1,000 bytes of context."""

    def __init__(self) -> None:
        super().__init__(context_length=1000)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return super().encode(text.encode().decode(), add_special_tokens=add_special_tokens)


APP = build_app(StrictEngine(), model_id="m", callers=Callers(None), max_tokens=256)


def send(method: str, path: str, content: bytes = b"", **headers: str) -> Any:
    """The answer of the app, in this process; an exception that it lets through comes out."""

    async def ask() -> Any:
        transport = httpx.ASGITransport(APP)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, content=content, headers=headers)

    return asyncio.run(ask())


def post(path: str, body: Any) -> Any:
    return send("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode())


def refusal(response: Any, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    assert error["type"] == "invalid_request_error" and error["message"]
    return error


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**63, -(2**63) - 1, 10**39, 1.0, -0.0, 1e308, 5e-324, -1]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=()), max_size=8),
    st.sampled_from(["\ud83d", "\ude00\ud83d", "\0", "\x1b[2J", "\r\n", "m", "user", "<end>"]),
)
NAMES = st.text(max_size=8) | ODD.map(str)
# of any depth, as of `st.recursive`, which takes twice the time
VALUES: st.SearchStrategy[Any] = st.deferred(
    lambda: ODD | st.lists(VALUES, max_size=5) | st.dictionaries(NAMES, VALUES)
)
FIELDS = sorted({*GOOD[CHAT], *GOOD[COMPLETE], *OPENAI_FIELDS, "stream", "top_k", "tool_calls"})
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["user", "system", "developer", "assistant"]) | VALUES,
            "content": st.lists(
                st.fixed_dictionaries({"type": st.just("text") | VALUES, "text": VALUES}) | VALUES,
                max_size=3,
            )
            | VALUES,
            "name": VALUES,
            "tool_calls": VALUES,
        },
    )
    | VALUES,
    max_size=3,
)
BODIES = st.fixed_dictionaries(
    {}, optional={name: VALUES for name in FIELDS} | {"messages": MESSAGES | VALUES}
)


def check_answered(response: Any) -> None:
    if response.status_code == 200:
        assert response.text.endswith("data: [DONE]\n\n") or response.json()["usage"]
    else:
        refusal(response, 404 if response.status_code == 404 else 400)


@settings(max_examples=80, deadline=None)
@given(path=st.sampled_from([CHAT, COMPLETE]), body=BODIES)
def test_wrong_values_anywhere_are_refused(path: str, body: dict[str, Any]) -> None:
    check_answered(post(path, GOOD[path] | body))


@settings(max_examples=60, deadline=None)
@given(path=st.sampled_from([CHAT, COMPLETE]), name=st.sampled_from(FIELDS), value=VALUES)
def test_one_wrong_value_is_refused(path: str, name: str, value: Any) -> None:
    check_answered(post(path, GOOD[path] | {name: value}))


@settings(max_examples=60, deadline=None)
@given(path=st.sampled_from([CHAT, COMPLETE]), body=st.binary() | VALUES)
def test_whatever_is_no_request_is_refused(path: str, body: Any) -> None:
    assert refusal(post(path, body))["message"]


HALF = "\ud83d"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"messages": [TURN, TURN | {"content": f"ok? {HALF}"}]}, "messages.1.content"),
        (CHAT, {"messages": [TURN | {"content": [{"type": "text", "text": HALF}]}]}, None),
        (CHAT, {"messages": [TURN | {"role": HALF}]}, "messages.0.role"),
        (CHAT, {"stop": HALF}, "stop.0"),
        (CHAT, {"stop": ["a", "\ude00"]}, "stop.1"),
        (CHAT, {"model": HALF}, "model"),
        (CHAT, {"stream": True, "messages": [TURN | {"content": HALF}]}, "messages.0.content"),
        (COMPLETE, {"prompt": f"a{HALF}b"}, "prompt"),
        (COMPLETE, {"prompt": [HALF]}, "prompt"),
    ],
)
def test_half_an_emoji_is_refused(path: str, body: dict[str, Any], param: str | None) -> None:
    error = refusal(post(path, GOOD[path] | body))
    assert error["param"] == (param or "messages.0.content")


def test_a_whole_emoji_and_control_characters_are_text() -> None:
    content = "\U0001f600\0\x1b\x7f\u2028"
    response = post(CHAT, GOOD[CHAT] | {"messages": [TURN | {"content": content}]})
    assert response.json()["choices"][0]["message"]["content"] == f"You said: {content}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"model": "m", "prompt": "\xff"}', "not UTF-8 at byte 26"),
        ('{"model": "m", "prompt": "a"}'.encode("utf-16"), "not UTF-8"),
        (b'{"prompt": "\xed\xa0\xbd"}', "not UTF-8"),
        (b'{"temperature": NaN}', "NaN is no number"),
        (b'{"top_p": -Infinity}', "-Infinity is no number"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "5000 digits"),
        (b'{"prompt": "a", "prompt": "b"}', "prompt: stands twice"),
        (b'{"metadata": {"a": 1, "a": 1}}', "a: stands twice"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 50_000, "nested too deeply"),
        (b"null", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"model=m&prompt=a", "not JSON"),
        (b'{"a\\ud83d": 1}', "character 1 is half of a surrogate pair"),
        (b'{"metadata": {"\\ude00": 1}}', "character 0 is half of a surrogate pair"),
    ],
)
def test_bodies_that_are_no_json(content: bytes, message: str) -> None:
    assert message in refusal(post(COMPLETE, content))["message"]


@pytest.mark.parametrize("depth", [10, 300, 900, 1500, 5000])
@pytest.mark.parametrize(
    "name", ["metadata", "response_format", "tools", "messages", "stop", "prompt", "model"]
)
def test_depth_is_no_trouble(depth: int, name: str) -> None:
    others = {field: value for field, value in GOOD[CHAT].items() if field != name}
    for opened, closed in ((b"[", b"]"), (b'{"a":', b"}")):
        nested = opened * depth + b"1" + closed * depth
        body = json.dumps(others)[:-1].encode() + b', "%s": %s}' % (name.encode(), nested)
        check_answered(post(CHAT, body))


def test_a_byte_order_mark_is_no_fault() -> None:
    assert post(COMPLETE, b"\xef\xbb\xbf" + json.dumps(GOOD[COMPLETE]).encode()).is_success


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/json; a=b"]
)
def test_json_is_read_whatever_it_is_called(kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    assert send("POST", CHAT, json.dumps(GOOD[CHAT]).encode(), **headers).status_code == 200


@pytest.mark.parametrize(
    ("stop", "param"),
    [("x" * 1025, "stop.0"), ("x" * 100_000, "stop.0"), (list("abcde"), "stop"), ([""], "stop.0")],
)
def test_stop_strings_are_bounded(stop: Any, param: str) -> None:
    assert refusal(post(CHAT, GOOD[CHAT] | {"stop": stop}))["param"] == param
    assert post(CHAT, GOOD[CHAT] | {"stop": ["x" * 1024] * 4}).is_success


def test_prompts_are_refused_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("it was tokenized")

    monkeypatch.setattr(StrictEngine, "encode", never)
    long = "x" * 32_001
    for path in (CHAT, COMPLETE):
        body = {"messages": [TURN | {"content": long}]} if path == CHAT else {"prompt": long}
        error = refusal(post(path, {"model": "m"} | body))
        assert error["code"] == "context_length_exceeded"
    refusal(post(COMPLETE, GOOD[COMPLETE] | {"prompt": "x" * 10**6}), 413)


def test_long_prompts_are_counted_by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []

    def encode(self: FakeEngine, text: str, *, add_special_tokens: bool) -> list[int]:
        encoded.append(len(text))
        return [1] * (len(text) // 4)

    monkeypatch.setattr(StrictEngine, "encode", encode)
    error = refusal(post(COMPLETE, GOOD[COMPLETE] | {"prompt": "x" * 31_000}))
    assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
    assert max(encoded) == 2000 and len(encoded) < 6
    response = post(COMPLETE, GOOD[COMPLETE] | {"prompt": "x" * 3900})
    assert response.json()["usage"]["prompt_tokens"] == 975


def test_a_made_up_field_is_not_repeated_at_length() -> None:
    error = refusal(post(CHAT, GOOD[CHAT] | {"x" * 10_000: 1}))
    assert len(error["message"]) == len(error["param"]) == 300


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"store": True}, "store"),
        ({"max_tokens": 1.0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": 10**39}, "temperature"),
        ({"seed": 2**63}, "seed"),
        ({"n": 10**9}, "n"),
        ({"top_logprobs": 20}, "top_logprobs"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"stream": "yes"}, "stream"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, None),
    ],
)
def test_values_that_would_change_the_answer_are_refused(
    body: dict[str, Any], param: str | None
) -> None:
    error = refusal(post(CHAT, GOOD[CHAT] | body))
    assert error["param"] == (param or "stream_options.include_obfuscation")


@pytest.mark.parametrize(
    "body",
    [
        {"min_tokens": 0, "length_penalty": 1.0, "ignore_eos": False, "use_beam_search": False},
        {"chat_template_kwargs": {}, "extra_body": {}, "top_logprobs": 0, "logprobs": False},
        {"stream": True, "stream_options": {"continuous_usage_stats": False}},
        {"messages": [{"role": "user", "content": [
            {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]}]},
    ],
)  # fmt: skip
def test_what_clients_send_that_asks_for_nothing_is_accepted(body: dict[str, Any]) -> None:
    assert post(CHAT, GOOD[CHAT] | body).is_success


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("reasoning_effort", ""), ("web_search_options", ""), ("stop_words", ""),
        ("topP", "top_p"), ("maxTokens", "max_tokens"), ("repeat_penalty", "repetition_penalty"),
        ("patient", "patient_context"),
    ],
)  # fmt: skip
def test_a_field_is_taken_for_another_where_it_is_like_it(field: str, hint: str) -> None:
    asked = f"did you mean '{hint}'? if not, " if hint else ""
    said = f"{field}: not supported by this server; {asked}leave it out"
    assert refusal(post(CHAT, GOOD[CHAT] | {field: 1}))["message"] == said


def test_a_part_that_holds_an_unknown_field_names_it() -> None:
    part = {"type": "text", "text": "Hi", "colour": "red"}
    error = refusal(post(CHAT, {"messages": [{"role": "user", "content": [part]}]}))
    assert error["message"].startswith("messages.0.content: colour: not supported")


def test_every_field_of_the_client_is_honoured_refused_or_harmless() -> None:
    for path, form in ((CHAT, ChatRequest), (COMPLETE, CompletionRequest)):
        for name in OPENAI_FIELDS - form.model_fields.keys() - HARMLESS:
            error = refusal(post(path, GOOD[path] | {name: "odd"}))
            assert (error["param"], error["code"]) == (name, "unsupported_parameter")
            assert post(path, GOOD[path] | {name: None}).is_success
    for name in HARMLESS - ChatRequest.model_fields.keys():
        assert post(CHAT, GOOD[CHAT] | {name: "odd"}).is_success


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("HEAD", "/health", 200, None),
        ("HEAD", "/v1/models", 200, None),
        ("HEAD", CHAT, 405, "POST"),
        ("GET", CHAT, 405, "POST"),
        ("PUT", COMPLETE, 405, "POST"),
        ("DELETE", "/v1/models", 405, "GET, HEAD"),
        ("POST", "/health", 405, "GET, HEAD"),
        ("OPTIONS", CHAT, 204, "POST"),
        ("OPTIONS", "/v1/models/m", 204, "GET, HEAD"),
        ("GET", "/v1/models/m", 200, None),
        ("GET", "/v1/models/other", 404, None),
        ("GET", "/v1/models/", 200, None),
        ("GET", "/", 404, None),
        ("GET", "/v1", 404, None),
        ("POST", "/chat/completions", 404, None),
        ("GET", "/%0a%1b[2J", 404, None),
        ("PATCH", "/v1//models", 404, None),
    ],
)
def test_addresses_and_methods(method: str, path: str, status: int, allow: str | None) -> None:
    response = send(method, path)
    assert (response.status_code, response.headers.get("allow")) == (status, allow)
    if status >= 400 and method != "HEAD":
        refusal(response, status)
    if (path, status) != ("/v1/models/other", 404) and status == 404:
        assert "/v1/chat/completions" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "whose"),
    [
        ("/api/chat", "Ollama's"),
        ("/v1/messages", "Anthropic's"),
        ("/v1/responses", "OpenAI's newer"),
    ],
)
def test_clients_of_another_interface_are_told_so(path: str, whose: str) -> None:
    message = send("POST", path).json()["error"]["message"]
    assert message.startswith(f"{whose} interface is not spoken here; this server has /v1/chat/com")


def test_a_slash_at_the_end_makes_no_difference() -> None:
    assert post(f"{CHAT}/", GOOD[CHAT]).status_code == 200


ASKED = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


def test_pages_of_other_origins_are_denied() -> None:
    origin = {"Origin": "http://localhost:3000"}
    preflight = send("OPTIONS", CHAT, **origin, **ASKED)
    assert preflight.status_code == 204
    assert "access-control-allow-origin" not in preflight.headers
    for forbidden in ("http://localhost:3000", "https://evil.example", "null"):
        response = send("POST", CHAT, json.dumps(GOOD[CHAT]).encode(), Origin=forbidden)
        assert refusal(response, 403)["code"] == "origin_not_allowed"
    own = send("POST", CHAT, json.dumps(GOOD[CHAT]).encode(), Origin="http://localhost")
    assert own.status_code == 200 and "access-control-allow-origin" not in own.headers


def test_pages_of_named_origins_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    page = "http://localhost:3000"
    for key in (None, "secret"):
        app = build_app(
            StrictEngine(), model_id="m", callers=Callers(key, None, (page,)), max_tokens=9
        )
        monkeypatch.setitem(globals(), "APP", app)
        preflight = send("OPTIONS", CHAT, Origin=page, **ASKED)  # a browser sends no key with it
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == page
        assert preflight.headers["access-control-allow-headers"] == "authorization"
        body = json.dumps(GOOD[CHAT]).encode()
        response = send("POST", CHAT, body, Origin=page, Authorization="bearer secret")
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == page
        if key is None:
            refusal(send("POST", CHAT, body, Origin="http://localhost:3001"), 403)


def test_a_server_closes_no_log_of_its_caller(tmp_path: Path) -> None:
    own = logging.FileHandler(tmp_path / "notebook.log")
    try:
        build_server(APP)
        assert own.stream is not None and not own.stream.closed
    finally:
        own.close()
