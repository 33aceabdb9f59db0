"""What of a JSON schema llama.cpp leaves unheeded without a word, so that it must be refused.

As its `common/json-schema.cpp` reads schemas, in the version that is pinned.
"""

from collections.abc import Iterator, Mapping
from typing import Any

UNHEEDED = {
    *("multipleOf", "uniqueItems", "contains", "not", "if", "minProperties", "maxProperties"),
    *("propertyNames", "patternProperties", "dependentRequired", "dependentSchemas"),
    *("dependencies", "unevaluatedItems", "unevaluatedProperties", "$dynamicRef"),
}
BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
"""Heeded of whole numbers alone: a `number` may be anything."""
TEXTS = {"pattern", "minLength", "maxLength"}
DECIDING = ("$ref", "oneOf", "anyOf", "const", "enum")
"""The first of these that a schema has decides alone; the words of `BESIDE` with it do nothing."""
BESIDE = {"properties", "items", "prefixItems", "minItems", "maxItems", "allOf", "format",
          *TEXTS, *BOUNDS, *DECIDING}  # fmt: skip
INSTEAD = {
    "pattern": {"minLength", "maxLength", "format"}, "items": {"prefixItems"},
    "minimum": {"exclusiveMinimum"}, "maximum": {"exclusiveMaximum"},
}  # fmt: skip
"""What is not read beside a word."""
JOINED = {"properties", "enum", "$ref", "anyOf", "oneOf"}
"""What is read of the parts of `allOf`."""
NAMED = ("properties", "$defs", "definitions")
"""What holds schemas by name, and `PARTS` one schema or a list of them."""
PARTS = ("items", "prefixItems", "anyOf", "oneOf", "allOf", "additionalProperties")


def find_unheeded(schema: Mapping[str, Any]) -> str | None:
    """A word of a schema that an answer would not be held to; None where there is none."""
    waiting: list[Any] = [schema]  # a list, because callers may nest as deep as they like
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if found := next(_unheeded(each), None):
                return found
            waiting += _parts(each)
    return None


def _unheeded(schema: Mapping[str, Any]) -> Iterator[str]:
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    is_whole = "integer" in kinds and "number" not in kinds
    yield from (word for word in schema if word in UNHEEDED)
    yield from (word for word in schema if word in BOUNDS and not is_whole)
    if first := next((word for word in DECIDING if word in schema), None):
        same = {first, "enum"} if first == "const" else {first}  # pydantic writes a literal so
        yield from (word for word in schema if word in BESIDE - same)
    for word, unread in INSTEAD.items():
        yield from (each for each in schema if word in schema and each in unread)
    together = schema.get("allOf")
    for part in together if isinstance(together, list) else ():
        if not (isinstance(part, dict) and JOINED & part.keys()):
            yield "allOf"
    known, required = schema.get("properties"), schema.get("required", [])
    known = known if isinstance(known, dict) else {}
    names = required if isinstance(required, list) else [None]
    if not all(isinstance(name, str) and name in known for name in names):
        yield "required"


def _parts(schema: Mapping[str, Any]) -> Iterator[Any]:
    for word, value in schema.items():
        if word in NAMED and isinstance(value, dict):
            yield from value.values()
        elif word in PARTS:
            yield from value if isinstance(value, list) else [value]
