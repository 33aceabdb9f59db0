"""What goes over the wire: OpenAI's requests, answers and errors.

The forms are those of https://platform.openai.com/docs/api-reference/chat. A field that would
change the answer and is not honoured is refused, never dropped.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    PlainValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from medllm.data.example import Message
from medllm.engines.base import Sampling

MAX_STOPS = 4  # OpenAI's limit
MAX_STOP_CHARACTERS = 1024  # so much of an answer may be held back until it is clear
MAX_CHOICES = 16
MAX_PROMPTS = 128
MAX_BIASES = 1024
MAX_SCHEMA_CHARACTERS = 2**16
MAX_TOP = 20  # OpenAI's limit for chats

HARMLESS = {
    "user",
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "parallel_tool_calls",
}
"""Fields of OpenAI's that cannot change an answer."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    **dict.fromkeys(("echo", "store", "include_obfuscation"), (False,)),
    **dict.fromkeys(("tools", "tool_calls", "functions", "annotations"), ([],)),
    **dict.fromkeys(("tool_choice", "function_call"), ("none", "auto")),
    "suffix": ("",),
    "modalities": (["text"],),
}
"""Fields we do not honour, with the values that ask for nothing."""

NO_TOOLS = "this server passes no tools on: nothing here reads calls of them in an answer"
WHY: dict[str, str] = {
    **dict.fromkeys(("tools", "tool_choice", "functions", "function_call", "tool_calls"), NO_TOOLS),
    "store": "no text of a request is kept here",
    "best_of": "ask for n answers, and choose",
    "suffix": "the model goes on from a prompt, and fills no gap",
    "echo": "a conversation has no text to repeat; see /v1/completions",
    **dict.fromkeys(("audio", "modalities"), "the model writes text alone"),
}
"""Why fields are not honoured, where more can be said than that they are not."""
UNSUPPORTED = "unsupported_parameter"
MAX_SHOWN_CHARACTERS = 300  # of an error; it may quote the name of a field that somebody made up


@dataclass(eq=False)
class ApiError(Exception):
    """A request that is refused, as OpenAI's error form tells it."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """The answer's body."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        param = None if self.param is None else _shown(self.param)
        form = {"message": _shown(self.message), "type": kind, "param": param, "code": self.code}
        return {"error": form}


def _shown(text: str) -> str:
    """What an error may quote: bounded, and without half characters, which JSON cannot carry."""
    return text[:MAX_SHOWN_CHARACTERS].encode(errors="backslashreplace").decode()


def check_characters(text: str) -> str:
    """The text, if it can be encoded; else a ValueError."""
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise ValueError(
            f"character {problem.start} is half of a surrogate pair, as a text has that was cut"
            " within an emoji; send whole characters"
        ) from None
    return text


Text = Annotated[str, AfterValidator(check_characters)]
"""Text that can be encoded: JSON can escape half of a surrogate pair, which no tokenizer takes."""


def _why_no_image(part: dict[str, Any]) -> str:
    place = part.get("image_url")
    url = place.get("url") if isinstance(place, dict) else place
    if isinstance(url, str) and url.startswith("data:"):
        return "no engine of this server reads images: describe what is to be seen in words"
    return "images are never fetched from an address, and no engine of this server reads any"


def _joined_text(content: Any) -> Any:
    """The content of a message as one string; only parts of type text can be joined."""
    if not isinstance(content, list):
        return content
    parts = [part if isinstance(part, dict) else {} for part in content]
    for part in parts:
        if part.get("type") == "image_url":
            raise ValueError(_why_no_image(part))
        if part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ValueError("only content parts of type text are read, no audio and no files")
    return "".join(part["text"] for part in parts)


