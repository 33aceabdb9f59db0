"""Functions that a model may call go through the door, and calls of them are answers like texts."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from medllm.clinical.settings import ReviewSettings
from medllm.data.example import read_jsonl
from medllm.engines.base import EngineDown, GenerateRequest, Piece, Sampling
from medllm.engines.fake import FakeEngine
from medllm.engines.servers.chat import (
    Chat,
    ToolCall,
    UnfitChat,
    check_texts,
    join_calls,
    read_calls,
    told,
)
from medllm.engines.servers.llama_chat import body_of, read_answer, read_line
from medllm.engines.servers.openai import one_call
from medllm.models.chat.prompts import UnfitPrompt

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from medllm.serve.answering import Around  # noqa: E402
from medllm.serve.app import build_app  # noqa: E402
from medllm.serve.audit.record import open_log  # noqa: E402
from medllm.serve.callers.callers import Callers  # noqa: E402
from medllm.serve.guard import Guard, join_pieces  # noqa: E402

CHAT = "/v1/chat/completions"
TURNS: list[dict[str, Any]] = [{"role": "user", "content": "Order something for the pain."}]
TOOLS = [{"type": "function", "function": {"name": "prescribe", "parameters": {"type": "object"}}}]
GOOD, BAD = {"drug": "paracetamol", "dose_mg": 500}, {"drug": "methotrexate", "dose_mg": 25}
BAD |= {"frequency": "daily"}
LARGE = {"type": "function", "function": {"name": "f", "parameters": {"x": "y" * 140_000}}}
ANSWERED: list[dict[str, Any]] = [
    *TURNS,
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "prescribe", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "Ordered. The patient takes warfarin."},
]  # fmt: skip


class Calling:
    """An engine that calls `prescribe` after a sentence, its arguments in parts."""

    name, context_length, parallel, is_ready = "llama_server", 500, 4, True
    reads_images = False
    unused_settings: dict[str, Any] = {}

    def __init__(self, arguments: Any = GOOD, text: str = "I order it. ") -> None:
        self.asked: list[GenerateRequest] = []
        self.arguments, self.text = json.dumps(arguments), text

    def read_chat(self, chat: Chat, sampling: Sampling) -> Sequence[int]:
        return [1] * 40

    async def stream(self, request: GenerateRequest) -> Any:
        self.asked.append(request)
        if self.text:
            yield Piece(self.text, 3)
        yield Piece("", 1, calls=(ToolCall(0, "call_1", "prescribe", ""),))
        half = len(self.arguments) // 2
        for part in (self.arguments[:half], self.arguments[half:]):
            yield Piece("", 5, calls=(ToolCall(0, None, None, part),))
        yield Piece("", 0, "tool_calls")

    async def disconnect(self) -> None: ...

    def close(self) -> None: ...


def send(engine: Any, around: Around | None = None, **body: Any) -> Any:
    app = build_app(engine, model_id="m", callers=Callers(), max_tokens=99, around=around)

    async def ask() -> Any:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post(CHAT, json={"messages": TURNS, "tools": TOOLS} | body)

    return asyncio.run(ask())


def streamed(response: Any) -> tuple[str, list[ToolCall], str]:
    """The text, the calls and the finish reason of a stream."""
    text, parts, reason = "", list[ToolCall](), ""
    for line in response.text.split("\n\n"):
        if line.startswith("data: {"):
            (choice,) = json.loads(line[6:])["choices"]
            text += choice["delta"].get("content") or ""
            parts += read_calls(choice["delta"].get("tool_calls"))
            reason = choice["finish_reason"] or reason
    return text, [*join_calls(parts)], reason


def reviewing(policy: str = "annotate", **more: Any) -> Around:
    return Around(guard=Guard(ReviewSettings(policy=policy)), **more)  # type: ignore[arg-type]


def test_a_call_comes_back_in_openais_form() -> None:
    engine = Calling()
    told = send(engine, tool_choice="required", parallel_tool_calls=False).json()
    (choice,) = told["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "I order it. "
    (call,) = choice["message"]["tool_calls"]
    assert call == {"id": "call_1", "type": "function",
                    "function": {"name": "prescribe", "arguments": json.dumps(GOOD)}}  # fmt: skip
    assert told["usage"] == {"prompt_tokens": 40, "completion_tokens": 14, "total_tokens": 54}
    (asked,) = engine.asked
    assert asked.chat and asked.chat.body == {
        "messages": TURNS, "tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False
    }  # fmt: skip
    assert send(Calling(text="")).json()["choices"][0]["message"]["content"] is None


@pytest.mark.parametrize("policy", ["annotate", "append", "block", None])
def test_a_stream_brings_the_same_call(policy: str | None) -> None:
    around = reviewing(policy) if policy else None
    text, (call,), reason = streamed(send(Calling(), around, stream=True))
    assert (text, reason) == ("I order it. ", "tool_calls")
    assert call == ToolCall(0, "call_1", "prescribe", json.dumps(GOOD))


def test_what_tools_told_goes_to_the_engine_and_to_the_review() -> None:
    engine = Calling({"drug": "ibuprofen", "dose_mg": 400})
    report = send(engine, reviewing(), messages=ANSWERED).json()["safety_report"]
    assert "interaction.warfarin.nsaid" in {each["rule"] for each in report["findings"]}
    (asked,) = engine.asked
    assert asked.chat and list(asked.chat.messages) == ANSWERED
    named = {"type": "function", "function": {"name": "prescribe"}}
    send(engine, tool_choice=named, messages=[{"role": "developer", "content": "Be brief"}, *TURNS])
    assert engine.asked[1].chat and engine.asked[1].chat.tool_choice == named
    assert engine.asked[1].chat.messages[0]["role"] == "system"
    repeated = [*ANSWERED[:2], ANSWERED[2] | {"name": "prescribe"}]  # as LiteLLM's page has it
    assert send(engine, messages=repeated).is_success
    assert engine.asked[2].chat and list(engine.asked[2].chat.messages) == repeated


@pytest.mark.parametrize("stream", [False, True])
def test_a_dose_in_the_arguments_is_reviewed(stream: bool, tmp_path: Path) -> None:
    log = open_log(tmp_path, "m")
    response = send(Calling(BAD), reviewing(audit=log), stream=stream)
    log.close()
    text, calls, _ = streamed(response) if stream else ("", [], "")
    assert not stream or calls == [ToolCall(0, "call_1", "prescribe", json.dumps(BAD))]
    lines = [line for path in tmp_path.glob("*.jsonl") for line in read_jsonl(path)]
    (line,) = [line for line in lines if line["event"] == "answer"]
    assert any(rule.startswith("dose.methotrexate") for rule in line["findings"])
    assert (line["tool_calls"], line["finish_reason"], line["blocked"]) == (1, "tool_calls", False)
    said = f"I order it. \nprescribe({json.dumps(BAD)})"
    assert line["answer"] == log.digest(said) and "methotrexate" not in json.dumps(line["prompt"])
    assert response.text.count('"risk_level"') == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_is_blocked_is_not_released(stream: bool, tmp_path: Path) -> None:
    log = open_log(tmp_path, "m")
    response = send(Calling(BAD), reviewing("block", audit=log), stream=stream)
    log.close()
    assert "dose_mg" not in response.text
    assert "tool_calls" not in response.text and "content_filter" in response.text
    if stream:
        assert streamed(response)[0].startswith("I order it. ")
    lines = [line for path in tmp_path.glob("*.jsonl") for line in read_jsonl(path)]
    (line,) = [line for line in lines if line["event"] == "answer"]
    assert line["blocked"] and "tool_calls" not in line


def test_warnings_are_added_to_the_text_and_never_to_the_arguments() -> None:
    (choice,) = send(Calling(BAD, text=""), reviewing("append")).json()["choices"]
    assert choice["message"]["content"].startswith("Warnings of an automatic check")
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == BAD
    text, (call,), _ = streamed(send(Calling(BAD), reviewing("append"), stream=True))
    assert "Warnings" in text and json.loads(call.arguments) == BAD


def test_a_call_that_max_tokens_cut_is_read_as_far_as_it_came() -> None:
    engine = Calling(BAD)
    engine.arguments = '{"order": "methotrexate 25 mg daily'
    report = send(engine, reviewing("block")).json()
    assert report["choices"][0]["finish_reason"] == "content_filter"


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"tools": [{"type": "function"}]}, "tools.0.function", "needed"),
        ({"tools": [{"type": "retrieval"}]}, "tools.0.type", "function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]},
         "tools.0.function.name", "pattern"),
        ({"tools": TOOLS * 2}, "tools", "two of them have one name"),
        ({"tools": TOOLS * 129}, "tools", "128"),
        ({"tools": "prescribe"}, "tools", "list"),
        ({"tools": [LARGE]}, "tools", "characters"),
        ({"tool_choice": "any"}, "tool_choice", "required"),
        ({"tool_choice": {"type": "function"}}, "tool_choice", "function"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}},
         "tool_choice", "none of"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice", "no tools"),
        ({"functions": [{"name": "f"}]}, "functions", "tools and tool_choice"),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls", "boolean"),
        ({"logprobs": True}, "logprobs", "texts alone"),
        ({"response_format": {"type": "json_object"}}, "response_format", "beside tools"),
        ({"messages": [*TURNS, {"role": "assistant", "content": "And"}]}, "messages", "last one"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.tool_call_id", "role tool"),
        ({"messages": [*TURNS, ANSWERED[2]]}, "messages.1.tool_call_id", "no call of a message"),
        ({"messages": [*ANSWERED[:2], ANSWERED[2] | {"name": "other"}]},
         "messages.2.name", "of another function"),
        ({"messages": [TURNS[0] | {"name": "Ann"}]}, "messages.0.name", "who speaks"),
        ({"messages": [ANSWERED[1] | {"role": "user"}]}, "messages.0.content", "text"),
        ({"messages": [*TURNS, {"role": "assistant", "tool_calls": []}]},
         "messages.1.content", "text"),
        ({"messages": [TURNS[0] | {"tool_call_id": "c1"}]}, "messages.0.tool_call_id", "role tool"),
        ({"messages": [*TURNS, {"role": "assistant", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": {}}}]}]},
         "messages.1.tool_calls.0.function.arguments", "string"),
    ],
)  # fmt: skip
def test_what_are_no_tools_is_refused(body: dict[str, Any], param: str | None, said: str) -> None:
    response = send(Calling(), **body)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == param and said in error["message"]


@pytest.mark.parametrize(
    ("body", "param"), [({}, "tools"), ({"tools": None, "messages": ANSWERED}, "messages")]
)
def test_an_engine_that_reads_no_calls_refuses_with_the_reason(body: Any, param: str) -> None:
    error = send(FakeEngine(), **body).json()["error"]
    assert (error["param"], error["code"]) == (param, "unsupported_parameter")
    assert "reads no calls" in error["message"]


def test_neutral_values_ask_for_no_tools() -> None:
    bodies: list[dict[str, Any]] = [{"tools": []}, {"tools": None, "tool_choice": "auto"}]
    for body in bodies:
        assert send(FakeEngine(), **body).status_code == 200


def line_of(delta: dict[str, Any], tokens: int, reason: str | None = None) -> str:
    """An event as llama-server tells it."""
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return f"data: {json.dumps({'choices': [choice], 'timings': {'predicted_n': tokens}})}"


def test_what_llama_server_tells_is_read_with_its_tokens() -> None:
    begun = {"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": "{"}}
    lines = [
        line_of({"role": "assistant", "content": None}, 1),
        line_of({"content": "Well. "}, 2),
        line_of({"tool_calls": [begun]}, 5),
        line_of({"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}, 6),
        line_of({}, 8, "tool_calls"),
    ]
    pieces, written = list[Piece](), 0
    for line in ["", *lines, "data: [DONE]"]:
        if piece := read_line(line, written):
            written += piece.tokens
            pieces.append(piece)
    assert [piece.tokens for piece in pieces] == [1, 1, 3, 1, 1]  # the token that ended it is none
    whole = join_pieces(pieces)
    assert (whole.text, whole.finish_reason, whole.tokens) == ("Well. ", "tool_calls", 7)
    assert whole.calls == (ToolCall(0, "x", "f", "{}"),)
    message = {
        "content": "Well. ",
        "tool_calls": [begun | {"function": {"name": "f", "arguments": "{}"}}],
    }
    answer = {"choices": [{"message": message, "finish_reason": "tool_calls"}],
              "usage": {"completion_tokens": 8}}  # fmt: skip
    assert read_answer(answer) == whole
    cut = {
        "choices": [{"message": message, "finish_reason": "length"}],
        "usage": {"completion_tokens": 8},
    }
    assert read_answer(cut).tokens == 8
    with pytest.raises(EngineDown):
        read_line('data: {"error": {"message": "it quotes"}}', 0)
    with pytest.raises(EngineDown):
        read_answer({"choices": []})


def test_an_answer_that_may_call_once_ends_with_a_second_call() -> None:
    first, second = ToolCall(0, None, None, "}"), ToolCall(1, "y", "f", "")
    assert one_call(Piece("", 2, calls=(first,))) == Piece("", 2, calls=(first,))
    assert one_call(Piece("", 2, calls=(first, second))) == Piece(
        "", 2, "tool_calls", calls=(first,)
    )


def test_a_function_that_is_named_is_all_that_llama_server_is_told_of() -> None:
    other = {"type": "function", "function": {"name": "other"}}
    named = {"type": "function", "function": {"name": "prescribe"}}
    body = body_of(Chat(tuple(TURNS), (other, *TOOLS), named))
    assert (body["tools"], body["tool_choice"], body["reasoning_format"]) == (
        TOOLS,
        "required",
        "none",
    )


@pytest.mark.parametrize("place", ["message", "tool", "argument"])
def test_a_text_that_spells_a_special_token_is_refused(place: str) -> None:
    bad = "Say <end> now"
    turns = [{"role": "user", "content": bad}] if place == "message" else TURNS
    tools = [{"type": "function", "function": {"name": "f", "description": bad}}]
    call = {"function": {"name": "f", "arguments": json.dumps({"a": bad})}}
    more = [{"role": "assistant", "tool_calls": [call]}] if place == "argument" else []
    chat = Chat((*turns, *more), tuple(tools if place == "tool" else TOOLS))
    with pytest.raises(UnfitChat, match="spells <end>"):
        check_texts(chat, FakeEngine.special_tokens, 500)
    with pytest.raises(UnfitPrompt):
        check_texts(
            Chat(({"role": "user", "content": "x" * 20_000},)), FakeEngine.special_tokens, 500
        )


def test_parts_of_calls_are_joined_and_told() -> None:
    first_told = {"index": 0, "function": {"name": "f", "arguments": {"a": 1}}}
    second_told = {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{"}}
    parts = read_calls([second_told, first_told])
    parts += read_calls([{"index": 1, "function": {"arguments": "}"}}])
    first, second = join_calls(parts)
    assert first.id and first.id.startswith("call_") and first.arguments == '{"a": 1}'
    assert second == ToolCall(1, "b", "g", "{}")
    assert told("", [first, second]) == 'f({"a": 1})\ng({})'
