"""Error detection: verdicts read off answers, their rates, and the rows that are made for it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from medllm.data.example import Example, Message
from medllm.data.generators.errors import build_example
from medllm.engines.fake import FakeEngine
from medllm.errors import ConfigError
from medllm.evaluate.clinical.verdicts import guess_by_rules, read_verdict, target_of
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.gate import judge
from medllm.evaluate.kinds import KINDS, Asking
from medllm.evaluate.kinds.clinical.error_detection import ErrorDetection
from medllm.evaluate.kinds.generated import Answered
from medllm.measures.gates import find_gate
from medllm.reports.page import Page

PLAIN = Asking(EvaluateConfig(), in_chat=True, what="test")
KIND = ErrorDetection()
ROWS = [build_example(0, number) for number in range(200)]


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("ERROR - Treatment does not match the imaging findings", "error"),
        ("CORRECT - Treatment matches imaging findings", "correct"),
        ("The text has no error.", "correct"),
        ("There are no errors in this report.", "correct"),
        ("There is an error: it should say left.", "error"),
        ("Yes, the side is wrong.", "error"),
        ("No. The impression agrees with the findings.", "correct"),
        ("No errors found", "correct"),
        ("The impression is not correct.", "error"),
        ("This is incorrect.", "error"),
        ("The treatment is appropriate.", "correct"),
        ("The treatment is inappropriate for a normal scan.", "error"),
        ("**Verdict:** Error", "error"),
        ("The report contains a discrepancy between findings and impression.", "error"),
        ("I did not find any mistakes.", "correct"),
        ("The findings and the impression do not agree.", "error"),
        ("The report is error-free.", "correct"),
        ("The lungs are clear.", None),
        ("", None),
        ("Correct the side: it should be left.", "error"),
        ("No error is present, the impression is accurate.", "correct"),
        ("The impression does not contain an error.", "correct"),
        ("This isn’t correct.", "error"),
        ("There isn't an error.", "correct"),
        ("I cannot find any errors.", "correct"),
        ("Error: none", "correct"),
        ('{"has_error": false}', "correct"),
        ('{"has_error": true}', "error"),
        ("ERROR: No effusion is in the findings.", "error"),
        ("Error detected: No", "correct"),
        ("Nothing is wrong with it.", "correct"),
        ("The correct side is left, so this is an error.", "error"),
        ("No, it is not correct.", "error"),
        ("Yes, it is correct.", "correct"),
        ("Yes. The correct side is left.", "error"),
    ],
)
def test_verdicts(answer: str, verdict: str | None) -> None:
    assert read_verdict(answer) == verdict


def row(completion: str = "x", **told: Any) -> Example:
    return Example("r/1", "r", "1", (Message("user", "Findings: clear."),), completion, **told)


def test_the_right_verdict_is_that_of_the_row() -> None:
    assert target_of(row(target="ERROR")) == "error"
    assert target_of(row(metadata={"error_type": "none"})) == "correct"
    assert target_of(row(metadata={"error_type": "overtreatment"})) == "error"
    assert target_of(row(metadata={"has_error": False})) == "correct"
    assert target_of(row(metadata={"has_error": 0.0})) == "correct"
    assert target_of(row(metadata={"error_type": float("nan")})) == "correct"
    assert target_of(row(metadata={"has_error": float("nan"), "error_type": "omission"})) == "error"
    assert target_of(row(metadata={"has_error": ""})) is None  # nobody said
    assert target_of(row("CORRECT - Treatment matches imaging findings")) == "correct"
    assert target_of(row("The lungs are clear.")) is None
    assert KIND.lacking(row("The lungs are clear.")) == "no verdict in its answer"


def records_of(answers: Sequence[str], rows: Sequence[Example] = ROWS) -> list[dict[str, Any]]:
    plain = {"finish_reason": "stop", "answer_tokens": 3, "answer_empty": False}
    return [
        {"id": item.id, **plain, **KIND.judge(Answered(item, text, 3, "stop"), PLAIN)}
        for item, text in zip(rows, answers, strict=False)
    ]


def test_rates_name_their_positive_class() -> None:
    rows = [replace(row("ERROR"), id=f"r/{n}") for n in range(4)]
    rows += [replace(row("CORRECT"), id=f"c/{n}") for n in range(6)]
    answers = ["error", "error", "error", "correct", *["correct"] * 4, "error", "the lungs"]

    score = KIND.summarize(records_of(answers, rows))

    assert score["positive"] == "error"
    assert (score["accuracy"], score["sensitivity"]) == (0.7, 0.75)
    assert score["specificity"] == pytest.approx(4 / 6)  # one false alarm, one without a verdict
    assert score["false_positive_rate"] == pytest.approx(1 / 6)
    assert (score["unclear"], score["majority"]) == (1, 0.6)
    assert score["sensitivity_low"] < 0.75 < score["sensitivity_high"]


def test_half_of_the_generated_reports_have_an_error_of_each_kind() -> None:
    kinds = {each.metadata["error_type"] for each in ROWS}
    assert kinds == {"none", "laterality", "negation", "omission", "invention"}
    assert sum(target_of(each) == "error" for each in ROWS) == 100
    assert all(read_verdict(each.completion) == target_of(each) for each in ROWS)
    assert build_example(0, 5) == ROWS[5] != build_example(1, 5)
    assert len({each.metadata["modality"] for each in ROWS}) > 3


def test_the_gate_is_decided_by_right_verdicts_and_fails_on_wrong_ones() -> None:
    gate = find_gate("error-detection")
    for answers, passes in (([each.completion for each in ROWS], True), (["error"] * 200, False)):
        score = KIND.summarize(records_of(answers))
        known = {"model": "m", "task": "error_detection", "identity": "i", **score}
        groups = [
            {"model": "m", "task": "error_detection", "by": "metadata.modality", "group": name,
             "measure": "accuracy", "unit": "share", "value": each["accuracy"],
             "low": each["accuracy_low"], "high": each["accuracy_high"], "items": each["items"]}
            for name, each in score["by_modality"].items()
        ]  # fmt: skip
        checks = [check for _, check in judge(gate, [known], {"subgroups": groups})]
        assert len(checks) == 4
        assert all(check.value is not None for check in checks)
        assert all(check.passed for check in checks) == passes


def test_plain_rules_stand_beside_the_model() -> None:
    right = sum(guess_by_rules(each.prompt[-1].content) == target_of(each) for each in ROWS)
    assert 100 < right < 180  # better than the most frequent label, and far from perfect


def test_the_page_has_a_heat_map(tmp_path: Any) -> None:
    score = KIND.summarize(records_of([each.completion for each in ROWS]))
    page = Page("Evaluation", "x", {})
    KIND.tell(page, {"model": "m", "task": "error_detection", **score}, [])
    page.write(tmp_path / "report.html")

    assert "negation" in (tmp_path / "report.html").read_text()
    (picture,) = (tmp_path / "plots").glob("*.png")
    assert picture.stat().st_size > 1000
    assert sum(sum(row.values()) for row in score["heat_items"].values()) == len(ROWS)


def test_images_are_refused_or_left_out_and_counted() -> None:
    item = row("ERROR", images=("a.png",))
    with pytest.raises(ConfigError, match="1 of 1 rows have images, and fake reads none"):
        KIND.score(FakeEngine(), [item], PLAIN)
    asking = replace(PLAIN, notes={})
    (record,) = ErrorDetection(with_images=False).score(FakeEngine(), [item], asking)
    assert record["target"] == "error"
    assert asking.notes["images_left_out"] == 1


def test_by_likelihood_each_report_has_a_verdict() -> None:
    kind = KINDS["error_detection_likelihood"]
    records = list(kind.score(FakeEngine(), ROWS[:12], replace(PLAIN, notes={})))

    assert {record["answer"] for record in records} <= {"error", "correct"}
    assert all(len(record["logprobs"]) == 2 for record in records)
    score = kind.summarize(records)
    assert (score["items"], score["unclear"], score["majority"]) == (12, 0, 0.5)
    right = sum(record["answer"] == record["target"] for record in records)
    assert score["accuracy"] == right / 12
