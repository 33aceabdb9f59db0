"""Conversations in the forms that go round → Messages.

OpenAI's and TRL's {role, content}, ShareGPT's {from, value}, and contents in parts. What no chat
template could say again (tool calls, images after the first question) leaves the row out.
"""

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from warnings import catch_warnings, simplefilter

from medllm.data.example import Message, Role
from medllm.data.left_out import LeftOut, NotText
from medllm.data.shapes.values import is_missing, text_of

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
MARK = "<image>"
MARKS_AROUND = re.compile(rf"\A(?:\s*{MARK})+|(?:{MARK}\s*)+\Z")
AMIDST = "an image amidst words, where no model is shown it"
LONGEST_CELL = 1 << 20
"""Characters of a cell that is looked into for a list."""
LIST = re.compile(r"\s*\[\s*[\[{\]]")
MESSAGES = re.compile(r"\s*\[\s*\{\s*['\"](?:role|from|content|value)['\"]\s*:")
PARTS = re.compile(r"\s*\[\s*\{\s*['\"]t(?:ype['\"]\s*:\s*['\"]text|ext)['\"]")
"""How cells of text begin that hold lists, messages, content parts."""


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
        """The paths of these images, else of its own; LLaVA's `<image>` marks where they were.

        Raises:
            LeftOut: there are more of them than places or fewer, or one is no longer where it was.
        """
        paths = tuple(images) or tuple(filter(None, self.images))
        asked = [turn.content for turn in self.turns if turn.role == "user"]
        places = {len(self.images), sum(text.count(MARK) for text in asked)} - {0}
        if places and not paths:
            raise LeftOut("missing image")
        if places - {len(paths)}:
            raise LeftOut("more or fewer images than places for them")
        if paths and (first := self.first_question):
            self.images = list(paths)
            words = MARKS_AROUND.sub("", first.content).strip()
            if any(MARK in text for text in (words, *asked[1:])):
                raise LeftOut(AMIDST)
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
    """The messages of a list that holds some, of one alone, or of such a list in a cell of text.

    Raises:
        NotText: a cell begins as messages do, and cannot be read.
    """
    keys = ("role", "from")
    if value is None:
        return None
    if isinstance(value, str):
        if not LIST.match(value):
            return None
        value, keys = listed(value) or None, ("content", "value")  # any JSON may be an answer
    if isinstance(value, Mapping) and "content" in value and "role" in value:
        value = _of_columns(value)
    if not isinstance(value, list | tuple):
        return None
    are = all(isinstance(one, Mapping) and any(key in one for key in keys) for one in value)
    return list(value) if are else None


def _of_columns(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Messages whose roles and contents are lists, as `datasets` may keep them; or one message."""
    roles, contents = value["role"], value["content"]
    if not (isinstance(roles, list) and isinstance(contents, list) and len(roles) == len(contents)):
        return [value]
    return [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]


def listed(value: Any) -> Any:
    """A list that stands in a cell of text, as JSON or as Python writes it; others as they are.

    Raises:
        NotText: it begins as messages do, and cannot be read.
    """
    if not isinstance(value, str) or not LIST.match(value) or len(value) > LONGEST_CELL:
        return value
    with suppress(ValueError, RecursionError):
        return json.loads(value)
    if MESSAGES.match(value) or PARTS.match(value):
        return _as_python_writes(value)
    return value


def _as_python_writes(value: str) -> Any:
    with catch_warnings():
        simplefilter("ignore")  # of a backslash in the text
        try:
            return ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise NotText from None


def parts_of(value: Any) -> Any:
    """Content parts of type text that stand in a cell of text; other values as they are."""
    if isinstance(value, str) and PARTS.match(value):
        parts = listed(value)
        if all(isinstance(part, Mapping) and part.keys() == {"type", "text"} for part in parts):
            return parts
    return value


def read_content(content: Any) -> tuple[str, list[str]]:
    """The text of a message, and the paths of the images in it ("" where only their place is told).

    Raises:
        LeftOut: it holds what is neither.
    """
    if not isinstance(content, list | tuple):
        return text_of(content), []
    parts = [part for part in content if _kind(part) not in IMAGES]
    shown = [_kind(part) in IMAGES for part in content]
    if parts and any(shown[shown.index(False) : len(shown) - shown[::-1].index(False)]):
        raise LeftOut(AMIDST)
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
    if message.get("weight") == 0:  # OpenAI's mark of an answer that is not to be trained on
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
