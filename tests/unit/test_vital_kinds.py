"""The tasks hallucination and alert: from answers to records, and from records to numbers."""

from collections.abc import Sequence
from typing import Any

import pytest

from medllm.data.example import Example, Message
from medllm.data.generators.vitals import build_example
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds import KINDS, Asking
from medllm.evaluate.kinds.generated import Answered

ASKED = (
    "Explain.\n\nHR 85 bpm, BP 120/80 mmHg, RR 16/min, Temp 37.0 °C, SpO2 97% on room air, alert."
)
ITEM = Example("v/1", "v", "1", (Message("user", ASKED),), "NEWS2 is 0.")
PLAIN = Asking(EvaluateConfig(), in_chat=True, what="test")


def judged(kind: str, answers: Sequence[str], item: Example = ITEM) -> list[dict[str, Any]]:
    """Records as a run would have them."""
    found = [Answered(item, text, len(text.split()), "stop") for text in answers]
    plain = {"finish_reason": "stop", "answer_tokens": 3, "answer_empty": False}
    return [
        {"id": f"v/{n}", **plain, **KINDS[kind].judge(each, PLAIN)}  # type: ignore[attr-defined]
        for n, each in enumerate(found)
    ]


def test_a_heart_rate_of_150_for_85_is_found_and_a_true_range_passes() -> None:
    answers = ["The heart rate is 150.", "The heart rate of 85 is in 60-100 bpm, which is normal.",
               "Temperature 98.6 °F, pulse 85.", "All is well.", "MAP 60 mmHg."]  # fmt: skip
    records = judged("hallucination", answers)

    assert [record["passed"] for record in records] == [False, True, True, False, False]
    assert [record["silent"] for record in records] == [False, False, False, True, False]
    (span,) = records[0]["spans"]
    assert span[2] == "altered"
    assert "150" in answers[0][span[0] : span[1]]
    score = KINDS["hallucination"].summarize(records)
    assert (score["passed"], score["altered"], score["invented"], score["silent"]) == (
        0.4, 0.2, 0.2, 0.2,
    )  # fmt: skip
    assert score["by_sign"]["heart rate"] == {
        "kept": 3, "altered": 1, "invented": 0, "reference": 0,
    }  # fmt: skip
    assert score["retention"] == pytest.approx(3 / 35)  # 7 signs, of which three are restated


@pytest.mark.parametrize("kind", ["hallucination", "alert"])
def test_a_level_of_consciousness_that_nobody_saw_fails_hallucination_and_alert(kind: str) -> None:
    good = "NEWS2 is 0. Pulse 85: 0 points. {} Continue routine monitoring."
    levels = ["He is alert.", "He is in a coma.", "GCS 8.", "If he becomes drowsy, call the team."]
    records = judged(kind, [good.format(level) for level in levels])

    assert [record["passed"] for record in records] == [True, False, False, True]
    assert [record["altered"] for record in records] == [False, True, True, False]
    unstated = Example("v/4", "v", "4", (Message("user", ASKED.replace(", alert", "")),), "x")
    (record,) = judged(kind, [good.format("He is unresponsive.")], unstated)
    assert (record["invented"], record["vitals_true"], record["passed"]) == (True, False, False)


@pytest.mark.parametrize("text", ["Pulse 85, BP 120/8", "Pulse 85. SpO2 9"])
def test_half_a_number_of_a_cut_answer_is_neither_altered_nor_invented(text: str) -> None:
    kind = KINDS["hallucination"]
    cut, whole = (
        kind.judge(Answered(ITEM, text, 9, reason), PLAIN)  # type: ignore[attr-defined]
        for reason in ("length", "stop")
    )
    assert (cut["passed"], cut["altered"]) == (True, False)
    assert (whole["passed"], whole["altered"]) == (False, True)


def test_what_an_answer_says_of_the_score_is_held_against_it() -> None:
    good = "NEWS2 is 0. Pulse 85: 0 points. Continue routine monitoring."
    records = judged("alert", [good, "NEWS2 is 3. Pulse 85: 1 point. Call the emergency team."])

    first, second = records
    assert first["passed"]
    assert (second["total"], second["points_wrong"], second["response"]) == (
        "wrong", ["pulse"], "over",
    )  # fmt: skip
    score = KINDS["alert"].summarize(records)
    assert (score["passed"], score["total_right"], score["points_right"]) == (0.5, 0.5, 0.5)
    assert (score["under_escalated"], score["vitals_true"]) == (0, 1)
    assert score["majority"] == 1, "no points fit both"


def test_silence_about_an_urgent_score_is_less_than_needed() -> None:
    item = Example("v/2", "v", "2", (Message("user", "HR 140, RR 30, SpO2 88% on air"),), "x")
    (record,) = judged("alert", ["NEWS2 is 9."], item)

    assert (record["response"], record["under_escalated"], record["passed"]) == (
        "not stated", True, False,
    )  # fmt: skip
    alike = [record, *judged("alert", ["NEWS2 is 0."] * 2)]
    assert KINDS["alert"].summarize(alike)["majority"] == 2 / 3


def test_references_of_the_generated_rows_pass_both() -> None:
    for number in range(40):
        row = build_example(0, number)
        for kind in ("alert", "hallucination"):
            assert KINDS[kind].lacking(row) is None
            (record,) = judged(kind, [row.completion], row)
            assert record["passed"], (kind, row)


def test_rows_that_cannot_be_scored_say_why() -> None:
    twice = Example("v/3", "v", "3", (Message("user", "HR 85, later HR 90"),), "x")
    assert KINDS["alert"].lacking(twice) == "no NEWS2: heart rate: no single value"
    assert KINDS["hallucination"].lacking(twice) is None
