"""What goes over the wire: OpenAI's requests, answers and errors.

The forms are those of https://platform.openai.com/docs/api-reference/chat. A field that would
change the answer and is not honoured is refused, never dropped.
"""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from medllm.data.example import Message
from medllm.engines.base import Sampling

MAX_STOPS = 4  # OpenAI's limit

HARMLESS = frozenset(
    (
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "parallel_tool_calls",
    )
)
"""Fields of OpenAI's that cannot change an answer."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False,),
    "logit_bias": ({},),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "tools": ([],),
    "tool_calls": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "annotations": ([],),
}
"""Fields we do not honour, with the values that ask for nothing."""


class ApiError(Exception):
    """A request that is refused, as OpenAI's error form tells it."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.detail = {
            "message": message,
            "type": "server_error" if status >= 500 else "invalid_request_error",
            "param": param,
            "code": code,
        }


def _joined_text(content: Any) -> Any:
    """The content of a message as one string; only parts of type text can be joined."""
    if not isinstance(content, list):
        return content
    parts = [part if isinstance(part, dict) else {} for part in content]
    if any(part.get("type") != "text" or not isinstance(part.get("text"), str) for part in parts):
        raise ValueError("only content parts of type text are supported, no images, audio or files")
    return "".join(part["text"] for part in parts)


def _only_prompt(prompt: Any) -> Any:
    if isinstance(prompt, list) and len(prompt) != 1:
        raise ValueError("one prompt per request; token ids and several prompts are not supported")
    return prompt[0] if isinstance(prompt, list) else prompt


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class _Wire(BaseModel):
    """What arrives as JSON: unknown fields are kept, so that `check_supported` can refuse them."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)


class ChatMessage(_Wire):
    """A message of a chat, its content parts joined."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_joined_text)]

    def as_message(self) -> Message:
        """The message as engines know it; `developer` is OpenAI's newer word for `system`."""
        return Message("system" if self.role == "developer" else self.role, self.content)


class StreamOptions(_Wire):
    """Options of `stream: true`."""

    include_usage: bool | None = None


class AnswerRequest(_Wire):
    """What chats and completions have in common."""

    model: str
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    stop: Annotated[
        Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=MAX_STOPS)] | None,
        BeforeValidator(_as_list),
    ] = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def sampling(self, limit: int, default: int) -> Sampling:
        """How to generate: greedy unless a temperature is named; at most `limit` tokens."""
        return Sampling(
            max_tokens=min(self.asked_tokens or default, limit),
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            stop=tuple(self.stop or ()),
        )

    @property
    def asked_tokens(self) -> int | None:
        """The most tokens the caller wants, if it said so."""
        return self.max_tokens


class ChatRequest(AnswerRequest):
    """The body of `POST /v1/chat/completions`."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)

    @property
    def asked_tokens(self) -> int | None:
        """The smaller of the old field and the new one."""
        named = (self.max_tokens, self.max_completion_tokens)
        return min((tokens for tokens in named if tokens is not None), default=None)


class CompletionRequest(AnswerRequest):
    """The body of `POST /v1/completions`."""

    prompt: Annotated[str, BeforeValidator(_only_prompt)]


def check_supported(fields: Mapping[str, Any] | None, where: str = "") -> None:
    """Refuse every field that would change the answer and is not honoured.

    Raises:
        ApiError: 400, code `unsupported_parameter`, naming the field.
    """
    for name, value in (fields or {}).items():
        # Types are compared too: to Python `logprobs: 0` is False, to OpenAI it asks for one.
        neutral = any(type(value) is type(v) and value == v for v in NEUTRAL.get(name, ()))
        if value is not None and name not in HARMLESS and not neutral:
            message = f"{where}{name} is not supported by this server; leave it out"
            raise ApiError(400, message, code="unsupported_parameter", param=f"{where}{name}")


@dataclass(frozen=True)
class Reply:
    """The envelope of an answer, whole or in chunks."""

    model: str
    chat: bool
    prompt_tokens: int
    include_usage: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, tokens: int, finish_reason: str | None) -> dict[str, Any]:
        """The answer in one object."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"message": message} if self.chat else {"text": text}
        kind = "chat.completion" if self.chat else "text_completion"
        choices = [self._choice(choice, finish_reason)]
        return self._envelope(kind, choices) | {"usage": self.usage(tokens)}

    def first_chunk(self) -> dict[str, Any]:
        """The chunk that names the role, before any text of a chat."""
        choice = {"delta": {"role": "assistant", "content": ""}}
        return self._chunk([self._choice(choice, None)])

    def chunk(self, text: str, finish_reason: str | None) -> dict[str, Any]:
        """A piece of text, or the reason of the end."""
        delta = {"content": text} if text else {}
        choice = {"delta": delta} if self.chat else {"text": text}
        return self._chunk([self._choice(choice, finish_reason)])

    def last_chunk(self, tokens: int) -> dict[str, Any]:
        """The chunk without choices that tells the usage."""
        return self._chunk([]) | {"usage": self.usage(tokens)}

    def usage(self, tokens: int) -> dict[str, int]:
        """Tokens of prompt and answer."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": self.prompt_tokens + tokens,
        }

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return self._envelope(kind, choices) | ({"usage": None} if self.include_usage else {})

    def _choice(self, choice: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
        return {"index": 0, **choice, "logprobs": None, "finish_reason": finish_reason}

    def _envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        prefix = "chatcmpl" if self.chat else "cmpl"
        head = {"id": f"{prefix}-{self.id}", "object": kind, "created": self.created}
        return {**head, "model": self.model, "choices": choices}
