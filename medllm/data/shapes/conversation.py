"""Conversations in the forms that go round → Messages.

OpenAI's and TRL's {role, content}, ShareGPT's {from, value}, and contents in parts. What no chat
template could say again (tool calls, images after the first question) leaves the row out.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from medllm.data.example import Message, Role
from medllm.data.shapes.values import LeftOut, NotText, is_missing, text_of

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",  # OpenAI's newer word for it
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
"""What messages call who speaks."""
TOOLS = {"tool", "tool_call", "tool_response", "function", "function_call", "observation"}
READ = {"role", "from", "content", "value", "tool_calls", "function_call", "weight"}
IMAGES = {"image", "image_url", "input_image"}
LONGEST_JSON = 1 << 20
"""Characters of a cell that is looked into for JSON."""


@dataclass
class Conversation:
    """Who said what, the paths of images, and what the messages hold besides."""

    turns: list[Message] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    """Paths; "" where a message only marks the place of one."""
    rest: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Take messages in.

        Raises:
            LeftOut: they hold what no message can.
        """
        for message in messages:
            self._add(_role_of(message), message)

    def _add(self, role: Role, message: Mapping[str, Any]) -> None:
        text, images = read_content(message.get("content", message.get("value")))
        if images and (role != "user" or self.first_question):
            raise LeftOut("an image after the first question")
        self.images += images
        if text or role != "system":
            self.turns.append(Message(role, text))
        for name, value in message.items():
            if name not in READ and not is_missing(value):
                self.rest.setdefault(name, []).append(value)

    @property
    def first_question(self) -> Message | None:
        """The first turn of the user."""
        return next((turn for turn in self.turns if turn.role == "user"), None)

    def check(self) -> None:
        """Raise LeftOut where somebody says nothing, images apart."""
        shown = self.first_question if self.images else None
        if not all(turn.content or turn is shown for turn in self.turns):
            raise LeftOut("an empty turn")

    def show(self, images: Sequence[str]) -> tuple[str, ...]:
        """The paths of these images, else of its own; LLaVA's `<image>` marks where they were."""
        paths = tuple(images) or tuple(filter(None, self.images))
        if self.images and not paths:
            raise LeftOut("missing image")
        if paths and (first := self.first_question):
            self.images = list(paths)
            words = first.content.replace("<image>", "").strip()
            self.turns[self.turns.index(first)] = Message("user", words)
        return paths

    def cut_to_answer(self) -> int:
        """Cut off what comes after the last answer; returns how many turns that were."""
        answers = [n for n, turn in enumerate(self.turns, 1) if turn.role == "assistant"]
        if not answers:
            raise LeftOut("no answer")
        after = len(self.turns) - answers[-1]
        del self.turns[answers[-1] :]
        return after


def messages_of(value: Any) -> list[Mapping[str, Any]] | None:
    """The messages of a list that holds some, or of such a list as JSON in a cell of text."""
    keys = ("role", "from")
    if isinstance(value, str):
        value, keys = listed(value) or None, ("content", "value")  # any JSON may be an answer
    if not isinstance(value, list | tuple):
        return None
    are = all(isinstance(one, Mapping) and any(key in one for key in keys) for one in value)
    return list(value) if are else None


def listed(value: Any) -> Any:
    """A list that stands as JSON in a cell of text; other values as they are."""
    if isinstance(value, str) and value.lstrip()[:2] in ("[{", "[[", "[]"):
        with suppress(ValueError, RecursionError):
            return json.loads(value) if len(value) <= LONGEST_JSON else value
    return value


def read_content(content: Any) -> tuple[str, list[str]]:
    """The text of a message, and the paths of the images in it ("" where only their place is told).

    Raises:
        LeftOut: it holds what is neither.
    """
    if not isinstance(content, list | tuple):
        return text_of(content), []
    parts = [part for part in content if _kind(part) not in IMAGES]
    return text_of(parts), [_image_of(part) for part in content if _kind(part) in IMAGES]


def _kind(part: Any) -> Any:
    kind = part.get("type") if isinstance(part, Mapping) else None
    return kind if isinstance(kind, str) else None


def _image_of(part: Mapping[str, Any]) -> str:
    place = next((part[name] for name in (*IMAGES, "path", "url") if part.get(name)), "")
    if isinstance(place, Mapping):
        place = place.get("url")
    path = text_of(place)
    if path.startswith(("http:", "https:", "data:")):
        raise LeftOut("an image that is no file")
    return path.removeprefix("file://")


def _role_of(message: Mapping[str, Any]) -> Role:
    said = message.get("role", message.get("from"))
    name = said.strip().lower() if isinstance(said, str) else ""
    if name in TOOLS or message.get("tool_calls") or message.get("function_call"):
        raise LeftOut("tool calls are not read")
    if name not in ROLES:
        raise LeftOut("unknown role")
    if message.get("weight") == 0:  # OpenAI's mark of an answer that is not to be learnt
        raise LeftOut("a turn of weight 0")
    return ROLES[name]


def earlier_turns(history: Sequence[Any]) -> list[Mapping[str, Any]]:
    """The messages of a history: messages already, or pairs of a question and its answer.

    Raises:
        NotText: it is a list of something else.
    """
    if (messages := messages_of(history)) is not None:
        return messages
    turns: list[Mapping[str, Any]] = []
    for pair in history:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise NotText
        turns += [
            {"role": r, "content": c} for r, c in zip(("user", "assistant"), pair, strict=True)
        ]
    return turns
