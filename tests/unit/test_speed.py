"""How soon answers begin and how fast they are written."""

import pytest

from medllm.data.example import Example, Message
from medllm.engines.fake import FakeEngine
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds.base import Asking
from medllm.evaluate.kinds.studies.speed import WARMS, Speed
from medllm.measures.intervals import estimate_quantile
from medllm.tasks.spec import Generation, TaskSpec

SPEC = TaskSpec(dataset="ward", generation=Generation(max_tokens=12))


def item(number: int, text: str = "Fever?") -> Example:
    return Example(f"w/{number}", "w", str(number), (Message("user", text),), "x")


def test_answers_are_timed_after_a_warm_up() -> None:
    asking = Asking(EvaluateConfig(), in_chat=True, what="test", spec=SPEC)
    items = [*map(item, range(11)), item(11, "x" * 4000)]
    records = list(Speed().score(FakeEngine(seconds_per_piece=0.001), items, asking))
    asked = [record for record in records if "not_asked" not in record]

    assert [record.get("not_asked") for record in records[:3]] == [WARMS] * 3
    assert "not_asked" in records[11] and len(asked) == 8
    assert all(record["answer_tokens"] == 12 for record in asked)
    assert all(0.001 <= each["first_token_s"] <= each["answer_s"] for each in asked)
    assert asking.notes["speed"]["warm_up"] == 3 and asking.notes["speed"]["prompts"] == "ward"
    score = Speed().summarize(asked)
    assert score["tokens_per_s"] < 1000
    assert score["first_token_s_p50"] <= score["first_token_s_p95"] <= score["answer_s_p99"]
    assert score["first_token_s_p50_low"] is not None and score["first_token_s_p99_low"] is None
    assert score["prompt_tokens_per_s"] > 0


def test_a_quantile_has_an_interval_where_there_are_enough_values() -> None:
    median = estimate_quantile(list(range(1, 101)), 0.5)

    assert (median.value, median.low, median.high) == (50.5, 40, 61)
    assert estimate_quantile(list(range(40)), 0.95).low is None
    assert estimate_quantile(list(range(400)), 0.99).high == 399
    assert estimate_quantile([3.0], 0.5).value == pytest.approx(3.0)
