"""Conversations with tools, as llama-server takes them and tells their answers.

It renders them itself, and reads the calls in what the model writes
(https://github.com/ggml-org/llama.cpp/blob/master/docs/function-calling.md).
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from medllm.engines.base import EngineDown, Piece
from medllm.engines.servers.chat import Chat
from medllm.engines.servers.openai import UNREADABLE, read_event, read_whole
from medllm.engines.servers.private import PrivateServer
from medllm.errors import DataError

PATH = "/v1/chat/completions"
A_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
A_NAME = "medllm_call"
A_CALL = {"id": "call00001", "type": "function", "function": {"name": A_NAME, "arguments": "{}"}}
WITH_CALL = {
    "messages": [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "", "tool_calls": [A_CALL]},
        {"role": "tool", "tool_call_id": A_CALL["id"], "content": "!"},
    ],
    "tools": [A_TOOL],
}
"""A conversation in which a function was called."""


def body_of(chat: Chat) -> dict[str, Any]:
    """The conversation, and that what a model thinks stays in its text, where it is reviewed.

    llama-server takes a function that is named for no choice at all: so the model is told of that
    one alone, and must call it.
    """
    body = {**chat.body, "reasoning_format": "none", "timings_per_token": True}
    if isinstance(chat.tool_choice, Mapping):
        name = chat.tool_choice["function"]["name"]
        only = [tool for tool in chat.tools if tool["function"]["name"] == name]
        body |= {"tools": only, "tool_choice": "required"}
    return body


def render(server: PrivateServer, body: Mapping[str, Any]) -> str:
    """The prompt that llama-server would make of a conversation.

    Raises:
        DataError: it cannot; its own words may quote the conversation, and are not told.
        EngineDown: it is not there now.
    """
    told = server.ask("/apply-template", body)
    if told.status_code != 200:
        message = "llama-server cannot put this conversation and its tools into a prompt"
        raise DataError(message, "see whether the model's chat template knows such messages")
    return str(told.json()["prompt"])


def read_line(line: str, written: int) -> Piece | None:
    """What an event tells; `written` tokens were told before it.

    Raises:
        EngineDown: it tells an error.
    """
    if not line.startswith("data: {"):
        return None
    event = json.loads(line[6:])
    piece, count = read_event(event), _count(event)
    if piece is None:
        return Piece("", count - written) if count > written else None
    ended = _without_end(piece, count) if piece.finish_reason else count
    return replace(piece, tokens=max(ended - written, 0))


def read_answer(answer: Mapping[str, Any]) -> Piece:
    """A whole answer."""
    try:
        piece = read_whole(answer)
        return replace(piece, tokens=_without_end(piece, piece.tokens), prompt_tokens=None)
    except UNREADABLE as problem:
        raise EngineDown from problem


def _count(event: Mapping[str, Any]) -> int:
    return int(event.get("timings", {}).get("predicted_n", 0))


def _without_end(piece: Piece, tokens: int) -> int:
    """The tokens of an answer without that which ended it; llama-server counts it."""
    return tokens if piece.finish_reason == "length" else max(tokens - 1, 0)
