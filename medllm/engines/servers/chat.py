"""Conversations in OpenAI's own form, for what engines give to others' chat templates.

Functions that the model may call, and images, stand in them.
"""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medllm.errors import DataError
from medllm.models.chat.prompts import check_bytes
from medllm.models.chat.special_tokens import SpecialTokens


class UnfitChat(DataError):
    """A conversation with something in it that an engine does not take; `param` is where."""

    def __init__(self, param: str, message: str, fix: str) -> None:
        self.param = param
        super().__init__(message, fix)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function in an answer; in a stream a part of one."""

    index: int
    """Which of the answer's calls it is."""
    id: str | None
    """None where a part goes on with a call."""
    name: str | None
    arguments: str
    """JSON, as the model wrote it."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation as OpenAI's interface has it."""

    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    parallel_tool_calls: bool | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The fields of a request."""
        body: dict[str, Any] = {"messages": [dict(each) for each in self.messages]}
        if self.tools:
            body["tools"] = list(self.tools)
            for name in ("tool_choice", "parallel_tool_calls"):
                if (value := getattr(self, name)) is not None:
                    body[name] = value
        return body

    @property
    def has_images(self) -> bool:
        """Whether images stand in it."""
        contents = (message.get("content") for message in self.messages)
        parts = (part for each in contents if isinstance(each, list) for part in each)
        return any(part["type"] == "image_url" for part in parts)

    @property
    def needs_calls(self) -> bool:
        """Whether a call stands in it, or one must be made."""
        is_asked = self.tool_choice not in (None, "none", "auto")
        return is_asked or any(message.get("tool_calls") for message in self.messages)

    @property
    def texts(self) -> Iterator[str]:
        """Every text in it, the names and descriptions of functions too."""
        return _texts([*self.messages, *self.tools])


def check_texts(chat: Chat, special_tokens: SpecialTokens, context_length: int) -> None:
    """See that another's chat template may be given the texts of a conversation.

    Such a template does not mark special tokens that a text spells, so they would mean something.

    Raises:
        UnfitPrompt: they are far too long.
        UnfitChat: a text spells a special token.
    """
    texts = [*chat.texts]
    check_bytes(texts, context_length)
    if token := next(filter(None, map(special_tokens.first, texts)), None):
        message = f"a text in it spells {token}, which beside tools would be read as special"
        raise UnfitChat("messages", message, "take it out of the text")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield key
            yield from _texts(each)
    elif isinstance(value, Sequence):
        for each in value:
            yield from _texts(each)


def read_calls(told: Sequence[Mapping[str, Any]] | None) -> tuple[ToolCall, ...]:
    """The calls, or parts of calls, of a message in OpenAI's form; raises as wrong data does."""
    return tuple(_read_call(place, each) for place, each in enumerate(told or ()))


def _read_call(place: int, told: Mapping[str, Any]) -> ToolCall:
    function = told.get("function") or {}
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(arguments, str):  # some servers tell an object
        arguments = "" if arguments is None else json.dumps(arguments)
    number = told.get("id") or (f"call_{uuid.uuid4().hex[:24]}" if name else None)
    return ToolCall(int(told.get("index", place)), number, name or None, arguments)


def join_calls(parts: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    """Whole calls, of their parts in order."""
    calls: dict[int, ToolCall] = {}
    for part in parts:
        known = calls.get(part.index)
        calls[part.index] = (
            replace(
                known,
                id=known.id or part.id,
                name=known.name or part.name,
                arguments=known.arguments + part.arguments,
            )
            if known
            else part
        )
    return tuple(calls[index] for index in sorted(calls))


def told(text: str, calls: Iterable[ToolCall]) -> str:
    """An answer as one text: below it a line for each call, `name(arguments)`."""
    lines = (f"{call.name}({call.arguments})" for call in calls)
    return "\n".join(filter(None, [text, *lines]))
