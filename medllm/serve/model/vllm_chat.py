"""Conversations with tools, as vLLM takes them and tells their answers.

It renders them itself, and reads the calls in what the model writes with the parser that it was
started with (https://docs.vllm.ai/en/latest/features/tool_calling/).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from medllm.engines.base import Piece
from medllm.engines.servers.chat import Chat, ToolCall, read_calls
from medllm.engines.servers.openai import one_call
from medllm.engines.servers.private import PrivateServer
from medllm.errors import DataError

PATH = "/v1/chat/completions"
ABOUT_TOOLS = ("tools", "tool_choice", "parallel_tool_calls")
A_QUESTION = {"messages": [{"role": "user", "content": "?"}]}
A_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def body_of(chat: Chat) -> dict[str, Any]:
    """The conversation, with the functions that the model may call and no others.

    vLLM tells the model of all in any case, and leaves calls that must not be (`none`) in the text.
    """
    body = chat.body
    if chat.tool_choice == "none":
        return {name: value for name, value in body.items() if name not in ABOUT_TOOLS}
    if isinstance(chat.tool_choice, Mapping):
        name = chat.tool_choice["function"]["name"]
        body["tools"] = [tool for tool in chat.tools if tool["function"]["name"] == name]
    return body


def read_ids(server: PrivateServer, model: str, body: Mapping[str, Any]) -> list[int]:
    """The token ids of the prompt that vLLM makes of a conversation.

    Raises:
        DataError: it cannot; its own words may quote the conversation, and are not told.
        EngineDown: it is not there now.
    """
    given = {name: body[name] for name in ("messages", "tools") if name in body}
    told = server.ask("/tokenize", {"model": model, **given})
    if told.status_code != 200:
        message = "vLLM cannot put this conversation and its tools into a prompt"
        raise DataError(message, "see whether the model's chat template knows such messages")
    return [int(token) for token in told.json()["tokens"]]


def tells_tools(server: PrivateServer, model: str) -> bool:
    """Whether the chat template tells the model of tools; else vLLM drops them unsaid."""
    asked = {**A_QUESTION, "tools": [A_TOOL]}
    return read_ids(server, model, asked) != read_ids(server, model, A_QUESTION)


def said_in(choice: Mapping[str, Any]) -> tuple[str, tuple[ToolCall, ...]]:
    """The text of an answer, or of a part of one, and the calls in it."""
    if "text" in choice:
        return choice["text"], ()
    said = choice["message"] if "message" in choice else choice["delta"]
    return said.get("content") or "", read_calls(said.get("tool_calls"))


def reason_of(choice: Mapping[str, Any], *, is_full: bool) -> str | None:
    """Why an answer ended; None while it goes on. `is_full`: it has all the tokens it may have.

    Of a whole one with calls vLLM does not say that it was cut: a full one is taken for cut.
    """
    reason: str | None = choice["finish_reason"]
    return "length" if reason == "tool_calls" and "message" in choice and is_full else reason


class Calling:
    """An answer that may call functions, on its way."""

    def __init__(self, chat: Chat) -> None:
        self._is_single = chat.parallel_tool_calls is False
        self._has_called = False

    def read(self, piece: Piece) -> Piece:
        """A piece; of an answer that calls a named function vLLM says that it stopped."""
        self._has_called |= bool(piece.calls)
        if self._has_called and piece.finish_reason == "stop":
            piece = replace(piece, finish_reason="tool_calls")
        return one_call(piece) if self._is_single else piece
