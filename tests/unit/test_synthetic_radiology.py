"""The generated reports: stable, varied, and true to themselves, judged by the text alone."""

import re
from collections import Counter

import pytest

from medllm.data.example import Example, from_json, to_json
from medllm.data.generators.radiology import DATASET, build_example

DENIAL = re.compile(r"^(?:[\w /-]+: )?(?:no |there (?:is|are) no |negative for )", re.IGNORECASE)
SIDES = "left|right|medial|lateral|anterior|posterior|patellar|quadriceps|trochlear"
ASKED = re.compile(
    rf"(?:is there|are there|is|are|describe|show) (?:an? )?(?:({SIDES}) )?(.+?)(?: present)?\?$"
)


@pytest.fixture(scope="module")
def rows() -> list[Example]:
    """The first 500 rows of a seed."""
    return [build_example(3, number) for number in range(500)]


def findings_of(row: Example) -> str:
    """The findings in a prompt."""
    text = row.prompt[0].content
    return re.split(r"\n(?:Impression|Question):", text.removeprefix("Findings: "))[0]


def sentences_of(text: str) -> list[str]:
    """The sentences of some findings, lower case."""
    return [sentence.lower() for sentence in re.split(r"(?<=\.) (?=[A-Z])", text)]


def states(findings: str, side: str | None, name: str) -> bool:
    """Whether a sentence that denies nothing names the finding, on that side or on both."""
    return any(
        re.search(rf"\b{re.escape(name)}", sentence)
        and not DENIAL.match(sentence)
        and (side is None or re.search(rf"\b(?:{side}|bilateral|both)\b", sentence))
        for sentence in sentences_of(findings)
    )


def questions(rows: list[Example]) -> list[Example]:
    """The rows with a yes/no question."""
    return [row for row in rows if row.choices]


def test_a_row_depends_on_its_seed_and_number_only(rows: list[Example]) -> None:
    assert build_example(3, 499) == rows[499]
    assert build_example(4, 499).prompt != rows[499].prompt


def test_rows_are_whole_and_unlike(rows: list[Example]) -> None:
    assert len({row.id for row in rows}) == len({row.prompt for row in rows}) == 500
    assert rows[7].id == rows[7].group == f"{DATASET}/3-7"
    assert all(from_json(to_json(row)) == row for row in rows)
    assert not [row.id for row in rows if re.search(r"[{}|]|\(n\)|\.\.|  ", row.text)]


def test_many_findings_are_of_a_good_length(rows: list[Example]) -> None:
    lengths = [len(findings_of(row).split()) for row in rows]
    assert sum(60 <= length <= 250 for length in lengths) > 300
    assert max(lengths) <= 250


def test_forms_and_modalities_take_turns(rows: list[Example]) -> None:
    assert Counter(row.metadata["form"] for row in rows) == {"impression": 250, "question": 250}
    modalities = Counter(row.metadata["modality"] for row in rows)
    assert set(modalities) == {"X-ray", "CT", "MRI", "ultrasound"}
    assert min(modalities.values()) > 30


def test_both_answers_are_common(rows: list[Example]) -> None:
    asked = questions(rows)
    assert all(row.choices == ("yes", "no") for row in asked)
    assert 0.35 < sum(row.target == "yes" for row in asked) / len(asked) < 0.65


def test_knowing_that_a_report_is_abnormal_does_not_answer_it(rows: list[Example]) -> None:
    abnormal = [row for row in questions(rows) if row.metadata["abnormal"]]
    assert 0.35 < sum(row.target == "yes" for row in abnormal) / len(abnormal) < 0.65


def test_the_target_agrees_with_the_findings(rows: list[Example]) -> None:
    for row in questions(rows):
        question = row.prompt[0].content.split("Question: ")[1].split("\n")[0].lower()
        match = ASKED.search(question)
        assert match, question
        stated = states(findings_of(row), match[1], match[2])
        assert stated == (row.target == "yes"), f"{row.id}: {question}"
        assert row.completion.startswith(f"{row.target}. There ")


def test_some_wrong_answers_differ_by_the_side_only(rows: list[Example]) -> None:
    swapped = 0
    for row in questions(rows):
        side, name = ASKED.search(row.prompt[0].content.lower().split("\nanswer")[0]).groups()  # type: ignore[union-attr]
        swapped += row.target == "no" and side is not None and states(findings_of(row), None, name)
    assert swapped > 25


def test_the_impression_repeats_sides_and_sizes_of_the_findings(rows: list[Example]) -> None:
    for row in rows:
        if row.metadata["form"] == "impression":
            findings = findings_of(row).lower()
            impression = row.completion.lower()
            sides = set(re.findall(r"\b(?:left|right|bilateral)\b", impression))
            sizes = set(re.findall(r"\d+(?:\.\d+)? (?:mm|cm)\b", impression))
            assert all(text in findings for text in sides | sizes), row.id


def test_a_normal_report_has_a_normal_impression(rows: list[Example]) -> None:
    for row in rows:
        if row.metadata["form"] == "impression":
            is_normal = bool(re.match(r"(?:no|normal)\b", row.completion, re.IGNORECASE))
            assert is_normal != row.metadata["abnormal"], row.completion
