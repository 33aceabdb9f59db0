"""Values of raw rows: text, what is spelt out, what is missing, and what is none of these."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from medllm.data.example import Example, Rejected
from medllm.data.left_out import NotText
from medllm.data.shapes import Columns, Shape
from medllm.data.shapes.columns import read_columns
from medllm.data.shapes.local import read_local
from medllm.data.shapes.multiple_choice import read_multiple_choice
from medllm.data.shapes.pubmedqa import read_pubmedqa
from medllm.data.shapes.values import text_of

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (" 5 mg\n", "5 mg"),
        ("nan", ""),
        (" NULL ", ""),
        (r"\N", ""),
        ("NA", "NA"),
        ("null", "null"),
        ("nan mg", "nan mg"),
        ("1\x002 mg", "1 2 mg"),
        ("a\x00 b \x00c", "a b c"),
        ("None", "None"),
        (5, "5"),
        (0, "0"),
        (5.0, "5.0"),
        (2.5, "2.5"),
        (0.00001, "0.00001"),
        (1e16, "10000000000000000"),
        (True, "true"),
        (False, "false"),
        (Decimal("0.50"), "0.50"),
        (Decimal("1E+2"), "100"),
        (date(2020, 1, 2), "2020-01-02"),
        (datetime(2020, 1, 2, 3, 4, tzinfo=UTC), "2020-01-02 03:04:00+00:00"),
        ("≥ 5 µg".encode(), "≥ 5 µg"),
        (["yes"], "yes"),
        ([5], "5"),
        ([{"type": "text", "text": "5 mg"}], "5 mg"),
        ([{"type": "text", "text": "no "}, {"type": "text", "text": "fever"}], "no fever"),
        ({"type": "text", "text": "5 mg"}, "5 mg"),
        ({"text": ["5 mg", "5 mg daily"], "answer_start": [3, 3]}, "5 mg"),
        ({"text": "5 mg", "answer_start": 3}, "5 mg"),
        ([{"text": "5 mg", "answer_start": 3}, {"text": "5", "answer_start": 3}], "5 mg"),
    ],
)
def test_what_is_text(value: Any, text: str) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize(
    "value",
    [None, NAN, Decimal("NaN"), "", " ", [], [None], [NAN], [""], {"text": [], "answer_start": []}],
)
def test_what_is_missing(value: Any) -> None:
    assert text_of(value) == ""


@pytest.mark.parametrize(
    "value",
    [
        ["1 tablet", "2 tablets"],
        {"dose": "5 mg"},
        {},
        [["yes"]],
        [{"dose": "5 mg"}],
        [{"text": "a"}, {"text": "b"}],
        [{"type": "image", "image": "a.png"}],
        [{"type": "text", "text": "a"}, {"type": "image", "image": "a.png"}],
        [{"type": "text", "text": {"value": "a"}}],
        {"text": "a", "label": "b"},
        {"type": "json", "text": "a"},
        float("inf"),
        Decimal("Infinity"),
        b"\xff\xfe",
        {"yes"},
        object(),
    ],
)
def test_what_is_not_text(value: Any) -> None:
    with pytest.raises(NotText):
        text_of(value)


QA = {"id": "q", "question": "Q", "answer": "A"}
PUBMEDQA = {
    "pubid": "q",
    "question": "Q",
    "context": "C",
    "long_answer": "A",
    "final_decision": "no",
}
CHOICES = {"id": "q", "question": "Q", "options": ["one", "two"], "answer": "two"}
ROWS: dict[str, tuple[Shape, dict[str, Any], Columns]] = {
    "local": (read_local, QA, Columns()),
    "columns": (read_columns, QA, Columns(id="id", prompt="question", completion="answer")),
    "pubmedqa": (read_pubmedqa, PUBMEDQA, Columns()),
    "multiple_choice": (read_multiple_choice, CHOICES, Columns(id="id")),
}


def read(shape: str, **change: Any) -> Example | Rejected:
    reader, row, columns = ROWS[shape]
    return reader("d", 1, {**row, **change}, columns)


@pytest.mark.parametrize("value", [["1 tablet", "2 tablets"], {"dose": "5 mg"}, float("inf")])
@pytest.mark.parametrize(
    ("shape", "column"),
    [
        ("local", "question"),
        ("local", "answer"),
        ("columns", "question"),
        ("columns", "answer"),
        ("pubmedqa", "question"),
        ("pubmedqa", "long_answer"),
        ("pubmedqa", "final_decision"),
        ("multiple_choice", "question"),
        ("multiple_choice", "answer"),
    ],
)
def test_a_row_with_a_value_that_is_not_text_is_left_out(
    shape: str, column: str, value: Any
) -> None:
    assert read(shape, **{column: value}) == Rejected("d/q", "not text")


@pytest.mark.parametrize("missing", [None, NAN])
@pytest.mark.parametrize(
    ("shape", "column", "reason"),
    [
        ("local", "answer", "no answer"),
        ("columns", "answer", "no answer"),
        ("columns", "question", "no question"),
        ("pubmedqa", "question", "no question"),
        ("multiple_choice", "question", "no question"),
        ("multiple_choice", "answer", "no label"),
    ],
)
def test_a_missing_value_is_named(shape: str, column: str, reason: str, missing: Any) -> None:
    assert read(shape, **{column: missing}) == Rejected("d/q", reason)


@pytest.mark.parametrize("missing", [None, NAN])
def test_a_missing_id_or_group_is_none(missing: Any) -> None:
    example = read("local", id=missing, patient_id=missing, ward=missing)

    assert isinstance(example, Example)
    assert (example.id, example.group, example.metadata) == ("d/1", "1", {})


def test_a_missing_input_is_not_asked() -> None:
    row = {"instruction": "Summarise.", "input": NAN, "output": "A"}
    example = read_local("d", 1, row, Columns())

    assert isinstance(example, Example)
    assert example.prompt[0].content == "Summarise."


def test_an_option_that_is_nan_is_missing() -> None:
    example = read("multiple_choice", options=["one", "two", NAN])

    assert isinstance(example, Example)
    assert example.choices == ("A", "B")


def test_an_id_that_is_not_text_leaves_the_row_out() -> None:
    assert read("local", id={"$oid": "5f"}) == Rejected("d/1", "not text")
