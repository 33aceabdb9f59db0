"""Conversations, contexts and earlier turns of a user's rows; and rows that medllm wrote itself."""

import csv
import io
import json
from typing import Any

import pytest

from medllm.data.example import Example, Message, Rejected, to_json
from medllm.data.left_out import LeftOut
from medllm.data.readers.csv_form import CSV_COLUMNS, harmless, restored, to_cells
from medllm.data.shapes import Columns, read_prompt
from medllm.data.shapes.local import CUT, read_local

ASK = {"role": "user", "content": "May I give it?"}
HOLD = {"role": "assistant", "content": "Hold it."}
THANKS = {"role": "user", "content": "Thanks."}
BYE = {"role": "assistant", "content": "You are welcome."}


def local(row: dict[str, Any]) -> Example:
    example = read_local("notes", 1, row, Columns())
    assert isinstance(example, Example), example
    return example


def turns(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Who says what in a row, its answer at the end."""
    example = local(row)
    asked = [(turn.role, turn.content) for turn in example.prompt]
    return [*asked, ("answer", example.completion)]


def part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


# Conversations


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASK, HOLD]},
        {"messages": json.dumps([ASK, HOLD])},
        {"conversations": [ASK, HOLD]},
        {"conversations": [{"from": "human", "value": "May I give it?"},
                           {"from": "gpt", "value": "Hold it."}]},
        {"messages": [{"role": "User ", "content": "May I give it?"},
                      {"role": "ASSISTANT", "content": "Hold it."}]},
        {"messages": [{"role": "user", "content": [part("May I "), part("give it?")]},
                      {"role": "assistant", "content": [part("Hold it.")]}]},
        {"prompt": [ASK], "completion": [HOLD]},
        {"prompt": [ASK], "completion": "Hold it."},
        {"prompt": "May I give it?", "completion": [HOLD]},
        {"prompt": json.dumps([ASK]), "completion": json.dumps([HOLD])},
        {"prompt": str([ASK]), "completion": str([HOLD])},
        {"prompt": [ASK], "completion": HOLD},
        {"question": str([part("May I give it?")]), "answer": json.dumps([part("Hold it.")])},
        {"question": "May I give it?", "answers": {"text": ["Hold it."], "answer_start": [0]}},
        {"messages": {"role": ["user", "assistant"], "content": ["May I give it?", "Hold it."]}},
        {"prompt": [part("May I give it?")], "completion": [part("Hold it.")]},
        {"question": ["May I give it?"], "answer": {"text": ["Hold it."], "answer_start": [0]}},
        {"messages": None, "question": "May I give it?", "answer": "Hold it."},
        {"question": None, "answer": None, "prompt": "May I give it?", "completion": "Hold it."},
    ],
)  # fmt: skip
def test_every_form_is_the_same_conversation(row: dict[str, Any]) -> None:
    assert turns(row) == [("user", "May I give it?"), ("answer", "Hold it.")]
    assert local(row).metadata == {}


def test_messages_in_a_cell_that_cannot_be_read_are_not_text() -> None:
    row = {"prompt": "[{'role': 'user', 'content': 'May I'}\n {'role'", "completion": "Hold it."}

    assert read_local("notes", 1, row, Columns()) == Rejected("notes/1", "not text")


def test_a_backslash_in_a_cell_of_messages_stays() -> None:
    row = {"prompt": "[{'role': 'user', 'content': 'a\\d'}]", "completion": "b"}

    assert turns(row)[0] == ("user", "a\\d")


@pytest.mark.parametrize("answer", ["[]", '[{"drug": "x", "from": "2020"}]', '{"a": 1}', "[[1"])
def test_an_answer_may_be_json(answer: str) -> None:
    assert turns({"question": "Q", "answer": answer})[-1] == ("answer", answer)


def test_two_columns_of_one_name_are_both_kept() -> None:
    example = local({"Question": "Q", "question": "again", "answer": "A"})

    assert example.prompt[0].content == "Q"
    assert example.metadata == {"question (again)": "again"}


def test_earlier_answers_stay_turns_of_their_own() -> None:
    said = [("user", "May I give it?"), ("assistant", "Hold it."), ("user", "Thanks.")]

    for row in ({"messages": [ASK, HOLD, THANKS, BYE]},
                {"prompt": [ASK, HOLD, THANKS], "completion": [BYE]},
                {"prompt": [ASK], "completion": [HOLD, THANKS, BYE]}):  # fmt: skip
        assert turns(row) == [*said, ("answer", "You are welcome.")]


def test_what_comes_after_the_last_answer_is_cut_off_and_counted() -> None:
    row = {"messages": [ASK, HOLD, THANKS, {"role": "user", "content": "Bye."}]}

    assert turns(row) == [("user", "May I give it?"), ("answer", "Hold it.")]
    assert local(row).metadata == {CUT: 2}


def test_a_developer_is_the_system_and_an_empty_system_is_none() -> None:
    developer, empty = (
        {"role": "developer", "content": "Be brief."},
        {"role": "system", "content": ""},
    )

    assert turns({"messages": [developer, ASK, HOLD]})[0] == ("system", "Be brief.")
    assert turns({"messages": [empty, ASK, HOLD]})[0] == ("user", "May I give it?")


CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([ASK, {"role": "doctor", "content": "Hold it."}], "unknown role"),
        ([ASK, {"role": ["user"], "content": "Hold it."}], "unknown role"),
        ([ASK, CALL, {"role": "tool", "content": "5.9"}, HOLD], "tool calls are not read"),
        ([ASK, {"from": "observation", "value": "5.9"}, HOLD], "tool calls are not read"),
        ([ASK, {**HOLD, "weight": 0}, THANKS, BYE], "a turn of weight 0"),
        ([ASK, THANKS], "no answer"),
        ([ASK, {"role": "assistant", "content": None}], "no answer"),
        ([ASK, {"role": "assistant", "content": float("nan")}, THANKS, BYE], "an empty turn"),
        ([{"role": "user", "content": None}, HOLD], "an empty turn"),
        ([ASK, {"role": "assistant", "content": {"dose": "5 mg"}}], "not text"),
        ([ASK, {"role": "assistant", "content": [part("a"), {"type": "audio"}]}], "not text"),
        ([ASK, HOLD, {"role": "user", "content": [{"type": "image"}]}, BYE],
         "an image after the first question"),
        ([{"role": "user", "content": [{"type": "image"}, part("Seen?")]}, HOLD], "missing image"),
        ([{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}]}, HOLD],
         "an image that is no file"),
    ],
)  # fmt: skip
def test_a_conversation_that_no_example_can_hold_is_left_out(
    messages: list[Any], reason: str
) -> None:
    assert read_local("notes", 1, {"messages": messages}, Columns()) == Rejected("notes/1", reason)


def test_other_keys_of_messages_are_kept_and_named() -> None:
    thinking = {**HOLD, "reasoning_content": "Potassium is high."}

    assert local({"messages": [ASK, thinking]}).metadata == {
        "messages.reasoning_content": ["Potassium is high."]
    }


# Images


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": [{"type": "image"}, part("Seen?")]}, HOLD],
         "images": ["a.png"]},
        {"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"},
                                                   part("Seen?")]}, HOLD]},
        {"conversations": [{"from": "human", "value": "<image>\nSeen?"},
                           {"from": "gpt", "value": "Hold it."}], "image": "a.png"},
        {"question": "Seen?", "answer": "Hold it.", "image": {"bytes": None, "path": "a.png"}},
        {"question": "Seen?\n<image>", "answer": "Hold it.", "image": "a.png"},
    ],
)  # fmt: skip
def test_images_of_messages(row: dict[str, Any]) -> None:
    assert turns(row) == [("user", "Seen?"), ("answer", "Hold it.")]
    assert local(row).images == ("a.png",)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"image": {"bytes": b"\x89", "path": None}}, "an image that is no file"),
        ({"image": {"bytes": b"\x89", "path": "a.png"}}, "an image that is no file"),
        ({"images": ["a.png", None]}, "missing image"),
        ({"images": ["a.png", {"bytes": b"\x89", "path": "b.png"}]}, "missing image"),
        ({"question": "<image>Seen?"}, "missing image"),
        ({"question": "<image>Seen?", "images": ["a.png", "b.png"]}, "more or fewer images"),
        ({"question": "<image><image>Seen?", "image": "a.png"}, "more or fewer images"),
        ({"question": "Is <image> new?", "image": "a.png"}, "an image amidst words"),
        ({"prompt": [{"role": "user", "content": [part("Is "), {"type": "image"}, part("new?")]}],
          "completion": "Yes.", "image": "a.png"}, "an image amidst words"),
        ({"prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}],
          "completion": "Yes.", "image": "a.png"}, "more or fewer images"),
    ],
)  # fmt: skip
def test_an_image_that_a_model_could_not_be_shown_leaves_its_row_out(
    row: dict[str, Any], reason: str
) -> None:
    row = {"question": "Seen?", "answer": "Yes.", **row}

    found = read_local("notes", 1, row, Columns())

    assert isinstance(found, Rejected)
    assert found.reason.startswith(reason)


# What stands beside a question


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({"context": "BP 80/40."}, "BP 80/40.\n\nIs it low?"),
        ({"contexts": ["BP 80/40.", "HR 120."]}, "BP 80/40.\n\nHR 120.\n\nIs it low?"),
        ({"passage": "BP 80/40.", "note": "HR 120."}, "BP 80/40.\n\nHR 120.\n\nIs it low?"),
        ({"history": "Septic."}, "Septic.\n\nIs it low?"),
        ({"context": float("nan"), "note": ""}, "Is it low?"),
        ({"instruction": "Answer yes or no."}, "Answer yes or no.\n\nIs it low?"),
    ],
)
def test_a_question_comes_after_what_it_is_about(row: dict[str, Any], asked: str) -> None:
    row = {"question": "Is it low?", "answer": "Hold it.", **row}

    assert turns(row) == [("user", asked), ("answer", "Hold it.")]
    assert local(row).metadata == {}
    assert read_prompt(row) == (Message("user", asked),)


def test_a_context_that_the_prompt_holds_already_is_not_put_twice() -> None:
    row = {"context": "BP 80/40.", "prompt": "BP 80/40. Is it low?", "completion": "Yes."}

    assert turns(row)[0] == ("user", "BP 80/40. Is it low?")


def test_an_instruction_comes_before_its_context() -> None:
    row = {"instruction": "Sum up.", "context": "BP 80/40.", "response": "Low."}

    assert turns(row)[0] == ("user", "Sum up.\n\nBP 80/40.")


@pytest.mark.parametrize(
    "history",
    [
        [["May I give it?", "Hold it."]],
        [("May I give it?", "Hold it.")],
        [ASK, HOLD],
        '[["May I give it?", "Hold it."]]',
    ],
)
def test_system_and_history_come_before_a_question(history: Any) -> None:
    row = {"system": "Be brief.", "history": history, "question": "Why?", "answer": "Potassium."}

    assert turns(row) == [
        ("system", "Be brief."),
        ("user", "May I give it?"),
        ("assistant", "Hold it."),
        ("user", "Why?"),
        ("answer", "Potassium."),
    ]


def test_a_system_column_stands_beside_messages() -> None:
    assert turns({"system": "Be brief.", "messages": [ASK, HOLD]})[0] == ("system", "Be brief.")


def test_columns_of_other_forms_are_kept_where_they_are_not_read() -> None:
    row = {"question": "Q", "answer": "A", "text": "T", "summary": "S", "tools": [{"name": "x"}]}

    assert local(row).metadata == {"text": "T", "summary": "S", "tools": [{"name": "x"}]}


def test_nested_metadata_are_flattened_by_one_level() -> None:
    nested = {"patient_id": 7, "ward": "ER", "labs": {"k": float("nan"), "na": 140}}

    example = local({"question": "Q", "answer": "A", "ward": "ICU", "metadata": nested})

    assert example.group == "7"
    assert example.metadata == {"patient_id": 7, "ward": "ICU", "labs": {"k": None, "na": 140}}


def test_metadata_that_json_cannot_hold() -> None:
    nested: list[Any] = []
    for _ in range(400):
        nested = [nested]
    row = {"question": "Q", "answer": "A"}

    assert local({**row, "k": float("inf"), "b": b"\xffx"}).metadata == {"k": "inf", "b": "\ufffdx"}
    assert read_local("notes", 1, {**row, "m": nested}, Columns()) == Rejected(
        "notes/1", "nested too deeply"
    )


# Rows that medllm wrote

WRITTEN = (
    Example("qa/7", "qa", "p1", (Message("user", "Q"),), "A", metadata={"ward": "ICU"}),
    Example("qa/8", "qa", "p2", (), "Running text."),
    Example(
        "quiz/9", "quiz", "9", (Message("system", "S"), Message("user", "=1+1")), "B. two",
        ("A", "B"), "B", ("a.png",), {"k": "v"},
    ),
    Example(
        "chat/1", "chat", "1",
        tuple(Message(**turn) for turn in (ASK, HOLD, THANKS)), "-5 mg, not +5",  # type: ignore[arg-type]
    ),
)  # fmt: skip


@pytest.mark.parametrize("example", WRITTEN)
def test_a_written_row_is_read_as_what_it_is(example: Example) -> None:
    row = to_json(example)

    assert read_local("train", 1, row, Columns()) == example
    assert read_prompt({**row, "images": []}) == example.prompt


@pytest.mark.parametrize("example", WRITTEN)
def test_a_written_csv_row_is_read_as_what_it_is(example: Example) -> None:
    file = io.StringIO()
    csv.writer(file).writerow(map(harmless, to_cells(example).values()))
    cells = next(csv.reader(io.StringIO(file.getvalue(), newline="")))

    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
    assert read_local("train", 1, dict(zip(CSV_COLUMNS, cells, strict=True)), Columns()) == example


@pytest.mark.parametrize(
    "cell", ["=1+1", "'=1+1", "''@x", "-5 mg", "\t=x", "it's", "'tis", "", "＝1"]
)
def test_a_harmless_cell_is_restored(cell: str) -> None:
    assert not harmless(cell).startswith(("=", "+", "-", "@", "\t", "＝"))
    assert restored(harmless(cell)) == cell


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"messages": [ASK, HOLD, THANKS, BYE]}, [ASK, HOLD, THANKS]),
        ({"messages": [ASK, HOLD]}, [ASK]),
        ({"prompt": [ASK]}, [ASK]),
        (
            {"instruction": "May I", "question": "give it?"},
            [{"role": "user", "content": "May I\n\ngive it?"}],
        ),
        ({"conversations": [{"from": "human", "value": "May I give it?"}]}, [ASK]),
    ],
)
def test_a_prompt_is_a_conversation_without_its_answer(
    row: dict[str, Any], prompt: list[dict[str, Any]]
) -> None:
    assert read_prompt(row) == tuple(Message(**turn) for turn in prompt)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": {"dose": "5 mg"}}, "not text"),
        ({"messages": [{"role": "doctor", "content": "M"}]}, "unknown role"),
        ({"prompt": "Seen?", "image": "a.png"}, "with images"),
    ],
)
def test_a_prompt_that_cannot_be_asked_has_a_reason(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(LeftOut, match=reason):
        read_prompt(row)
