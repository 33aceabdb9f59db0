"""The body of a request: read up to a limit, parsed strictly, checked against its form."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from medllm.serve.forms.strict import UNSUPPORTED, check_characters, place_of
from medllm.serve.wire import ApiError

MAX_BODY_BYTES = 4 * 2**20  # whatever the context: half a second of parsing at the worst
MAX_IMAGE_BODY_BYTES = 8 * 2**20
"""Of a chat with a model that reads images."""
MAX_DIGITS = 40
"""Of a whole number: more is no seed and no count, and takes squared time to convert."""

PLAIN_WORDS = {
    "extra_forbidden": "no such field; /openapi.json lists those that are taken",
    "missing": "it is needed",
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "must be a JSON object"),
    "list_type": "must be a list",
}
"""What is wrong, where pydantic's own words are of Python."""

Form = TypeVar("Form", bound=BaseModel)


async def read_body(request: Request, form: type[Form], limit: int) -> Form:
    """The body as `form`, whatever its Content-Type says: curl calls JSON a form by default.

    Raises:
        ApiError: it is compressed, longer than `limit` bytes, not JSON, or not of the form.
    """
    content = await _read(request, limit)
    if not content.strip():
        raise ApiError(400, "the body is not JSON: it is empty")
    value = parse_json(content)
    if not isinstance(value, dict):
        raise ApiError(400, "the body is not a JSON object")
    try:
        return form.model_validate(value)
    except ValidationError as problem:
        raise _first_error(problem) from None


async def _read(request: Request, limit: int) -> bytes:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        message = f"the body is compressed ({encoding}); send it as it is"
        raise ApiError(415, message, headers={"Accept-Encoding": "identity"})
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit:
            raise ApiError(
                413, f"the body is longer than {limit:,} bytes, what this model can read"
            )
    return bytes(content)


def parse_json(content: bytes) -> Any:
    """The value that a body holds.

    Raises:
        ApiError: it is not JSON in UTF-8, names a key twice, or is nested too deeply.
    """
    try:
        return json.loads(
            content.decode("utf-8-sig"),  # PowerShell writes a byte order mark
            parse_constant=_refuse_constant,
            parse_int=_integer,
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError as problem:
        raise ApiError(400, f"the body is not UTF-8 at byte {problem.start}") from None
    except ValueError as problem:
        raise ApiError(400, f"the body is not JSON: {problem}") from None
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise ApiError(400, f"{name}: stands twice in one object", param=name)
        fields[check_characters(name)] = value
    return fields


def _first_error(problem: ValidationError) -> ApiError:
    first = problem.errors(include_url=False)[0]
    code = UNSUPPORTED if first["type"] in {UNSUPPORTED, "extra_forbidden"} else None
    param = place_of(first) or None
    message = _message(first)
    return ApiError(400, f"{param}: {message}" if param else message, code, param)


def _message(problem: Mapping[str, Any]) -> str:
    """What is wrong, without the input; pydantic calls the characters of a checked text items."""
    kind = problem["type"]
    if kind in {"too_short", "too_long"}:
        what = "characters" if isinstance(problem["input"], str) else "items"
        limits = problem["ctx"]
        least, most = limits.get("min_length"), limits.get("max_length")
        return "must not be empty" if least == 1 else f"has at most {most:,} {what}"
    return PLAIN_WORDS.get(kind) or str(problem["msg"]).removeprefix("Value error, ")
