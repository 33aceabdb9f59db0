"""Entities that a model lists: how its answer is read, and what is counted."""

from typing import Any

import pytest

from medllm.data.example import Example, Message
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds.base import Asking
from medllm.evaluate.kinds.generated import Answered
from medllm.evaluate.kinds.studies.ner import Ner, read_list
from medllm.measures.spans import find_mentions
from medllm.tasks.spec import TaskSpec

TEXT = "Lithium caused renal failure; the failure of lithium."
SPEC = TaskSpec(entities=("disease", "chemical"), instruction="List them.")
ASKING = Asking(EvaluateConfig(), in_chat=True, what="test", spec=SPEC)


def item(number: int) -> Example:
    marked = [[0, 7, "chemical"], [15, 28, "disease"], [45, 52, "chemical"]]
    prompt = (Message("user", f"List them.\n\n{TEXT}"),)
    return Example(f"c/{number}", "c", str(number), prompt, "x", metadata={"entities": marked})


def judged(number: int, answer: str) -> dict[str, Any]:
    record = Ner().judge(Answered(item(number), answer, 5, "stop"), ASKING)
    return {"id": f"c/{number}", "answer_tokens": 5, "finish_reason": "stop",
            "answer_empty": False, **record}  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("disease: renal failure\nchemical: Lithium", (["renal failure"], ["Lithium"])),
        ("- **Diseases:** renal failure; gout\n- **Chemicals:** none",
         (["renal failure", "gout"], [])),
        ("Diseases:\n1. renal failure\n2. gout.\n\nDrugs:\n* lithium, 2,4-D",
         (["renal failure", "gout"], ["lithium", "2,4-D"])),
        ("The diseases in the text are:\nrenal failure", (["renal failure"], [])),
        ("none", ([], [])),
        ("I cannot say.", ([], [])),
        ("gene: BRCA1\ndisease: gout", (["gout"], [])),
        ('{"disease": ["renal failure", "gout"],\n "chemical": ["[3H]dopamine"]}',
         (["renal failure", "gout"], ["[3H]dopamine"])),
        ('{\n"diseases": [\n  "gout",\n  "renal failure"\n],\n"chemicals": []\n}',
         (["gout", "renal failure"], [])),
        ("disease: none\nchemical: No chemicals are named.", ([], [])),
        ('{"disease": ["gout"], "chemical": ["lithium"]}', (["gout"], ["lithium"])),
        ('```json\n[{"type": "Disease", "name": "gout"}, {"label": "drug", "text": "Li"}]\n```',
         (["gout"], ["Li"])),
        ('{"entities": [{"type": "gene", "name": "BRCA1"}, 7]}', ([], [])),
    ],
)  # fmt: skip
def test_lists_are_read_as_models_write_them(
    answer: str, found: tuple[list[str], list[str]]
) -> None:
    listed = read_list(answer, ("disease", "chemical"))

    assert (listed.get("disease", []), listed.get("chemical", [])) == found


def test_names_count_wherever_they_stand_and_an_invented_one_counts_against() -> None:
    record = judged(1, "disease: failure\nchemical: lithium\nchemical: aspirin")

    assert record["counts"] == {
        "exact disease": [1, 2, 0, 0], "overlap disease": [1, 2, 1, 1],
        "name disease": [1, 1, 0, 0],
        "exact chemical": [2, 3, 2, 2], "overlap chemical": [2, 3, 2, 2],
        "name chemical": [1, 2, 1, 1],
    }  # fmt: skip
    assert record["not_in_text"] == pytest.approx(1 / 3)
    assert record["unreadable"] is False and TEXT not in str(record)
    assert judged(1, "I cannot.")["unreadable"] is True
    copied = judged(1, "disease: " + " ".join(TEXT.replace(";", "").split() * 3))
    assert copied["counts"]["overlap disease"] == [1, 1, 0, 0]


def test_a_name_stands_in_a_text_without_blanks() -> None:
    found, missing = find_mentions(["糖尿病", "COPD", "tumor"], "患者は糖尿病とCOPDで、tumors")

    assert (found, missing) == ({(3, 6), (7, 11)}, ["tumor"])


def test_a_repeated_instruction_is_unreadable_and_none_is_an_answer() -> None:
    """A base model repeats the instruction, whose last word is none."""
    asked = "List every disease as `disease: NAME`. Without any, write `none`."

    assert judged(1, f"{asked}\n\n{asked}")["unreadable"] is True
    none = ("none", "None.", "disease: none\nchemical: none", "There are no diseases.")
    for answer in (*none, '{"disease": [], "chemical": []}', "[]"):
        assert judged(1, answer)["unreadable"] is False, answer


def test_names_are_found_with_an_explanation_in_brackets_and_other_marks() -> None:
    record = judged(1, "disease: renal failure (kidney damage)\nchemical: Lithium (lithium)")

    assert record["counts"]["exact disease"] == [1, 1, 1, 1]
    assert record["counts"]["exact chemical"] == [2, 2, 2, 2]
    assert record["not_in_text"] == 0
    spans, missing = find_mentions(["5‑HT", "Parkinson’s disease"], "5-HT in Parkinson's disease.")
    assert (spans, missing) == ({(0, 4), (8, 27)}, [])
    kept = judged(1, "disease: gout (podagra)")
    assert kept["counts"]["exact disease"] == [1, 1, 0, 0]


@pytest.mark.parametrize(
    "end", ["", "\nchemical: lit", "\ndisease", "\nchemical: ", "\n", ", lith"]
)
def test_a_name_that_was_cut_is_none(end: str) -> None:
    said = f"disease: renal failure\nchemical: lithium{end}"
    cut = Ner().judge(Answered(item(1), said, 5, "length"), ASKING)

    assert cut["not_in_text"] == 0
    assert cut["counts"]["exact disease"] == [1, 1, 1, 1]
    assert cut["names"] == (2 if end else 1)
    alone = Ner().judge(Answered(item(1), "disease: ren", 5, "length"), ASKING)
    assert (alone["names"], alone["not_in_text"]) == (0, None)


def test_scores_are_of_all_documents_and_of_each_type() -> None:
    answers = ("disease: renal failure\nchemical: lithium", "none", "disease: failure")
    records = [judged(n, answers[n % 3]) for n in range(30)]
    score = Ner().summarize(records)

    assert score["exact_recall"] == pytest.approx(3 / 9)
    assert score["overlap_precision"] == pytest.approx(4 / 5)
    assert score["overlap_f1"] == pytest.approx((4 + 4) / (5 + 9))
    assert score["exact_f1_chemical"] == pytest.approx(2 * 2 / (2 + 6))
    assert 0 <= score["overlap_f1_low"] <= score["overlap_f1"] <= score["overlap_f1_high"] <= 1
    assert (score["items"], score["names"], score["unreadable"]) == (30, 30, 0.0)
