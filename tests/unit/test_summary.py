"""Records of items → scores, and scores → one table."""

import math
from typing import Any

import pytest

from medllm.evaluate.kinds import KINDS
from medllm.evaluate.summary import footnotes, is_above_trivial, table_of

summarize_choices, summarize_answers = KINDS["choices"].summarize, KINDS["answers"].summarize

CHOICES = [
    {"id": "1", "target": "yes", "answer": "yes"},
    {"id": "2", "target": "yes", "answer": "no"},
    {"id": "3", "target": "no", "answer": "no"},
    {"id": "4", "target": "yes", "answer": "yes"},
]
ANSWERS = [
    {"id": f"{n}", "logprob": -20.0 - 20 * (n % 2), "tokens": 10 + 20 * (n % 2)} for n in range(6)
]


def test_choices_get_accuracy_interval_f1_and_majority() -> None:
    summary = summarize_choices(CHOICES)

    assert summary["items"] == 4
    assert summary["accuracy"] == 0.75
    assert (summary["accuracy_low"], summary["accuracy_high"]) == pytest.approx(
        (0.1941204, 0.9936905), abs=1e-6
    )
    assert summary["majority"] == 0.75
    assert summary["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)


def test_answers_get_loss_per_token_and_perplexity() -> None:
    summary = summarize_answers(ANSWERS)

    assert (summary["items"], summary["tokens"]) == (6, 120)
    assert summary["loss"] == 1.5
    assert summary["perplexity"] == pytest.approx(math.exp(1.5))
    assert summary["perplexity_low"] <= summary["perplexity"] <= summary["perplexity_high"]
    few = summarize_answers(ANSWERS[:5])
    assert (few["perplexity_low"], few["perplexity_high"]) == (None, None)


def scores(model: str, size: int | None) -> list[dict[str, Any]]:
    known = {"model": model, "identity": model, "bytes": size}
    return [
        {**known, "task": "pubmedqa", "kind": "choices", **summarize_choices(CHOICES)},
        {**known, "task": "answers", "kind": "answers", **summarize_answers(ANSWERS)},
    ]


def test_a_table_has_a_row_for_each_model_and_a_column_for_each_task() -> None:
    columns, rows = table_of([*scores("base", 13_600_000), *scores("merged", None)])

    assert columns == [
        "model", "MB", "pubmedqa accuracy\nn = 4", "macro-F1", "answers perplexity\nn = 6",
    ]  # fmt: skip
    assert [row[:2] for row in rows] == [
        ["base", "13.6"], ["merged", "?"], ["most frequent label", ""],
    ]  # fmt: skip
    assert rows[0][2:] == ["75.0% °\n19.4–99.4", "73.3%\nno interval", "4.48\n3.79–7.39"]
    assert rows[2][2:] == ["75.0%", "", ""]


def test_a_model_that_is_not_surely_above_the_most_frequent_label_is_marked() -> None:
    score = {"kind": "choices", "majority": 0.6, "accuracy_low": 0.6}

    assert not is_above_trivial(score)
    assert is_above_trivial(score | {"accuracy_low": 0.61})
    assert is_above_trivial({"kind": "answers", "perplexity_low": 2.0}), "there is no trivial one"
    assert not is_above_trivial(score | {"accuracy_low": None}), "of few patients"
    alerts = {"kind": "alert", "majority": 0.425, "passed_low": 0.27}
    assert not is_above_trivial(alerts)
    assert is_above_trivial(alerts | {"passed_low": 0.5})
    assert footnotes([score]).startswith("° not above")
    assert footnotes([{"kind": "answers"}]) == ""
    several = {"kind": "answers", "task": "mine", "items": 42, "groups": 8}
    assert (
        footnotes([several, several]) == "mine: intervals over 8 groups, as patients, of 42 items"
    )
