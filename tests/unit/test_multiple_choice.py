"""One reader for all the forms of MedQA, MedMCQA and MMLU."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from medllm.data.example import Example, Rejected
from medllm.data.registry.datasets import DatasetSpec, build_dataset, known_specs
from medllm.data.shapes import Columns
from medllm.data.shapes.multiple_choice import read_multiple_choice
from medllm.errors import DataError

QUESTION = "A 23-year-old woman has a fever. What is best?"
OPTIONS = {"A": "Ampicillin", "B": "Ceftriaxone", "C": "Doxycycline", "D": "Nitrofurantoin"}
TEXTS = list(OPTIONS.values())

FORMS: dict[str, dict[str, Any]] = {
    "raw": {
        "question": QUESTION, "answer": "Doxycycline", "options": OPTIONS,
        "meta_info": "step2&3", "answer_idx": "C",
    },
    "GBaker": {
        "question": QUESTION, "answer": "Doxycycline", "options": OPTIONS,
        "meta_info": "step1", "answer_idx": "C", "metamap_phrases": ["fever"],
    },
    "GBaker -hf": {
        "id": "train-00001", "sent1": QUESTION, "sent2": "",
        **{f"ending{n}": text for n, text in enumerate(TEXTS)}, "label": 2,
    },
    "bigbio": {
        "id": "0", "question_id": "0", "document_id": "0", "question": QUESTION,
        "type": "multiple_choice", "choices": TEXTS, "context": "", "answer": ["Doxycycline"],
    },
    "bigbio source": {
        "meta_info": "step1", "question": QUESTION, "answer_idx": "C", "answer": "Doxycycline",
        "options": [{"key": key, "value": value} for key, value in OPTIONS.items()],
    },
    "within the question": {"question": f"{QUESTION}\n Choices: {OPTIONS}", "answer": "C"},
    "numbered": {"question": QUESTION, "choices": TEXTS, "answer": 2},
    "lettered": {
        "question": QUESTION, "choices": [f"{a}. {text}" for a, text in OPTIONS.items()],
        "answer": "c",
    },
    "MedMCQA": {"question": QUESTION, **dict(zip(("opa", "opb", "opc", "opd"), TEXTS, strict=True)),
                "cop": 2},
    "CSV": {"question": QUESTION, **{f"choice{n}": text for n, text in enumerate(TEXTS)},
            "answer": "2"},
    "lettered columns": {"question": QUESTION, **OPTIONS, "answer": "C"},
    "in lower case": {"question": QUESTION, **{a.lower(): text for a, text in OPTIONS.items()},
                      "answer": "c"},
}  # fmt: skip


def read(row: dict[str, Any], **columns: Any) -> Example:
    example = read_multiple_choice("medqa", 1, row, Columns(**columns))
    assert isinstance(example, Example), example
    return example


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_question(form: str) -> None:
    example = read(FORMS[form])

    assert example.prompt[0].content == (
        f"Question: {QUESTION}\nA. Ampicillin\nB. Ceftriaxone\nC. Doxycycline\n"
        "D. Nitrofurantoin\nAnswer:"
    )
    assert example.choices == ("A", "B", "C", "D")
    assert (example.target, example.completion) == ("C", "C. Doxycycline")


def test_five_options_have_five_letters() -> None:
    options = {**OPTIONS, "E": "Rest"}

    example = read({**FORMS["raw"], "options": options, "answer_idx": "E", "answer": "Rest"})

    assert example.choices == ("A", "B", "C", "D", "E")
    assert example.target == "E"


def test_an_option_that_is_missing_at_the_end_is_left_out() -> None:
    assert read({**FORMS["raw"], "options": {**OPTIONS, "E": None}}).choices == tuple("ABCD")


def test_an_odd_metadata_value_is_kept() -> None:
    example = read({**FORMS["raw"], "meta_info": "stfep2&3"}, metadata=("meta_info",))

    assert example.metadata == {"meta_info": "stfep2&3"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": " "}, "no question"),
        ({"question": None}, "no question"),
        ({"options": {}}, "no choices"),
        ({"options": {"A": "one"}}, "no choices"),
        ({"options": "A, B"}, "no choices"),
        ({"options": {"A": "one", "C": "three"}}, "no choices"),
        ({"options": [{"key": "B", "value": "two"}, {"key": "C", "value": "three"}]}, "no choices"),
        ({"options": {"A": "one", "B": " ", "C": "three"}}, "an empty choice"),
        ({"answer_idx": None}, "no label"),
        ({"answer_idx": ""}, "no label"),
        ({"answer_idx": -1}, "no label"),
        ({"answer_idx": 4}, "no such choice"),
        ({"answer_idx": "F"}, "no such choice"),
        ({"answer_idx": "aspirin"}, "unknown answer"),
        ({"answer_idx": []}, "no label"),
    ],
)
def test_a_row_without_its_parts_is_rejected(change: dict[str, Any], reason: str) -> None:
    row = read_multiple_choice("medqa", 7, {**FORMS["raw"], **change}, Columns())

    assert row == Rejected("medqa/7", reason)


def test_options_that_cannot_be_read_within_a_question_are_no_choices() -> None:
    for text in ("{'A': 'one', 'B': ", "{'A': open('x')}", "{" * 5000 + "}", "{1, 2}"):
        row = {"question": f"Why?\n Choices: {text}", "answer": "A"}
        assert read_multiple_choice("medqa", 1, row, Columns()) == Rejected("medqa/1", "no choices")


# The prompts of lm-evaluation-harness


def prompt_of(name: str, row: dict[str, Any]) -> str:
    example = build_dataset(name, known_specs()[name], ()).read(1, row)
    assert isinstance(example, Example)
    return example.prompt[0].content


def test_the_prompts_are_the_harnesss() -> None:
    listed = "A. Ampicillin\nB. Ceftriaxone\nC. Doxycycline\nD. Nitrofurantoin\nAnswer:"
    spaced = f"{QUESTION} "

    medqa = prompt_of("medqa", {**FORMS["GBaker -hf"], "sent1": spaced})
    medmcqa = prompt_of("medmcqa", {**FORMS["MedMCQA"], "question": spaced})
    mmlu = {**FORMS["numbered"], "question": spaced, "subject": "clinical_knowledge"}

    assert medqa == f"Question: {spaced}\n{listed}"
    assert medmcqa == f"Question: {spaced}\nChoices:\n{listed}"
    assert prompt_of("mmlu_medical", mmlu) == (
        "The following are multiple choice questions (with answers) about clinical knowledge.\n\n"
        f"{QUESTION}\n{listed}"
    )


# Answers that count from 0 or from 1


def medmcqa(numbers: list[int], name: str = "train.json") -> list[Example | Rejected]:
    rows = [{**FORMS["MedMCQA"], "id": f"q{n}", "cop": cop} for n, cop in enumerate(numbers)]
    path = Path.cwd() / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(build_dataset("medmcqa", known_specs()["medmcqa"], (path,)).examples())


@pytest.mark.parametrize(
    ("numbers", "targets"),
    [([0, 1, 2, 3], "ABCD"), ([1, 2, 3, 4], "ABCD"), ([3, 0], "DA"), ([4, 2], "DB")],
)
def test_where_answers_begin_is_seen_from_the_file(numbers: list[int], targets: str) -> None:
    read = medmcqa(numbers)

    assert "".join(row.target or "" for row in read if isinstance(row, Example)) == targets


def test_a_question_without_a_label_is_rejected() -> None:
    assert medmcqa([-1, 0, 2])[0] == Rejected("medmcqa/q0", "no label")


def test_the_file_says_which_split_it_is() -> None:
    row, _ = medmcqa([0, 1], "dev.json")

    assert isinstance(row, Example)
    assert row.metadata == {"split": "test"}  # of the test questions nobody has the answers


@pytest.mark.parametrize(
    ("numbers", "why"), [([0, 4], "a 0 and the number of options both occur in 2 rows"),
                         ([1, 2, 3], "neither end occurs in 3 rows")],
)  # fmt: skip
def test_a_file_that_could_be_both_is_refused(numbers: list[int], why: str) -> None:
    with pytest.raises(DataError, match=why) as caught:
        medmcqa(numbers)
    assert "first_answer" in caught.value.fix


# Answers that are letters, numbers or texts

DRUGS = ["Paracetamol", "Heparin", "Insulin", "Digoxin"]


def quiz(*rows: tuple[Any, Any], **columns: Any) -> list[str]:
    """What becomes of rows of options and an answer: the text that is trained, or the reason."""
    path = Path.cwd() / "quiz.jsonl"
    told = [{"question": "Which?", "options": options, "answer": said} for options, said in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in told))
    spec = DatasetSpec(title="Quiz", shape="multiple_choice", columns=Columns(**columns))
    read = build_dataset("quiz", spec, (path,)).examples()
    return [row.completion[3:] if isinstance(row, Example) else row.reason for row in read]


TEXTS_THAT_LOOK_LIKE_LABELS = [
    (["A", "C", "B", "E"], "B"),
    (["K", "A", "D", "C"], "C"),
    (["K", "A", "D", "C"], "c"),
    (["2", "3", "4", "5"], "3"),
    (["2", "4", "6", "8"], "4"),
    ([2, 4, 6, 8], 4),
    ([2, 4, 6, 8], 4.0),
    (["I", "II", "III"], "II"),
    (["A", "B", "AB", "0"], "0"),
]


def test_an_answer_is_the_text_of_an_option_where_the_file_names_texts() -> None:
    found = quiz(*TEXTS_THAT_LOOK_LIKE_LABELS, *((DRUGS, drug) for drug in DRUGS))

    assert found == ["B", "C", "C", "3", "4", "4", "4", "II", "0", *DRUGS]


def test_an_answer_is_a_letter_where_the_file_names_letters() -> None:
    found = quiz((["A", "C", "B", "E"], "B"), (["2", "3"], "A"), (DRUGS, "a"), (DRUGS, "D"))

    assert found == ["C", "2", "Paracetamol", "Digoxin"]


@pytest.mark.parametrize(("numbers", "right"), [((0, 3), "4"), ((1, 4), "3")])
def test_an_answer_is_a_number_where_the_file_names_numbers(
    numbers: tuple[int, ...], right: str
) -> None:
    found = quiz((["2", "3", "4", "5"], 2), *((DRUGS, n) for n in numbers))

    assert found == [right, "Paracetamol", "Digoxin"]


@pytest.mark.parametrize(
    ("others", "number"),
    [([], "ambiguous answer"), ([(DRUGS, "Heparin"), (DRUGS, "B")], "1")],
    ids=["no other rows", "letters and texts, but no numbers"],
)
def test_an_answer_that_nothing_decides_is_ambiguous(
    others: list[tuple[Any, Any]], number: str
) -> None:
    found = quiz((["A", "C", "B", "E"], "B"), (["2", "3", "1", "5"], "1"), *others)

    assert found[:2] == ["ambiguous answer", number]


def test_an_answer_that_is_the_same_either_way_is_not_ambiguous() -> None:
    assert quiz((["A", "B", "C"], "B"), (["0", "1", "2"], "1")) == ["B", "1"]


def test_a_slip_among_many_decides_nothing() -> None:
    rows = [(DRUGS, "Insulin")] * 40

    assert quiz((["A", "C", "B", "E"], "B"), (DRUGS, "A"), (DRUGS, 2), *rows)[:3] == [
        "B", "no such choice", "no such choice",
    ]  # fmt: skip


def test_an_options_text_twice_is_ambiguous() -> None:
    assert quiz((["Heparin", "Insulin", "Heparin"], "Heparin")) == ["ambiguous answer"]


def test_the_yaml_may_say_how_answers_are_named() -> None:
    rows = ((["A", "C", "B", "E"], "B"), (["2", "3", "4"], 2))

    assert quiz(*rows, answers=("text",)) == ["B", "2"]
    assert quiz(*rows, answers=("letter", "number"), first_answer=1) == ["C", "3"]


def test_two_columns_that_name_two_options_are_ambiguous() -> None:
    row = {**FORMS["raw"], "answer_idx": "A"}

    assert read_multiple_choice("q", 1, row, Columns()) == Rejected("q/1", "ambiguous answer")


def test_a_label_is_no_text_by_its_column() -> None:
    row = {"question": "Which virus?", "options": ["A", "C", "B", "E"], "answer_idx": "B"}

    assert read(row).completion == "B. C"


# Printed answers in explanations


@pytest.mark.parametrize(
    ("printed", "rest"),
    [
        ("Ans. is 'b' i.e., Ceftriaxone is given", "Ceftriaxone is given"),
        ("Ans. (a) Ampicillin is given", "Ampicillin is given"),
        ("Ans: C", ""),
        ("Answer: D. Since it works", "Since it works"),
        ("Ans. is 'a' > Because", "> Because"),
        ("Ans. A patient with fever", "Ans. A patient with fever"),
        ("Ans- a, c & d) All of them", "All of them"),
        ("Answer is none", "Answer is none"),
        ("Answers vary. B is common", "Answers vary. B is common"),
        ("It is given (B) early", "It is given (B) early"),
    ],
)
def test_a_printed_answer_letter_is_cut(printed: str, rest: str) -> None:
    example = read({**FORMS["MedMCQA"], "exp": printed})

    assert example.metadata.get("explanation", "") == rest


# MMLU as its CSV


@pytest.mark.parametrize("header", [[], ["question", *(f"choice{n}" for n in range(4)), "answer"]])
def test_mmlu_comes_with_and_without_a_header(header: list[str]) -> None:
    answer = "2" if header else "C"  # the original has letters
    path = Path.cwd() / "data/test/clinical_knowledge_test.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([*([header] if header else []), [QUESTION, *TEXTS, answer]])

    (row,) = build_dataset("mmlu_medical", known_specs()["mmlu_medical"], (path,)).examples()

    assert isinstance(row, Example)
    assert row.id == "mmlu_medical/clinical_knowledge_test-1"
    assert row.prompt[0].content.startswith(
        "The following are multiple choice questions (with answers) about clinical knowledge."
    )
    assert row.target == "C"
    assert row.metadata == {"subject": "clinical_knowledge", "split": "test"}