def _read_prompts(value: Any) -> tuple[str | tuple[int, ...], ...]:
    """A prompt, or those of a list, each a text or token ids."""
    prompts = value if isinstance(value, list) and not _are_ids(value) else [value]
    if len(prompts) > MAX_PROMPTS:
        raise ValueError(f"at most {MAX_PROMPTS} prompts fit into one request")
    if not prompts:
        raise ValueError(NO_PROMPT)
    return tuple(map(_read_prompt, prompts))


def _read_prompt(value: Any) -> str | tuple[int, ...]:
    if isinstance(value, str):
        return check_characters(value)
    if isinstance(value, list) and _are_ids(value):
        return tuple(value)
    raise ValueError(NO_PROMPT)


def _are_ids(value: list[Any]) -> bool:
    return bool(value) and all(type(each) is int and each >= 0 for each in value)


NO_PROMPT = "must be a text, a list of token ids, or a list of such prompts"
Prompts = Annotated[
    tuple[str | tuple[int, ...], ...],
    PlainValidator(
        _read_prompts, json_schema_input_type=str | list[str] | list[int] | list[list[int]]
    ),
]


def _read_biases(value: Any) -> Any:
    """The biases by token id; JSON has texts for keys."""
    if not isinstance(value, dict):
        return value
    if len(value) > MAX_BIASES:
        raise ValueError(f"at most {MAX_BIASES:,} tokens can be biased")
    if wrong := next((key for key in value if not re.fullmatch(r"\d{1,9}", key)), None):
        raise ValueError(f"'{wrong:.20}' is no token id")
    return {int(key): bias for key, bias in value.items()}


Biases = Annotated[
    dict[int, Annotated[float, Field(ge=-100, le=100)]],
    BeforeValidator(_read_biases, json_schema_input_type=dict[str, float]),
]


class _Wire(BaseModel):
    """What arrives as JSON; a field that would change the answer and is not honoured is refused."""

    model_config = ConfigDict(
        extra="allow",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        json_schema_extra={"additionalProperties": False},
    )

    @model_validator(mode="after")
    def _check_supported(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            # Types are compared too: to Python `logprobs: 0` is False, to OpenAI it asks for one.
            neutral = any(type(value) is type(v) and value == v for v in NEUTRAL.get(name, ()))
            if value is not None and name not in HARMLESS and not neutral:
                message = WHY.get(name, "not supported by this server; leave it out")
                raise PydanticCustomError(UNSUPPORTED, message, {"field": name})
        return self


class TextPart(_Wire):
    """A part of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(_Wire):
    """A message of a chat, its content parts joined."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Text, BeforeValidator(_joined_text, json_schema_input_type=str | list[TextPart])
    ]
    """A text, or parts of type text, which are joined."""

    def as_message(self) -> Message:
        """The message as engines know it; `developer` is OpenAI's newer word for `system`."""
        return Message("system" if self.role == "developer" else self.role, self.content)


class StreamOptions(_Wire):
    """Options of `stream: true`."""

    include_usage: bool | None = None
    """Whether a last event tells the usage."""


StopString = Annotated[Text, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]


class JsonSchema(_Wire):
    """A schema, by a name of the caller's."""

    name: str | None = None
    """What the caller calls it."""
    description: str | None = None
    """What it is for; the model is not told."""
    schema_: dict[str, Any] = Field(alias="schema")
    """The JSON schema that the answer must fit."""
    strict: bool | None = None
    """It is heeded in any case."""


