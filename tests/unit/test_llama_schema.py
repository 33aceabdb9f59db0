"""Words of a JSON schema that llama.cpp does not heed are refused by name."""

import json
from typing import Any

import pytest

from medllm.engines.sampling import Sampling, UnfitSampling, check_sampling

DOSE = {"type": "number", "maximum": 10}
DEEP: dict[str, Any] = {"type": "integer"}
for _ in range(300):
    DEEP = {"type": "array", "items": DEEP}


@pytest.mark.parametrize(
    ("schema", "word"),
    [
        (DOSE, "maximum"),
        ({"minimum": 0}, "minimum"),
        ({"type": ["number", "null"], "exclusiveMinimum": 0}, "exclusiveMinimum"),
        ({"type": "object", "properties": {"dose": DOSE}}, "maximum"),
        ({"$defs": {"dose": DOSE}, "$ref": "#/$defs/dose"}, "maximum"),
        ({"type": "array", "items": {"anyOf": [{"type": "null"}, DOSE]}}, "maximum"),
        ({"type": "object", "additionalProperties": DOSE}, "maximum"),
        ({"type": "integer", "multipleOf": 5}, "multipleOf"),
        ({"not": {}}, "not"),
        ({"allOf": [{"type": "integer"}]}, "allOf"),
        ({"$ref": "#/$defs/a", "maxLength": 5, "$defs": {"a": {"type": "string"}}}, "maxLength"),
        ({"anyOf": [{"type": "string"}], "pattern": "a"}, "pattern"),
        ({"enum": ["a", "b"], "minLength": 5}, "minLength"),
        ({"type": "string", "pattern": "a+", "maxLength": 5}, "maxLength"),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": 5}, "exclusiveMinimum"),
        ({"type": "object", "properties": {"a": {}}, "required": ["a", "b"]}, "required"),
        ({"type": "object", "properties": {"a": {}}, "required": "a"}, "required"),
    ],
)
def test_a_word_that_would_not_hold_an_answer_is_named(schema: Any, word: str) -> None:
    sampling = Sampling(json_schema=json.dumps(schema))

    with pytest.raises(UnfitSampling, match=f"json_schema: .* its '{word}'"):
        check_sampling("llama_server", sampling)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        DEEP,
        {"type": ["integer", "null"], "minimum": 0, "exclusiveMaximum": 10},
        # names of properties are no words of a schema
        {"type": "object", "properties": {"not": {}, "maximum": {}}, "required": ["not"]},
        {"enum": [{"maximum": 1}], "default": {"not": 1}, "x-note": {"if": 1}},
        {"items": True, "properties": [], "type": {}, "allOf": 5},
        {"const": "a", "enum": ["a"], "type": "string", "title": "Unit"},
        {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None, "title": "Note"},
        {"anyOf": 5, "description": "a dose", "type": "string", "default": 1},
        {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"properties": {"b": {}}}}},
    ],
)
def test_what_llama_cpp_heeds_or_refuses_itself_passes(schema: Any) -> None:
    check_sampling("llama_server", Sampling(json_schema=json.dumps(schema)))
