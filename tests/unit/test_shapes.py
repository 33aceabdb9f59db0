"""Rows of every source → Examples, or a reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from medllm.data.example import Example, Message, Rejected, from_json, read_jsonl, write_jsonl
from medllm.data.example import to_json as as_json
from medllm.data.readers.rows import KEY
from medllm.data.registry.datasets import Dataset, DatasetSpec
from medllm.data.shapes import Columns, read_prompt
from medllm.data.shapes.local import read_local
from medllm.data.shapes.pubmedqa import read_pubmedqa

RAW = {
    KEY: "21645374",
    "QUESTION": "Do mitochondria play a role?",
    "CONTEXTS": ["First paragraph.", "Second paragraph."],
    "LABELS": ["BACKGROUND", "RESULTS"],
    "YEAR": "2011",
    "LONG_ANSWER": "Results depicted mitochondrial dynamics.",
    "final_decision": "yes",
}
PARAGRAPHS = ["First paragraph.", "Second paragraph."]
HUB = {
    "pubid": 21645374,
    "question": "Do mitochondria play a role?",
    "context": {"contexts": PARAGRAPHS, "labels": ["BACKGROUND", "RESULTS"]},
    "long_answer": "Results depicted mitochondrial dynamics.",
    "final_decision": "yes",
}
OLD_HUB = {**HUB, "context": [{"contexts": text, "labels": "X"} for text in PARAGRAPHS]}
BIGBIO = {
    "id": "0",
    "question_id": "0",
    "document_id": 21645374,
    "question": "Do mitochondria play a role?",
    "type": "yesno",
    "choices": ["yes", "no", "maybe"],
    "context": "First paragraph. Second paragraph.",
    "answer": ["yes"],
}


def pubmedqa(row: dict[str, Any]) -> Example:
    example = read_pubmedqa("pubmedqa", 1, row, Columns())
    assert isinstance(example, Example)
    return example


def local(row: dict[str, Any], number: int = 1) -> Example:
    example = read_local("notes", number, row, Columns())
    assert isinstance(example, Example)
    return example


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


# PubMedQA


def test_the_raw_release() -> None:
    example = pubmedqa(RAW)

    assert example.id == "pubmedqa/21645374"
    assert example.group == "21645374"
    assert example.prompt == user(
        "Abstract: First paragraph.\nSecond paragraph.\n"
        "Question: Do mitochondria play a role?\nAnswer:"
    )
    assert example.completion == "yes. Results depicted mitochondrial dynamics."
    assert example.choices == ("yes", "no", "maybe")
    assert example.target == "yes"
    assert example.metadata == {"year": "2011"}


@pytest.mark.parametrize("row", [HUB, OLD_HUB], ids=["dict of lists", "list of dicts"])
def test_the_hubs_forms_give_the_same_example(row: dict[str, Any]) -> None:
    raw = pubmedqa({**RAW, "YEAR": None})

    assert pubmedqa(row) == raw


def test_an_unlabelled_question_has_no_choices() -> None:
    example = pubmedqa({key: value for key, value in RAW.items() if key != "final_decision"})

    assert example.completion == "Results depicted mitochondrial dynamics."
    assert (example.choices, example.target) == ((), None)


def test_a_decision_alone_is_an_answer() -> None:
    assert pubmedqa({**RAW, "LONG_ANSWER": ""}).completion == "yes."


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"QUESTION": " "}, "no question"),
        ({"CONTEXTS": []}, "no context"),
        ({"CONTEXTS": None}, "no context"),
        ({"CONTEXTS": 5}, "no context"),
        ({"CONTEXTS": [{"text": "?"}]}, "no context"),
        ({"final_decision": "perhaps"}, "unknown decision"),
        ({"final_decision": "", "LONG_ANSWER": None}, "no answer"),
    ],
)
def test_a_pubmedqa_row_without_its_parts_is_rejected(change: dict[str, Any], reason: str) -> None:
    row = read_pubmedqa("pubmedqa", 1, {**RAW, **change}, Columns())

    assert row == Rejected("pubmedqa/21645374", reason)


def test_the_row_number_is_the_id_of_last_resort() -> None:
    assert read_pubmedqa("pubmedqa", 7, {}, Columns()) == Rejected("pubmedqa/7", "no question")


# A user's own columns


@pytest.mark.parametrize(
    ("row", "prompt", "completion"),
    [
        ({"prompt": "P", "completion": "C"}, user("P"), "C"),
        ({"instruction": "I", "input": "more", "output": "O"}, user("I\n\nmore"), "O"),
        ({"instruction": "I", "input": "", "output": "O"}, user("I"), "O"),
        ({"instruction": "I", "response": "R"}, user("I"), "R"),
        ({"question": "Q", "answer": "A"}, user("Q"), "A"),
        ({"input": "I", "target": "T"}, user("I"), "T"),
        ({"note": "N", "summary": "S"}, user("N"), "S"),
        ({"findings": "F", "impression": "I"}, user("F"), "I"),
        ({" Question ": "Q", "ANSWER": "A"}, user("Q"), "A"),
        ({"text": "plain"}, (), "plain"),
        ({"question": "Q", "answer": 5}, user("Q"), "5"),
    ],
)
def test_the_usual_columns(
    row: dict[str, Any], prompt: tuple[Message, ...], completion: str
) -> None:
    example = local(row)

    assert (example.prompt, example.completion) == (prompt, completion)
    assert (example.id, example.group, example.metadata) == ("notes/1", "1", {})


def test_messages_keep_their_roles() -> None:
    turns = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "C"},
        {"role": "assistant", "content": " D "},
    ]

    example = local({"messages": turns})

    assert [message.role for message in example.prompt] == ["system", "user", "assistant", "user"]
    assert example.completion == "D"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "no known columns"),
        ({"a": "b"}, "no known columns"),
        ({"question": "Q"}, "no known columns"),
        ({"question": "Q", "answer": ""}, "no answer"),
        ({"question": "Q", "answer": None}, "no answer"),
        ({"text": "  "}, "no answer"),
        ({"messages": []}, "no answer"),
        ({"messages": [{"role": "user", "content": "A"}]}, "no answer"),
        ({"question": float("nan"), "answer": "A"}, "no question"),
        ({"prompt": None, "completion": "A"}, "no prompt"),
        ({"instruction": "", "input": " ", "output": "A"}, "no instruction"),
        ({"messages": [{"role": "doctor", "content": "A"}]}, "unknown role"),
        ({"messages": ["hello"]}, "no known columns"),
    ],
)
def test_a_local_row_without_its_parts_is_rejected(row: dict[str, Any], reason: str) -> None:
    assert read_local("notes", 3, row, Columns()) == Rejected("notes/3", reason)


@pytest.mark.parametrize(
    ("columns", "identity", "group"),
    [
        ({"id": "n7"}, "notes/n7", "n7"),
        ({"id": 7, "patient_id": "p1"}, "notes/7", "p1"),
        ({"note_id": "n1", "subject_id": 10}, "notes/n1", "10"),
        ({"id": "a", "group": "g", "patient_id": "p"}, "notes/a", "g"),
        ({"idx": 0}, "notes/0", "0"),
        ({}, "notes/9", "9"),
    ],
)
def test_ids_and_groups_come_from_their_columns(
    columns: dict[str, Any], identity: str, group: str
) -> None:
    example = local({**columns, "text": "t"}, number=9)

    assert (example.id, example.group) == (identity, group)


def test_other_columns_are_kept() -> None:
    row = {"id": 1, "question": "Q", "answer": "A", "ward": "ICU", "age": 70, "empty": ""}

    assert local(row).metadata == {"ward": "ICU", "age": 70}


def test_what_utf_8_cannot_hold_is_replaced() -> None:
    example = local({"question": "1\x002 mg", "answer": "half \ud83d"})

    assert example.prompt == user("1 2 mg")
    assert example.completion == "half ?"
    assert example.text.encode()


# Prompts without answers


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "P"}, user("P")),
        ({"Question": "Q"}, user("Q")),
        ({"instruction": "I", "input": "more"}, user("I\n\nmore")),
        ({"text": "T"}, user("T")),
        ({"messages": [{"role": "user", "content": "M"}]}, user("M")),
        ({"prompt": " "}, ()),
        ({"id": 5}, ()),
    ],
)
def test_a_prompt_needs_no_answer(row: dict[str, Any], prompt: tuple[Message, ...]) -> None:
    assert read_prompt(row) == prompt


# Rows and files


def test_rows_are_numbered_from_one() -> None:
    Path("notes.jsonl").write_text('{"text": "a"}\n{"a": "b"}\n{"text": "c"}\n')
    spec = DatasetSpec(title="Notes", shape="local")

    read = list(Dataset("notes", spec, (Path("notes.jsonl").resolve(),)).examples())

    assert [row.id for row in read] == ["notes/1", "notes/2", "notes/3"]
    assert isinstance(read[1], Rejected)


def test_an_example_survives_its_file() -> None:
    whole = pubmedqa(RAW)

    assert write_jsonl(Path("a.jsonl"), [as_json(whole)]) == 1

    assert [from_json(row) for row in read_jsonl(Path("a.jsonl"))] == [whole]
    assert set(json.loads(Path("a.jsonl").read_text())) == {
        "id", "dataset", "group", "prompt", "completion", "choices", "target", "metadata",
        "group_kind",
    }  # fmt: skip