class ResponseFormat(_Wire):
    """The form of an answer: text, any JSON object, or JSON that fits a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    """The schema, for the type `json_schema`."""

    @model_validator(mode="after")
    def _check_schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema and the type json_schema belong together")
        try:
            size = len(self.as_json or "")
        except RecursionError:
            raise ValueError("the schema is nested too deeply") from None
        if size > MAX_SCHEMA_CHARACTERS:
            raise ValueError(f"a schema has at most {MAX_SCHEMA_CHARACTERS:,} characters")
        return self

    @property
    def as_json(self) -> str | None:
        """The schema as JSON; None where any text will do."""
        if self.type == "text":
            return None
        return json.dumps(self.json_schema.schema_ if self.json_schema else {"type": "object"})


class AnswerRequest(_Wire):
    """What chats and completions have in common."""

    model: Text | None = None
    """Without one the model that is there answers."""
    max_tokens: int | None = Field(default=None, ge=1)
    """The most tokens of an answer; more than there are is clamped, which `clamped` tells."""
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """OpenAI's newer word for it; of both the smaller one holds."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """0, the default here, takes the likeliest token."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """The share of probability that the tokens to draw from have together."""
    stop: Annotated[
        Annotated[list[StopString], Field(max_length=MAX_STOPS)] | None,
        BeforeValidator(
            lambda value: [value] if isinstance(value, str) else value,
            json_schema_input_type=StopString | list[StopString] | None,
        ),
    ] = None
    """What ends an answer before it is written; one text, or up to four."""
    top_k: int | None = Field(default=None, ge=-1, lt=2**31)
    """How many of the likeliest tokens may be drawn; 0 and -1: all."""
    min_p: float | None = Field(default=None, ge=0, le=1)
    """The share of the likeliest token's probability that a token needs to be drawn."""
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    """Divides the logits of tokens that stand in prompt or answer; 1 changes nothing."""
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    """Taken off the logit of each token that the answer has."""
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    """Taken off it as often as the answer has it."""
    logit_bias: Biases | None = None
    """Token ids, and what is added to the logit of each."""
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    """What draws the same answer again."""
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    """Answers to each prompt."""
    stream: bool | None = None
    """Whether the answer comes as it is written, as server-sent events."""
    stream_options: StreamOptions | None = None
    """What a stream tells besides."""
    response_format: ResponseFormat | None = None
    """The form of the answer, where the engine can hold it to one."""
    patient_context: dict[str, Any] | None = None
    """What is known of the patient, for the review of the answer; no field of OpenAI's."""
    review: bool | None = None
    """False asks for an answer that is not reviewed, where the server allows that."""

    @property
    def count(self) -> int:
        """How many answers each prompt gets."""
        return self.n or 1

    @property
    def asked_tokens(self) -> int | None:
        """The most tokens the caller wants, if it said so: the smaller of old field and new one."""
        return min(filter(None, (self.max_tokens, self.max_completion_tokens)), default=None)

    def sampling(self, limit: int, default: int) -> Sampling:
        """How to generate: greedy unless a temperature is named; at most `limit` tokens."""
        return Sampling(
            max_tokens=min(self.asked_tokens or default, limit),
            temperature=self.temperature or 0.0,
            top_p=self.top_p or 1.0,
            top_k=max(self.top_k or 0, 0),
            min_p=self.min_p or 0.0,
            repetition_penalty=self.repetition_penalty or 1.0,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias=tuple((self.logit_bias or {}).items()),
            json_schema=self.response_format.as_json if self.response_format else None,
            seed=self.seed,
            stop=tuple(self.stop or ()),
        )


class ChatRequest(AnswerRequest):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], FailFast()] = Field(min_length=1)
    """The conversation."""
    logprobs: bool | None = None
    """Whether to tell how likely each token of the answer was."""
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP)
    """How many of the likeliest tokens are told beside each."""

    @property
    def top(self) -> int | None:
        """How many of the likeliest tokens to tell beside each; None: nothing of tokens."""
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionRequest(AnswerRequest):
    """The body of `POST /v1/completions`."""

    prompt: Prompts
    """What to go on from: a text, token ids, or a list of such prompts."""
    echo: bool | None = None
    """Whether the prompt comes before the answer, with its logprobs where they are asked for."""
    logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP)
    """How many of the likeliest tokens are told beside each token."""

    @property
    def top(self) -> int | None:
        """How many of the likeliest tokens to tell beside each; None: nothing of tokens."""
        return self.logprobs
