"""Functions that a model may call, and the calls of them that stand in a conversation."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from medllm.serve.forms.strict import Strict, Text, checked, wrong

MOST_TOOLS = 128  # OpenAI's limit
MAX_TOOLS_CHARACTERS = 2**17
"""Of all tools of a request, as JSON."""
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
"""OpenAI's own limit."""


class Function(Strict):
    """What a function is called, and what it takes."""

    name: FunctionName
    """Letters, digits, `_` and `-`, at most 64."""
    description: Text | None = None
    """What it does, for the model."""
    parameters: dict[str, Any] | None = None
    """The JSON schema of its arguments."""
    strict: bool | None = None
    """Passed on; whether it is heeded is for the engine."""


class Tool(Strict):
    """A tool of the caller's; only functions are known."""

    type: Literal["function"]
    function: Function


class Named(Strict):
    """A function by its name."""

    name: FunctionName


class NamedTool(Strict):
    """The one function that must be called."""

    type: Literal["function"]
    function: Named


class Called(Strict):
    """A function that the model called, and with what."""

    name: FunctionName
    arguments: Text
    """JSON, as the model wrote it."""


class ToolCall(Strict):
    """A call in an earlier answer."""

    id: Annotated[Text, Field(min_length=1)]
    """What `tool_call_id` of the message that answers it repeats."""
    type: Literal["function"]
    function: Called


def _read_choice(value: Any) -> str | NamedTool | None:
    if value is None or value in ("none", "auto", "required"):
        return None if value is None else str(value)
    if not isinstance(value, dict):
        raise ValueError("must be none, auto, required, or name a function")
    return checked(NamedTool, value)


ToolChoice = Annotated[
    str | NamedTool | None,
    PlainValidator(
        _read_choice, json_schema_input_type=Literal["none", "auto", "required"] | NamedTool | None
    ),
]


def check_tools(tools: Sequence[Tool], choice: str | NamedTool | None) -> None:
    """Raise an error that names the field where tools are too large, or a choice is none."""
    try:
        size = len(json.dumps([tool.model_dump() for tool in tools]))
    except (RecursionError, ValueError):
        raise wrong("tools", "the schema of one is nested too deeply") from None
    if size > MAX_TOOLS_CHARACTERS:
        raise wrong("tools", f"they have at most {MAX_TOOLS_CHARACTERS:,} characters together")
    names = [tool.function.name for tool in tools]
    if len({*names}) < len(names):
        raise wrong("tools", "two of them have one name")
    if isinstance(choice, NamedTool) and choice.function.name not in names:
        raise wrong("tool_choice", "it names none of the tools")
    if choice == "required" and not tools:
        raise wrong("tool_choice", "it is required, and there are no tools")
