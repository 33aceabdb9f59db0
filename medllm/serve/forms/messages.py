"""The messages of a conversation: who said what, the functions that were called, and images."""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from medllm.data.example import Message
from medllm.engines.servers.chat import ToolCall as Call
from medllm.engines.servers.chat import told
from medllm.serve.forms.strict import UNSUPPORTED, Strict, check_characters, checked, wrong
from medllm.serve.forms.tools import ToolCall

MOST_IMAGE_BYTES = 2**22
"""Of one image, as a file."""
MOST_IMAGES = 8
"""In one message."""
BEGINS = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff"}
"""The kinds of images that are taken, and how their files begin."""
DATA_URL = re.compile(r"(?i)data:image/(png|jpeg|jpg);base64,")
NO_TEXT = "must be a text, or parts of type text or image_url"


@dataclass(frozen=True, slots=True)
class Image:
    """An image of a message: the file, and the data URL that brought it."""

    content: bytes
    url: str


class ImagePlace(Strict):
    """Where an image is."""

    url: str
    """A data URL: `data:image/png;base64,…` or `data:image/jpeg;base64,…`."""
    detail: Literal["auto", "low", "high"] | None = None
    """Accepted; the model reads an image as it was made to."""


class TextPart(Strict):
    """A part of a message."""

    type: Literal["text"]
    text: str


class ImagePart(Strict):
    """An image, for models that read images."""

    type: Literal["image_url"]
    image_url: ImagePlace


Content = str | tuple[str | Image, ...] | None


def _read_content(content: Any) -> Content:
    """A text; parts in their order where images are among them; None where there is nothing."""
    if content is None or isinstance(content, str):
        return content if content is None else check_characters(content)
    if not isinstance(content, list):
        raise ValueError(NO_TEXT)
    parts = tuple(_read_part(part if isinstance(part, dict) else {}) for part in content)
    texts = [part for part in parts if isinstance(part, str)]
    if len(parts) - len(texts) > MOST_IMAGES:
        raise ValueError(f"a message has at most {MOST_IMAGES} images")
    return "".join(texts) if len(texts) == len(parts) else parts


def _read_part(part: dict[str, Any]) -> str | Image:
    match part:
        case {"type": "text", "text": str() as text}:
            checked(TextPart, part)
            return check_characters(text)
        case {"type": "image_url", "image_url": {"url": str() as url}} if DATA_URL.match(url):
            checked(ImagePart, part)
            return read_image_url(url)
        case {"type": "image_url"}:
            raise ValueError(
                "images are never fetched from an address: send a PNG or JPEG file as a data URL"
            )
    raise ValueError("only content parts of type text and image_url are read, no audio, no files")


def read_image_url(url: str) -> Image:
    """The image in a data URL.

    Raises:
        ValueError: it is no PNG or JPEG in base64, or is too large.
    """
    found = DATA_URL.match(url)
    kind = found[1].lower().replace("jpg", "jpeg") if found else ""
    try:
        content = base64.b64decode(url[found.end() if found else 0 :], validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the image is not in base64") from None
    if not found or not content.startswith(BEGINS[kind]):
        raise ValueError("the image is no PNG or JPEG file, or not the kind that its URL says")
    if len(content) > MOST_IMAGE_BYTES:
        raise ValueError(f"an image has at most {MOST_IMAGE_BYTES:,} bytes")
    return Image(content, url)


class ChatMessage(Strict):
    """A message of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[
        Content,
        PlainValidator(
            _read_content, json_schema_input_type=str | list[TextPart | ImagePart] | None
        ),
    ] = None
    """A text, or parts: texts are joined; images are for the user's messages. Only an answer that
    calls tools may have none."""
    tool_calls: list[ToolCall] | None = None
    """The functions that an earlier answer called."""
    tool_call_id: str | None = None
    """Which call the message of the role `tool` answers."""
    name: str | None = None
    """Of the role `tool`: the function that was called."""

    @model_validator(mode="after")
    def _check_role(self) -> Self:
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise wrong("content", NO_TEXT)
        if self.images and self.role != "user":
            raise wrong("content", "images stand in the user's messages alone")
        if self.tool_calls and self.role != "assistant":
            raise wrong("tool_calls", "they stand in the assistant's messages alone")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise wrong("tool_call_id", "it belongs to the role tool, which needs it")
        if self.name is not None and self.role != "tool":
            message = "the model is not told who speaks; say it in the content"
            raise PydanticCustomError(UNSUPPORTED, message, {"field": "name"})
        return self

    @property
    def images(self) -> list[Image]:
        """The images in it."""
        parts = self.content if isinstance(self.content, tuple) else ()
        return [part for part in parts if isinstance(part, Image)]

    @property
    def text(self) -> str:
        """What was said in it, without calls and images."""
        if isinstance(self.content, tuple):
            return "".join(part for part in self.content if isinstance(part, str))
        return self.content or ""

    @property
    def is_plain(self) -> bool:
        """Whether it is a text and nothing else."""
        return not (self.images or self.tool_calls or self.role == "tool")

    def as_message(self) -> Message:
        """The message as rules and engines know it.

        `developer` is OpenAI's newer word for `system`. What a tool told is of the system's words
        for the review; the calls of an answer stand below its text.
        """
        calls = [
            Call(place, call.id, call.function.name, call.function.arguments)
            for place, call in enumerate(self.tool_calls or ())
        ]
        text = told(self.text, calls)
        if self.role == "assistant":
            return Message("assistant", text)
        return Message("user" if self.role == "user" else "system", text)

    def as_sent(self, *, with_images: bool = True) -> dict[str, Any]:
        """The message in OpenAI's form, for an engine that takes it so, or without its images."""
        sent = self.model_dump(include={"tool_calls", "tool_call_id", "name"}, exclude_none=True)
        content: Any = self.content
        if isinstance(content, tuple):
            content = [
                {"type": "text", "text": part}
                if isinstance(part, str)
                else {"type": "image_url", "image_url": {"url": part.url if with_images else ""}}
                for part in content
            ]
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": content, **sent}


def check_calls(messages: Sequence[ChatMessage]) -> None:
    """Raise an error that names the field where a message of a tool answers no call before it."""
    called: dict[str, str] = {}
    for place, message in enumerate(messages):
        called |= {call.id: call.function.name for call in message.tool_calls or ()}
        if message.tool_call_id is None:
            continue
        if message.tool_call_id not in called:
            field = f"messages.{place}.tool_call_id"
            raise wrong(field, "no call of a message before it has this id")
        if message.name not in (None, called[message.tool_call_id]):
            raise wrong(f"messages.{place}.name", "the call with this id is of another function")
