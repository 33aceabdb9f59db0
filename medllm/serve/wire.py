"""What goes over the wire: OpenAI's requests, answers and errors.

The forms are those of https://platform.openai.com/docs/api-reference/chat. A field that would
change the answer and is not honoured is refused, never dropped.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, FailFast, Field, PlainValidator, model_validator

from medllm.engines.base import Sampling
from medllm.engines.servers.chat import Chat
from medllm.serve.forms.messages import ChatMessage, Image, check_calls
from medllm.serve.forms.strict import Strict, Text, check_characters, wrong
from medllm.serve.forms.tools import MOST_TOOLS, NamedTool, Tool, ToolChoice, check_tools

MAX_STOPS = 4  # OpenAI's limit
MAX_STOP_CHARACTERS = 1024  # so much of an answer may be held back until it is clear
MAX_CHOICES = 16
MAX_PROMPTS = 128
MAX_BIASES = 1024
TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,8}")  # one way to write each, so that none stands twice
MAX_SCHEMA_CHARACTERS = 2**16
MAX_TOP = 20  # OpenAI's limit for chats

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
    if wrong := next((key for key in value if not TOKEN_ID.fullmatch(key)), None):
        raise ValueError(f"'{wrong:.20}' is no token id")
    return {int(key): bias for key, bias in value.items()}


Biases = Annotated[
    dict[int, Annotated[float, Field(ge=-100, le=100)]],
    BeforeValidator(_read_biases, json_schema_input_type=dict[str, float]),
]


class StreamOptions(Strict):
    """Options of `stream: true`."""

    include_usage: bool | None = None
    """Whether a last event tells the usage."""


StopString = Annotated[Text, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]


class JsonSchema(Strict):
    """A schema, by a name of the caller's."""

    name: str | None = None
    """What the caller calls it."""
    description: str | None = None
    """What it is for; the model is not told."""
    schema_: dict[str, Any] = Field(alias="schema")
    """The JSON schema that the answer must fit."""
    strict: bool | None = None
    """It is heeded in any case."""


class ResponseFormat(Strict):
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


class AnswerRequest(Strict):
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
    """What draws the same answer again, where none is written beside it."""
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    """Answers to each prompt."""
    stream: bool | None = None
    """Whether the answer comes as it is written, as server-sent events."""
    stream_options: StreamOptions | None = None
    """What a stream tells besides."""
    response_format: ResponseFormat | None = None
    """The form of the answer, where the engine can hold it to one."""
    patient_context: dict[str, Any] | None = None
    """What is known of the patient, for the review of the answer; no field of OpenAI's. It has
    `age`, `sex`, `pregnant`, `breastfeeding`, `weight_kg` and `egfr`, and as lists of texts
    `conditions`, `allergies` and `medications`; all may be left out."""
    review: bool | None = None
    """False asks for an answer that is not reviewed, where the server allows that."""

    @property
    def count(self) -> int:
        """How many answers each prompt gets."""
        return self.n or 1

    @property
    def asked(self) -> dict[str, int]:
        """The most tokens the caller wants, by the fields that say so: the old one and the new."""
        said = {name: getattr(self, name) for name in ("max_tokens", "max_completion_tokens")}
        return {name: count for name, count in said.items() if count is not None}

    @property
    def asked_tokens(self) -> int | None:
        """The smaller of both, if the caller said any."""
        return min(self.asked.values(), default=None)

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
    tools: list[Tool] | None = Field(default=None, max_length=MOST_TOOLS)
    """Functions that the model may call, where the engine reads calls."""
    tool_choice: ToolChoice = None
    """Whether it may call any (`auto`), must (`required`), must not (`none`), or which one."""
    parallel_tool_calls: bool | None = None
    """Whether one answer may hold several calls."""
    logprobs: bool | None = None
    """Whether to tell how likely each token of the answer was."""
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP)
    """How many of the likeliest tokens are told beside each."""

    @model_validator(mode="after")
    def _check_tools(self) -> Self:
        check_calls(self.messages)
        check_tools(self.tools or (), self.tool_choice)
        if self.has_tools and self.messages[-1].role == "assistant":
            raise wrong("messages", "with tools, the last one is not the assistant's")
        if self.has_tools and self.response_format and self.response_format.as_json:
            raise wrong("response_format", "it cannot hold an answer to a form beside tools")
        return self

    @property
    def has_tools(self) -> bool:
        """Whether functions can be called, or were."""
        spoken = (each.role == "tool" or each.tool_calls for each in self.messages)
        return bool(self.tools) or any(spoken)

    @property
    def images(self) -> list[Image]:
        """All images, in the order of the conversation."""
        return [image for message in self.messages for image in message.images]

    @property
    def chat(self) -> Chat | None:
        """The conversation in OpenAI's own form; None where it is texts alone."""
        if not self.has_tools and not self.images:
            return None
        choice = self.tool_choice
        named = choice.model_dump() if isinstance(choice, NamedTool) else choice
        return Chat(
            tuple(message.as_sent() for message in self.messages),
            tuple(tool.model_dump(exclude_none=True) for tool in self.tools or ()),
            named,
            self.parallel_tool_calls,
        )

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
