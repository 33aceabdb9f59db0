"""Patterns of written answers, and what goes together with what."""

import random
from dataclasses import astuple
from typing import Any

import pytest

from medllm.evaluate.analysis.baseline import compare
from medllm.evaluate.analysis.outcomes import outcomes_of
from medllm.evaluate.analysis.patterns import find_patterns, rank_items
from medllm.evaluate.analysis.subgroups import score_subjects
from medllm.evaluate.analysis.written import find_correlations, is_written
from medllm.evaluate.clinical.replies import is_only_refusal
from medllm.measures.intervals import estimate_proportion
from medllm.measures.ratings import estimate_correlation

SCORE = {"model": "base", "task": "mine", "kind": "hallucination"}
LONG = " ".join(f"word{n}" for n in range(30))


def record(n: int, answer: str, reference: str = "ten " * 10, **more: Any) -> dict[str, Any]:
    known = {"id": f"q{n}", "finish_reason": "stop", "answer_empty": not answer.strip()}
    ratio = len(answer.split()) / max(len(reference.split()), 1)
    looks = {"repeated": 0.0, "refused": is_only_refusal(answer), "length_ratio": ratio}
    return {**known, **looks, **more}


def test_only_what_does_nothing_else_is_a_refusal() -> None:
    assert is_only_refusal("I'm sorry, but I cannot help with that.")
    told = "I cannot give you a diagnosis. " + "Take the tablets with food each day. " * 6
    assert not is_only_refusal(told) and not is_only_refusal("")


def test_patterns_have_a_rate_with_its_interval_and_a_setting_to_try() -> None:
    records = [record(n, LONG, f1=0.5) for n in range(6)]  # three times as long
    records += [record(6, "one two", f1=0.1), record(7, "I cannot help with that.", LONG, f1=0.0)]
    found = outcomes_of(records, SCORE)
    assert found and is_written(records) and not is_written([])

    rows = {row["pattern"]: row for row in find_patterns([found])}

    exact = estimate_proportion(6, 8)
    assert rows.keys() == {"verbosity", "brevity", "refusal"}
    assert rows["verbosity"]["rate"] == {"value": 0.75, "low": exact.low, "high": exact.high}
    assert "length_penalty" in rows["verbosity"]["try"]
    assert rows["brevity"]["rate"]["value"] == 0.25
    assert rows["refusal"]["rate"]["value"] == 0.125


def test_correlations_of_ranks_have_an_interval() -> None:
    drawn = random.Random(0)
    ratios = [drawn.random() for _ in range(40)]
    kept = {f"q{n}": ratio + drawn.gauss(0, 0.2) for n, ratio in enumerate(ratios)}
    records = [record(n, "a", ratio=ratio) for n, ratio in enumerate(ratios)]

    (found,) = find_correlations(SCORE, "retention", kept, records)

    assert (found["of"], found["with"], found["items"]) == ("ratio", "retention", 40)
    assert 0 < found["low"] < found["value"] < found["high"] < 1
    grouped = [{**each, "group": str(n // 4)} for n, each in enumerate(records)]
    (wide,) = find_correlations(SCORE, "retention", kept, grouped)
    assert wide["value"] == found["value"] and wide["low"] < found["low"], "10 patients"


def test_correlations_against_known_numbers() -> None:
    # rho of 10 pairs by hand: 1 - 6 * 2 / 990; Bonett and Wright's interval
    order = [2.0, 1.0, *range(3, 11)]
    found = estimate_correlation(list(range(1, 11)), order)

    assert found and found.value == pytest.approx(1 - 12 / 990)
    assert found.low == pytest.approx(0.934, abs=0.01) and found.high and found.high < 1
    few = estimate_correlation([1, 2, 3], [1, 2, 3])
    assert few and few.value == 1 and few.low is None
    assert estimate_correlation([1, 1, 1], [1, 2, 3]) is None
    same = estimate_correlation(list(range(20)), list(range(20)))
    assert same and astuple(same) == (1.0, None, None)  # no spread is no certainty


def answers(passed: str) -> Any:
    rows = [record(n, "x", passed=each == "+", prompt=f"p{n}") for n, each in enumerate(passed)]
    found = outcomes_of(rows, {**SCORE, "prompt_key": "k"})
    assert found
    return found


def test_written_answers_are_compared_item_by_item() -> None:
    before, after = answers("+-" * 10), answers("++" * 10)

    assert (after.measure.name, after.measure.is_share) == ("passed", True)
    found = compare(before, after)
    assert (found.gained, found.lost, found.p) == (10, 0, pytest.approx(2 / 2**10))
    assert outcomes_of([record(1, "x")], SCORE) is None, "no score of its own"


def choices(right: str) -> Any:
    rows = [
        {"id": str(n), "prompt": f"p{n}", "target": "A", "answer": "A" if each == "+" else "B",
         "subject": "heart" if n % 2 else "lung"}
        for n, each in enumerate(right)
    ]  # fmt: skip
    found = outcomes_of(rows, {"model": "base", "task": "mine", "prompt_key": "k"})
    assert found
    return found


def test_subjects_say_what_was_lost_there() -> None:
    before, after = choices("++++++++"), choices("+-+-+++-")
    row = {"model": "base", "task": "mine", "by_subject": {"heart": (0, 3), "lung": (0, 0)}}

    heart, lung = score_subjects([after], [row])

    assert (heart["subject"], heart["items"], heart["value"]) == ("heart", 4, 0.25)
    assert (heart["gained"], heart["lost"], lung["lost"]) == (0, 3, 0)
    assert heart["low"] < 0.25 < heart["high"]
    assert score_subjects([before], [])[0]["lost"] is None


def test_pairs_and_scores_are_ranked() -> None:
    rows = [{"id": f"q{n}", "target": "a", "answer": "a" if n else "b", "margin": n - 0.5}
            for n in range(4)]  # fmt: skip
    found = outcomes_of(rows, {"model": "base", "task": "mine", "kind": "pairs"})
    assert found

    (ranked,) = rank_items([found])

    assert ranked["worst"][0] == ["q0", -0.5] and ranked["best"][0] == ["q3", 2.5]
    assert "the right sentence leads" in ranked["unit"]
