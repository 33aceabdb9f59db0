"""How strictly a body is read: what would change the answer and is not honoured is refused."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from medllm.errors import did_you_mean

HARMLESS = {
    "user",
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "cache_control",
    "parallel_tool_calls",
}
"""Fields of OpenAI's, and one of its imitators', that cannot change an answer."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "min_tokens": (0,),
    "length_penalty": (1, 1.0),
    **dict.fromkeys(("chat_template_kwargs", "extra_body"), ({},)),
    **dict.fromkeys(("echo", "store", "ignore_eos", "use_beam_search"), (False,)),
    **dict.fromkeys(("include_obfuscation", "continuous_usage_stats"), (False,)),
    **dict.fromkeys(("tools", "tool_calls", "functions", "annotations"), ([],)),
    **dict.fromkeys(("tool_choice", "function_call"), ("none", "auto")),
    "suffix": ("",),
    "modalities": (["text"],),
}
"""Fields we do not honour, with the values that ask for nothing."""

NO_TOOLS = "a completion calls no tools; see /v1/chat/completions"
OLD_TOOLS = "say it with tools and tool_choice, which replaced it"
WHY: dict[str, str] = {
    **dict.fromkeys(("tools", "tool_choice"), NO_TOOLS),
    **dict.fromkeys(("functions", "function_call"), OLD_TOOLS),
    **dict.fromkeys(("max_length", "max_new_tokens", "n_predict"), "it is called max_tokens here"),
    "stop_sequences": "it is called stop here",
    "messages": "a completion goes on from a prompt; see /v1/chat/completions",
    "prompt": "a chat has messages; see /v1/completions",
    "store": "no text of a request is kept here",
    "best_of": "ask for n answers, and choose",
    "suffix": "the model goes on from a prompt, and fills no gap",
    "echo": "a conversation has no text to repeat; see /v1/completions",
    **dict.fromkeys(("audio", "modalities"), "the model writes text alone"),
    "include_obfuscation": "chunks are not padded here",
}
"""Why fields are not honoured, where more can be said than that they are not."""
UNSUPPORTED = "unsupported_parameter"
WRONG = "wrong"
CLOSE = 0.75
"""How alike a field that is meant must be: `reasoning_effort` is no slip of `response_format`."""


def wrong(field: str, message: str) -> PydanticCustomError:
    """The error of a validator of several fields: what is wrong with this one."""
    return PydanticCustomError(WRONG, message, {"field": field})


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


class Strict(BaseModel):
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
                near = did_you_mean(_snake(name), type(self).model_fields, CLOSE)
                otherwise = (
                    f"not supported by this server; {near and near + 'if not, '}leave it out"
                )
                message = WHY.get(name, otherwise)
                raise PydanticCustomError(UNSUPPORTED, message, {"field": name})
        return self


def _snake(name: str) -> str:
    """The name in OpenAI's way: `topP` as `top_p`."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()


Form = TypeVar("Form", bound=Strict)


def checked(form: type[Form], value: Any) -> Form:
    """The value as a form, within a validator of our own.

    Raises:
        ValueError: it is none; says why without quoting it.
    """
    try:
        return form.model_validate(value)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        raise ValueError(
            f"{place_of(first)}: {first['msg'].removeprefix('Value error, ')}"
        ) from None


def place_of(problem: Mapping[str, Any]) -> str:
    """The field that an error of pydantic is of, by its path; empty where it is of none."""
    named = problem.get("ctx", {}).get("field")
    return ".".join(map(str, [*problem["loc"], *([named] if named else [])]))
